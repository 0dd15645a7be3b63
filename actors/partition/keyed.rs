//! Producers that stand for keys (`capek_wire::keyed`), when a topic has got more partitions: a key that was used before may be
//! known to another partition than the one that it chooses now.
//!
//! ```text
//!   FindKeyed { 6 partitions }        whoever chose among 3 partitions
//!     all that came before is in the log
//!     what is known is answered
//!     from here on ................... is refused: it looks for its key, too
//! ```

use actix::Handler;
use capek_wire::error_code::ErrorCode;
use capek_wire::peer::calls::KeyedBatch;

use super::Partition;
use crate::partition_messages::FindKeyed;
use crate::produce::PartitionAnswer;

impl Partition {
    /// Whether whoever chose this partition knew all that those know who have asked for keys.
    pub(super) fn check_count(&self, partition_count: Option<i32>) -> Result<(), PartitionAnswer> {
        match partition_count {
            Some(count) if count < self.partition_count_min => {
                Err(PartitionAnswer::error(ErrorCode::InvalidPartitions))
            }
            _ => Ok(()),
        }
    }

    /// Once nothing is gathered any more.
    pub(super) fn answer_finds(&mut self) {
        if !self.has_producers || !self.gathered.is_empty() {
            return;
        }
        for find in std::mem::take(&mut self.find_waits) {
            self.partition_count_min = self.partition_count_min.max(find.partition_count);
            let newest = |producer_id: &_| {
                let batch = self.leader.producer(*producer_id)?;
                Some(KeyedBatch { epoch: batch.epoch, sequence: batch.first_sequence })
            };
            // The caller may have given up waiting.
            let _ = find.reply.send(find.producer_ids.iter().map(newest).collect());
        }
    }
}

impl Handler<FindKeyed> for Partition {
    type Result = ();

    fn handle(&mut self, find: FindKeyed, _: &mut Self::Context) {
        self.find_waits.push(find);
    }
}
