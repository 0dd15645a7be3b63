//! The log of one replica on a disk that keeps, when the broker dies, what was synced, and of the rest some beginning.

use capek_state::partition::ProducerBatch;
use capek_wire::peer::replication::EpochEnd;

/// One batch; its value is unique unless a client without idempotence sent it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    pub base_offset: i64,
    pub record_count: i32,
    pub epoch: i32,
    pub value: u64,
    /// -1: not idempotent.
    pub producer: i64,
    pub sequence: i32,
}

impl Batch {
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.record_count)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub batches: Vec<Batch>,
    /// Below it everything survives.
    pub flushed: i64,
    /// The high watermark as it was last written down.
    pub high_watermark: i64,
    /// How many batches at the front are known to be the committed ones.
    pub checked: usize,
}

impl Disk {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, Batch::end_offset)
    }

    pub fn last_epoch(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.epoch)
    }

    /// The largest epoch that is not above this one, and where it ends.
    pub fn epoch_end(&self, epoch: i32) -> EpochEnd {
        let count = self.batches.partition_point(|batch| batch.epoch <= epoch);
        match count {
            0 => EpochEnd { epoch: -1, end_offset: 0 },
            count => {
                EpochEnd { epoch: self.batches[count - 1].epoch, end_offset: self.batches[count - 1].end_offset() }
            }
        }
    }

    pub fn from(&self, offset: i64, count_max: usize) -> Vec<Batch> {
        let first = self.batches.partition_point(|batch| batch.base_offset < offset);
        self.batches[first..].iter().take(count_max).copied().collect()
    }

    pub fn truncate(&mut self, end_offset: i64) {
        let count = self.batches.partition_point(|batch| batch.end_offset() <= end_offset);
        self.batches.truncate(count);
        assert_eq!(self.end(), end_offset, "a cut within a batch");
        self.flushed = self.flushed.min(end_offset);
        self.checked = self.checked.min(count);
    }

    pub fn producers(&self) -> Vec<ProducerBatch> {
        let idempotent = self.batches.iter().filter(|batch| batch.producer >= 0);
        idempotent
            .map(|batch| ProducerBatch {
                producer_id: batch.producer,
                epoch: 0,
                first_sequence: batch.sequence,
                last_sequence: batch.sequence + batch.record_count - 1,
                last_offset: batch.end_offset() - 1,
                offset_delta: batch.record_count - 1,
                timestamp_ms: 0,
            })
            .collect()
    }
}
