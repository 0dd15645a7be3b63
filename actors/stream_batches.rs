//! What one read of a stream brought, for a client that opens batches by itself: they are given out as they are stored. The
//! records of the first may begin before what is wanted; whoever opens it passes over them.

use std::collections::VecDeque;

use bytes::Bytes;
use capek_wire::batch::{self, BatchHeader};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset};

use crate::budget::BudgetPermit;
use crate::local::LocalClient;
use crate::partition_source::PartitionSource;
use crate::stream_records::Allowance;

/// See the head of this file. Its memory is paid for until it is dropped.
pub struct StoredBatches {
    bytes: Bytes,
    /// Where each begins in the bytes.
    batches: VecDeque<(usize, BatchHeader)>,
    /// The next record to give out.
    next: Offset,
    /// Where to read on when all is given out.
    end: Offset,
    /// Of the last batch that was given out, or passed over.
    leader_epoch: LeaderEpoch,
    _permit: Option<BudgetPermit>,
}

/// Batches that follow each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TakenBatches {
    pub bytes: Bytes,
    pub record_count: u64,
    /// The offsets in them, without those that compaction has removed in between.
    pub offsets: Vec<(Offset, Offset)>,
}

impl StoredBatches {
    /// Reads from `offset` on, below the high watermark; None when there is nothing.
    pub async fn read(
        client: &LocalClient,
        source: &PartitionSource,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<Self>, ErrorCode> {
        let Some(read) = client.read(source, offset, max_bytes).await? else { return Ok(None) };
        Self::new(read.bytes, offset, read.next_offset, Some(read.permit)).map(Some)
    }

    fn new(bytes: Bytes, offset: Offset, mut end: Offset, permit: Option<BudgetPermit>) -> Result<Self, ErrorCode> {
        let mut batches: VecDeque<(usize, BatchHeader)> = VecDeque::new();
        for batch in batch::batches(&bytes) {
            let Ok(batch) = batch else {
                // Where the next one begins nobody knows. It is told when its turn comes, not passed over.
                let (_, last) = batches.back().ok_or(ErrorCode::CorruptMessage)?;
                end = last.next_offset();
                break;
            };
            batches.push_back(batch);
        }
        Ok(Self { bytes, batches, next: offset, end, leader_epoch: -1, _permit: permit })
    }

    /// Where reading goes on: the first record that was not given out.
    pub fn next(&self) -> Offset {
        if self.batches.is_empty() { self.end } else { self.next }
    }

    /// Of the last record before [`StoredBatches::next`].
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Gives out whole batches up to the allowance, one at least if there is one. What holds no records for a client is passed over.
    pub fn take(&mut self, allowance: Allowance) -> TakenBatches {
        let mut taken = TakenBatches::default();
        let (mut begin, mut size_bytes) = (0, 0);
        while let Some((position, header)) = self.batches.front() {
            let is_for_client = !header.is_control() && header.record_count > 0 && header.next_offset() > self.next;
            let (count, bytes) = (u64::try_from(header.record_count).unwrap_or(0), header.size_bytes());
            if is_for_client && size_bytes > 0 {
                let is_within =
                    taken.record_count + count <= allowance.records && (size_bytes + bytes) as u64 <= allowance.bytes;
                if !is_within {
                    break;
                }
            }
            if !is_for_client && size_bytes > 0 {
                break; // it would lie between them
            }
            if is_for_client {
                begin = if size_bytes == 0 { *position } else { begin };
                size_bytes += bytes;
                taken.record_count += count;
                taken.offsets.push((header.base_offset.max(self.next), header.next_offset()));
            }
            self.leader_epoch = header.leader_epoch;
            self.next = self.next.max(header.next_offset());
            self.batches.pop_front();
        }
        taken.bytes = self.bytes.slice(begin..begin + size_bytes);
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use capek_wire::batch::{BatchBuilder, Codec};

    use super::*;

    const ALL: Allowance = Allowance { records: u64::MAX, bytes: u64::MAX };

    fn batch(base_offset: Offset, is_control: bool) -> BytesMut {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        for index in 0..3 {
            builder.push(1000 + index, Some(b"key"), Some(b"1234567"), &[]);
        }
        if is_control {
            builder.control();
        }
        let mut batch = builder.build().unwrap();
        batch::patch(&mut batch, base_offset, 5);
        batch
    }

    /// Records at 10 to 15, a marker at 16 to 18, records at 19 to 21.
    fn stored() -> Vec<BytesMut> {
        vec![batch(10, false), batch(13, false), batch(16, true), batch(19, false)]
    }

    fn read(offset: Offset) -> StoredBatches {
        StoredBatches::new(Bytes::from(stored().concat()), offset, 30, None).unwrap()
    }

    #[test]
    fn batches_come_as_they_are_stored_and_markers_do_not() {
        let stored = stored();
        let mut batches = read(11);
        let first = batches.take(ALL);
        assert_eq!(first.bytes, stored[..2].concat());
        assert_eq!((first.record_count, &first.offsets[..]), (6, &[(11, 13), (13, 16)][..]));
        assert_eq!((batches.next(), batches.leader_epoch(), batches.is_empty()), (16, 5, false));
        let second = batches.take(ALL);
        assert_eq!((&second.bytes[..], &second.offsets[..]), (&stored[3][..], &[(19, 22)][..]));
        assert_eq!((batches.next(), batches.is_empty()), (30, true), "there is nothing up to where reading goes on");
        assert_eq!(batches.take(ALL), TakenBatches::default());
    }

    #[test]
    fn what_lies_behind_a_damaged_header_is_not_passed_over() {
        const MAGIC_AT: usize = 16;
        let mut stored = stored();
        stored[1][MAGIC_AT] = 99;
        let mut batches = StoredBatches::new(Bytes::from(stored.concat()), 10, 30, None).unwrap();
        assert_eq!(batches.take(ALL).bytes, stored[0]);
        assert_eq!((batches.next(), batches.is_empty()), (13, true));
        let rest = Bytes::from(stored[1..].concat());
        assert_eq!(StoredBatches::new(rest, 13, 30, None).err(), Some(ErrorCode::CorruptMessage));
    }

    #[test]
    fn a_whole_batch_passes_and_no_second_one_beyond_the_allowance() {
        let size_bytes = stored()[0].len() as u64;
        for allowance in [
            Allowance { records: 1, bytes: u64::MAX },
            Allowance { records: 5, bytes: u64::MAX },
            Allowance { records: u64::MAX, bytes: 1 },
            Allowance { records: u64::MAX, bytes: 2 * size_bytes - 1 },
        ] {
            let mut batches = read(10);
            assert_eq!(batches.take(allowance).offsets, [(10, 13)], "{allowance:?}");
            assert_eq!(batches.next(), 13);
        }
        let exactly = Allowance { records: 6, bytes: 2 * size_bytes };
        assert_eq!(read(10).take(exactly).record_count, 6);
    }
}
