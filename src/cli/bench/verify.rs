//! Checks what a broker gives back: checksums, offsets without a gap, and in the records themselves that each producer's
//! sequence goes on by one.

use std::collections::BTreeMap;

use capek_wire::batch::{self, BatchError};

use super::Stamp;
use crate::client::Fetched;

/// What was read, and what was wrong with it.
#[derive(Debug, Default)]
pub struct Verifier {
    /// Decode records; without it only batches are looked at.
    pub deep: bool,
    pub records: u64,
    pub bytes: u64,
    pub problems: Vec<String>,
    pub problem_count: u64,
    /// The offset that must come next, by partition.
    next_offsets: BTreeMap<i32, i64>,
    /// The sequence that must come next, by run, producer and partition.
    next_sequences: BTreeMap<(u32, u16, i32), u64>,
}

const PROBLEMS_SHOWN_MAX: usize = 20;
const INFLATED_BYTES_MAX: usize = 1 << 30;

impl Verifier {
    pub fn new(deep: bool) -> Verifier {
        Verifier { deep, ..Verifier::default() }
    }

    /// Looks at an answer; `each` sees every stamp if records are decoded.
    pub fn take(&mut self, fetched: &Fetched, mut each: impl FnMut(Stamp)) {
        for found in batch::batches(&fetched.records) {
            let checked = found.and_then(|(position, header)| {
                let bytes = fetched.records.slice(position..position + header.size_bytes());
                batch::check(&bytes).map(|_| (header, bytes))
            });
            let (header, bytes) = match checked {
                Ok(checked) => checked,
                Err(error) => return self.problem(format!("partition {}: {error}", fetched.partition)),
            };
            let next = self.next_offsets.entry(fetched.partition).or_insert(header.base_offset);
            let expected = std::mem::replace(next, header.next_offset());
            if expected != header.base_offset {
                let (partition, found) = (fetched.partition, header.base_offset);
                self.problem(format!("partition {partition}: offset {found} where {expected} was expected"));
            }
            self.bytes += bytes.len() as u64;
            if header.is_control() {
                continue;
            }
            self.records += header.record_count as u64;
            if self.deep
                && let Err(error) = self.take_records(fetched.partition, bytes, &mut each)
            {
                self.problem(format!("partition {} at {}: {error}", fetched.partition, header.base_offset));
            }
        }
    }

    fn take_records(
        &mut self,
        partition: i32,
        batch: bytes::Bytes,
        each: &mut impl FnMut(Stamp),
    ) -> Result<(), BatchError> {
        for record in batch::records(batch, INFLATED_BYTES_MAX)? {
            let record = record?;
            let Some(stamp) = record.value.as_deref().and_then(Stamp::read) else { continue };
            let next = self.next_sequences.entry((stamp.run, stamp.producer, partition)).or_insert(0);
            let expected = std::mem::replace(next, stamp.sequence + 1);
            if stamp.sequence != expected {
                let what = if stamp.sequence < expected { "again or late" } else { "too early: records are missing" };
                let (producer, sequence, offset) = (stamp.producer, stamp.sequence, record.offset);
                self.problem(format!(
                    "partition {partition} offset {offset}: record {sequence} of producer {producer} is {what} \
                     ({expected} was expected)"
                ));
            }
            each(stamp);
        }
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_SHOWN_MAX {
            self.problems.push(problem);
        }
    }

    /// How many stamped records of a run were read.
    pub fn of_run(&self, run: u32) -> u64 {
        self.next_sequences.iter().filter(|((other, ..), _)| *other == run).map(|(_, next)| next).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use capek_wire::batch::{BatchBuilder, Codec, patch};
    use std::sync::Arc;

    fn answer(batches: &[(i64, &[u64])]) -> Fetched {
        let mut records = BytesMut::new();
        for (base_offset, sequences) in batches {
            let mut builder = BatchBuilder::new(Codec::None);
            for sequence in *sequences {
                let mut value = [0; 24];
                Stamp { run: 1, producer: 2, sequence: *sequence, time_ns: 0 }.write(&mut value);
                builder.push(0, None, Some(&value), &[]);
            }
            let mut batch = builder.build().unwrap();
            patch(&mut batch, *base_offset, 0);
            records.extend_from_slice(&batch);
        }
        let records: Bytes = records.freeze();
        Fetched { topic: Arc::from("t"), partition: 0, fetch_offset: 0, records, next_offset: 0, high_watermark: 0 }
    }

    fn problems(batches: &[(i64, &[u64])]) -> Vec<String> {
        let mut verifier = Verifier::new(true);
        verifier.take(&answer(batches), |_| {});
        verifier.problems
    }

    #[test]
    fn what_is_whole_is_good() {
        assert!(problems(&[(5, &[0, 1]), (7, &[2])]).is_empty());
    }

    #[test]
    fn what_is_lost_doubled_or_damaged_is_told() {
        assert!(problems(&[(0, &[0, 1]), (3, &[2])])[0].contains("offset 3 where 2 was expected"));
        assert!(problems(&[(0, &[0, 2])])[0].contains("records are missing"));
        assert!(problems(&[(0, &[0, 0])])[0].contains("again or late"));
        let mut damaged = answer(&[(0, &[0])]);
        let mut bytes = BytesMut::from(&damaged.records[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        damaged.records = bytes.freeze();
        let mut verifier = Verifier::new(false);
        verifier.take(&damaged, |_| {});
        assert!(verifier.problems[0].contains("checksum"), "{:?}", verifier.problems);
    }
}
