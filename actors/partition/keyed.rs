//! Producers that stand for keys (`capek_wire::keyed`), when a topic has got more partitions: a key that was used before may be
//! known to another partition than the one that it chooses now.
//!
//! ```text
//!   FindKeyed { 6 partitions }        whoever chose among 3 partitions
//!     all that came before is admitted
//!     what is known of it is committed: it will not be forgotten by the next leader
//!     it is answered
//!     from here on ................... is refused: it looks for its key, too
//! ```

use actix::Handler;
use capek_state::partition::ProducerBatch;
use capek_wire::error_code::ErrorCode;
use capek_wire::peer::calls::KeyedBatch;

use super::Partition;
use crate::partition_messages::FindKeyed;
use crate::produce::PartitionAnswer;

/// So many wait at a time; who comes then asks again.
const FINDS_MAX: usize = 1_024;

impl Partition {
    /// Whether whoever chose this partition knew all that those know who have asked for keys.
    pub(super) fn check_count(&self, partition_count: Option<i32>) -> Result<(), PartitionAnswer> {
        match partition_count {
            Some(count) if count < self.shared.partition_count_min() => {
                Err(PartitionAnswer::error(ErrorCode::InvalidPartitions))
            }
            _ => Ok(()),
        }
    }

    /// Once nothing is gathered any more. Those that find what is not committed yet wait for it.
    pub(super) fn answer_finds(&mut self) {
        if !self.has_producers || !self.gathered.is_empty() || self.find_waits.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.find_waits).into_iter().filter(|find| !find.reply.is_closed());
        for find in waiting.collect::<Vec<_>>() {
            let found: Vec<_> = find.producer_ids.iter().map(|id| self.leader.producer(*id)).collect();
            let committed_end = self.leader.high_watermark();
            if found.iter().flatten().any(|batch| batch.last_offset >= committed_end) {
                self.find_waits.push(find);
                continue;
            }
            self.shared.raise_partition_count_min(find.partition_count);
            let keyed = |batch: ProducerBatch| KeyedBatch { epoch: batch.epoch, sequence: batch.first_sequence };
            // The caller may have given up this very moment.
            let _ = find.reply.send(found.into_iter().map(|batch| batch.map(keyed)).collect());
        }
    }
}

impl Handler<FindKeyed> for Partition {
    type Result = ();

    fn handle(&mut self, find: FindKeyed, _: &mut Self::Context) {
        if self.find_waits.len() < FINDS_MAX {
            self.find_waits.push(find);
        }
    }
}
