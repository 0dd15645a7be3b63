//! What one read of a stream brought: whole batches, opened, given out record by record as credit allows.

use std::collections::VecDeque;

use bytes::Bytes;
use capek_wire::batch::{self, BatchError, BatchHeader, Codec, Record, Records};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset};

use crate::budget::BudgetPermit;
use crate::local::LocalClient;
use crate::partition_source::PartitionSource;

/// What the first batch of a read may inflate to. One that takes more is told as an error and passed over.
const FIRST_INFLATED_BYTES_MAX: usize = 16 << 20;

/// What each further one may inflate to; one that takes more waits to be the first of another read.
const FURTHER_INFLATED_BYTES_MAX: usize = 2 << 20;
const FURTHER_INFLATED_COUNT_MAX: usize = 8;

/// How much may be given out now.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub records: u64,
    pub bytes: u64,
}

/// Records that were given out.
#[derive(Debug, Default)]
pub struct Taken {
    pub records: Vec<Record>,
    /// Keys, values and headers together.
    pub size_bytes: u64,
    /// A batch that could not be opened was passed over.
    pub damaged: Option<BatchError>,
}

/// See the head of this file. Its memory is paid for until it is dropped.
pub struct OpenedBatches {
    batches: VecDeque<OpenedBatch>,
    /// The next record to give out.
    next: Offset,
    /// Where to read on when all is given out.
    end: Offset,
    /// Of the last batch that something was given out of, or passed over.
    leader_epoch: LeaderEpoch,
    _permit: Option<BudgetPermit>,
}

struct OpenedBatch {
    header: BatchHeader,
    records: Result<Records, BatchError>,
}

impl OpenedBatches {
    /// Reads from `offset` on, below the high watermark; None when there is nothing.
    pub async fn read(
        client: &LocalClient,
        source: &PartitionSource,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<Self>, ErrorCode> {
        let Some(read) = client.read(source, offset, max_bytes).await? else { return Ok(None) };
        let (bytes, permit) = (read.bytes, Some(read.permit));
        if !is_compressed(&bytes) {
            return Self::open(bytes, offset, read.next_offset, permit).map(Some);
        }
        // Inflating megabytes would hold up everybody on this arbiter.
        let opened = tokio::task::spawn_blocking(move || Self::open(bytes, offset, read.next_offset, permit)).await;
        opened.unwrap_or(Err(ErrorCode::UnknownServerError)).map(Some)
    }

    fn open(bytes: Bytes, offset: Offset, end: Offset, permit: Option<BudgetPermit>) -> Result<Self, ErrorCode> {
        let mut opened = Self { batches: VecDeque::new(), next: offset, end, leader_epoch: -1, _permit: permit };
        let mut inflated_count = 0;
        for batch in batch::batches(&bytes) {
            let Ok((position, header)) = batch else {
                // Where the next one begins nobody knows. It is told when its turn comes, not passed over.
                let last = opened.batches.back().ok_or(ErrorCode::CorruptMessage)?;
                opened.end = last.header.next_offset();
                break;
            };
            let slice = bytes.slice(position..position + header.size_bytes());
            let is_first = opened.batches.is_empty();
            let limit = if is_first { FIRST_INFLATED_BYTES_MAX } else { FURTHER_INFLATED_BYTES_MAX };
            inflated_count += usize::from(header.codec() != Ok(Codec::None));
            let records = match header.codec() {
                Ok(Codec::None) => batch::records(slice, usize::MAX),
                _ => batch::records(slice, limit),
            };
            let is_too_large = matches!(records, Err(BatchError::Inflated(_)));
            if !is_first && (is_too_large || inflated_count > FURTHER_INFLATED_COUNT_MAX) {
                opened.end = header.base_offset;
                break;
            }
            opened.batches.push_back(OpenedBatch { header, records });
        }
        Ok(opened)
    }

    /// Where reading goes on: the first record that was not given out.
    pub fn next(&self) -> Offset {
        if self.batches.is_empty() { self.end } else { self.next }
    }

    /// Of the last record before [`OpenedBatches::next`].
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Gives out records up to the allowance, one at least if there is one: a record larger than all credit must pass too.
    pub fn take(&mut self, allowance: Allowance) -> Taken {
        let mut taken = Taken::default();
        while taken.damaged.is_none() && self.is_within(&taken, allowance) {
            let Some(front) = self.batches.front_mut() else { break };
            let batch_end = front.header.last_offset() + 1;
            self.leader_epoch = front.header.leader_epoch;
            if front.header.is_control() {
                self.next = self.next.max(batch_end);
                self.batches.pop_front();
                continue;
            }
            let record = match &mut front.records {
                Ok(records) => records.next().transpose(),
                Err(error) => Err(error.clone()),
            };
            match record {
                Ok(Some(record)) if record.offset < self.next => {}
                Ok(Some(record)) => {
                    self.next = record.offset + 1;
                    taken.size_bytes += size_bytes(&record);
                    taken.records.push(record);
                }
                Ok(None) => {
                    self.next = self.next.max(batch_end);
                    self.batches.pop_front();
                }
                Err(error) => {
                    taken.damaged = Some(error);
                    self.next = self.next.max(batch_end);
                    self.batches.pop_front();
                }
            }
        }
        taken
    }

    fn is_within(&self, taken: &Taken, allowance: Allowance) -> bool {
        let count = taken.records.len() as u64;
        count == 0 || (count < allowance.records && taken.size_bytes < allowance.bytes)
    }
}

fn is_compressed(bytes: &[u8]) -> bool {
    batch::batches(bytes).map_while(Result::ok).any(|(_, header)| header.codec() != Ok(Codec::None))
}

/// What a record costs in credit.
pub fn size_bytes(record: &Record) -> u64 {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + length(&header.value)).sum();
    (length(&record.key) + length(&record.value) + headers) as u64
}

#[cfg(test)]
mod tests {
    use capek_wire::batch::BatchBuilder;

    use super::*;

    const ALL: Allowance = Allowance { records: u64::MAX, bytes: u64::MAX };

    /// Two batches of three records of ten bytes, from offset 10 on.
    fn opened(codec: Codec, offset: Offset) -> OpenedBatches {
        OpenedBatches::open(stored(codec).freeze(), offset, 16, None).unwrap()
    }

    fn stored(codec: Codec) -> bytes::BytesMut {
        let mut bytes = bytes::BytesMut::new();
        for base_offset in [10, 13] {
            let mut builder = BatchBuilder::new(codec);
            for index in 0..3 {
                builder.push(1000 + index, Some(b"key"), Some(b"1234567"), &[]);
            }
            let mut batch = builder.build().unwrap();
            batch::patch(&mut batch, base_offset, 0);
            bytes.extend_from_slice(&batch);
        }
        bytes
    }

    fn offsets(taken: &Taken) -> Vec<Offset> {
        taken.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_below_the_offset_are_not_given_out() {
        for codec in [Codec::None, Codec::Zstd] {
            let mut opened = opened(codec, 11);
            let taken = opened.take(ALL);
            assert_eq!(offsets(&taken), [11, 12, 13, 14, 15]);
            assert_eq!((taken.size_bytes, opened.next(), opened.is_empty()), (50, 16, true));
        }
    }

    #[test]
    fn an_allowance_is_kept_and_the_rest_stays() {
        let mut opened = opened(Codec::None, 10);
        assert_eq!(offsets(&opened.take(Allowance { records: 2, bytes: u64::MAX })), [10, 11]);
        assert_eq!(opened.next(), 12);
        assert_eq!(offsets(&opened.take(Allowance { records: u64::MAX, bytes: 11 })), [12, 13]);
        assert_eq!(offsets(&opened.take(Allowance { records: 1, bytes: 1 })), [14]);
        assert_eq!(offsets(&opened.take(ALL)), [15]);
        assert_eq!(opened.next(), 16);
    }

    #[test]
    fn what_lies_behind_a_damaged_header_is_not_passed_over() {
        const MAGIC_AT: usize = 16;
        let mut bytes = stored(Codec::None);
        let second = bytes.len() / 2;
        bytes[second + MAGIC_AT] = 99;
        let mut opened = OpenedBatches::open(bytes.clone().freeze(), 10, 16, None).unwrap();
        assert_eq!(offsets(&opened.take(ALL)), [10, 11, 12]);
        assert_eq!((opened.next(), opened.is_empty()), (13, true));
        let rest = bytes.split_off(second).freeze();
        assert_eq!(OpenedBatches::open(rest, 13, 16, None).err(), Some(ErrorCode::CorruptMessage));
    }

    #[test]
    fn a_damaged_batch_is_told_and_passed_over() {
        let mut opened = opened(Codec::None, 10);
        opened.batches[0].records = Err(BatchError::Inflated(1));
        let first = opened.take(ALL);
        assert_eq!((offsets(&first), first.damaged), (vec![], Some(BatchError::Inflated(1))));
        assert_eq!(opened.next(), 13);
        assert_eq!(offsets(&opened.take(ALL)), [13, 14, 15]);
    }
}
