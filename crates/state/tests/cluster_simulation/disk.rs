//! The log of one replica on a disk that keeps, when the broker dies, what was synced, and of the rest some beginning.

use capek_state::partition::{FetchedRecords, FollowerStart, LeaderStart, ProducerBatch, ReplicaSet};
use capek_wire::batch::BatchHeader;
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

    /// As its producer sends it.
    pub fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 49 + 10 * self.record_count,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: self.record_count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: self.producer,
            producer_epoch: if self.producer >= 0 { 0 } else { -1 },
            base_sequence: self.sequence,
            record_count: self.record_count,
        }
    }
}

/// What an answer with these batches says of them.
pub fn fetched_records(batches: &[Batch]) -> Option<FetchedRecords> {
    let (first, last) = batches.first().zip(batches.last())?;
    Some(FetchedRecords { base_offset: first.base_offset, end_offset: last.end_offset(), last_epoch: last.epoch })
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// Where the log of a follower that ends so leaves this one, if it does.
    pub fn diverging(&self, fetch_offset: i64, last_epoch: i32) -> Option<EpochEnd> {
        let end = self.epoch_end(last_epoch);
        (end.epoch != last_epoch || end.end_offset < fetch_offset).then_some(end)
    }

    pub fn from(&self, offset: i64, count_max: usize) -> Vec<Batch> {
        let first = self.batches.partition_point(|batch| batch.base_offset < offset);
        self.batches[first..].iter().take(count_max).copied().collect()
    }

    /// A cut within a batch takes the whole batch, as the real log does: a leader of a later epoch may have ended within it.
    pub fn truncate(&mut self, end_offset: i64) {
        let count = self.batches.partition_point(|batch| batch.end_offset() <= end_offset);
        self.batches.truncate(count);
        self.flushed = self.flushed.min(self.end());
        self.checked = self.checked.min(count);
    }

    /// A leader that begins its epoch with this log, at time 0.
    pub fn leader_start(
        &self,
        replicas: ReplicaSet,
        epoch: i32,
        in_sync_min: usize,
    ) -> LeaderStart<Vec<ProducerBatch>> {
        LeaderStart {
            epoch,
            replicas,
            proposed: Vec::new(),
            in_sync_min,
            now_ms: 0,
            log_start: 0,
            epoch_start: self.end(),
            log_end: self.end(),
            flushed_end: self.flushed,
            high_watermark: self.high_watermark,
            producers: self.producers(),
        }
    }

    pub fn follower_start(&self, epoch: i32) -> FollowerStart {
        FollowerStart {
            epoch,
            log_start: 0,
            log_end: self.end(),
            flushed_end: self.flushed,
            last_epoch: self.last_epoch(),
            high_watermark: self.high_watermark.min(self.end()),
        }
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
