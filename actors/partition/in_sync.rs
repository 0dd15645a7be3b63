//! What a leader makes of its followers: who is in sync, what that commits, and what becomes of its proposals.

use std::time::Duration;

use actix::{AsyncContext, Handler};
use capek_state::partition::FollowerReport;
use capek_wire::ids::BrokerId;

use super::{FollowersMoved, InSyncRefused, Partition, ReplicasChanged, ReviewInSync};
use crate::clock::now_ms;
use crate::in_sync_proposer::ProposeInSync;
use crate::shared::{PartitionShared, ProposedInSync};

/// A refused in-sync set is proposed again, if it is still wanted: a little later than the leader's own patience ends.
const REVIEW_AFTER_REFUSAL: Duration = Duration::from_millis(550);

pub(super) fn in_sync_min(shared: &PartitionShared, replica_count: i32) -> usize {
    usize::try_from(shared.config().min_insync_replicas_for(replica_count)).unwrap_or(0)
}

impl Partition {
    pub(super) fn propose(&self, members: Vec<(BrokerId, i64)>, partition_epoch: i32) {
        let Some(proposer) = &self.proposer else { return };
        let leader_epoch = self.leader.epoch();
        let proposed = ProposedInSync { leader_epoch, partition_epoch, members: members.clone() };
        self.shared.set_proposed(Some(proposed));
        proposer.propose(ProposeInSync {
            partition: self.shared.clone(),
            incarnation: self.incarnation,
            leader_epoch,
            partition_epoch,
            members,
        });
    }

    /// What the followers have said since, and what follows from it.
    pub(super) fn take_reports(&mut self) {
        for (from, report) in self.shared.followers.read(self.leader.epoch()) {
            let FollowerReport { broker_epoch, fetch_offset, flushed_end, fetch_ms, .. } = report;
            let may_join = self.proposer.as_ref().is_none_or(|proposer| proposer.may_be_in_sync(from, broker_epoch));
            if !may_join && self.leader.follower_left(from) {
                // The board keeps its word; when the image knows it, ReplicaManager has all leaders look again.
                continue;
            }
            self.leader.follower_fetched(from, broker_epoch, fetch_offset, fetch_ms, &mut self.effects);
            self.leader.follower_flushed(from, broker_epoch, flushed_end, &mut self.effects);
        }
        self.leader.review_in_sync(self.lag_max_ms, now_ms(), &mut self.effects);
        self.carry_out();
    }
}

impl Handler<FollowersMoved> for Partition {
    type Result = ();

    fn handle(&mut self, _: FollowersMoved, _: &mut Self::Context) {
        self.take_reports();
    }
}

impl Handler<ReviewInSync> for Partition {
    type Result = ();

    fn handle(&mut self, review: ReviewInSync, _: &mut Self::Context) {
        self.lag_max_ms = review.lag_max_ms;
        self.take_reports();
    }
}

impl Handler<ReplicasChanged> for Partition {
    type Result = ();

    fn handle(&mut self, changed: ReplicasChanged, _: &mut Self::Context) {
        self.replica_count = changed.0.replicas.len() as i32;
        self.shared.log.announce_writes(self.replica_count > 1);
        // While it was alone nobody was told how far followers can read: all that it has committed is on its disk.
        self.shared.set_written_end(self.leader.high_watermark());
        // First how many are needed: what follows from the new in-sync set must not be judged by the old number.
        self.leader.set_in_sync_min(in_sync_min(&self.shared, self.replica_count), &mut self.effects);
        self.leader.in_sync_changed(&changed.0, now_ms(), &mut self.effects);
        self.take_reports();
    }
}

impl Handler<InSyncRefused> for Partition {
    type Result = ();

    fn handle(&mut self, refused: InSyncRefused, context: &mut Self::Context) {
        if refused.partition_epoch == self.leader.partition_epoch() {
            self.shared.set_proposed(None);
        }
        self.leader.in_sync_refused(refused.partition_epoch, now_ms(), &mut self.effects);
        self.carry_out();
        // Whoever was refused as fenced may be let in soon, and nothing else would tell of it.
        context.run_later(REVIEW_AFTER_REFUSAL, |partition, _| partition.take_reports());
    }
}
