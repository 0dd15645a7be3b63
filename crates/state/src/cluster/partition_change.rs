//! How the record of one partition changes: who is in sync, who leads. Every command that touches replicas ends here, so
//! that the rules of elections stand in one place (the logic of Kafka's controller, and KIP-966).
//!
//! ```text
//!   in sync     holds everything that is committed; fenced brokers are not in it
//!   eligible    left the in-sync set when it was smaller than min.insync.replicas: nothing was committed since without
//!               them, so they may lead as well; empty while the in-sync set is large enough
//!   last known  was in sync or eligible, and has lost data since: the best that an unclean election can get
//! ```

use capek_wire::ids::{BrokerId, PartitionIndex, TopicId, Uuid};

use super::election_rules::ElectionRules;
use super::image::{Image, Partition};
use super::record::{PartitionStateRecord, Record};
use crate::config::ElectionConfig;

/// What stands for the leader where there is none.
pub(super) const NO_LEADER: BrokerId = -1;

/// What to look for when a leader is chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Election {
    /// The leader stays if it can; else whoever can without loss.
    Online,
    /// The first replica, if it is in sync.
    Preferred,
    /// Where nobody can without loss, anybody.
    Unclean,
}

/// Who shall lead.
enum Choice {
    InSync(BrokerId),
    /// It holds what is committed; the others have to catch up with it.
    Alone(BrokerId),
    /// What only others had is given up.
    Unclean(BrokerId),
    Nobody,
}

/// A partition about to be changed.
pub(super) struct PartitionChange<'a> {
    image: &'a Image,
    topic_id: TopicId,
    index: PartitionIndex,
    before: &'a Partition,
    after: Partition,
    config: ElectionConfig,
    election: Election,
    /// Not to be elected, whatever the image says of it: it is about to go.
    leaving: Option<BrokerId>,
    /// May have lost what was committed.
    stripped: Option<BrokerId>,
    is_unclean: bool,
    /// There is a record though nothing else changes.
    is_renewed: bool,
}

impl<'a> PartitionChange<'a> {
    pub fn new(rules: &ElectionRules<'a>, topic_id: TopicId, index: PartitionIndex, before: &'a Partition) -> Self {
        let config = rules.config;
        PartitionChange {
            image: rules.image,
            topic_id,
            index,
            before,
            after: before.clone(),
            election: if config.unclean_leader_election { Election::Unclean } else { Election::Online },
            config,
            leaving: None,
            stripped: None,
            is_unclean: false,
            is_renewed: false,
        }
    }

    pub fn before(&self) -> &'a Partition {
        self.before
    }

    pub fn key(&self) -> (TopicId, PartitionIndex) {
        (self.topic_id, self.index)
    }

    pub fn config(&self) -> &ElectionConfig {
        &self.config
    }

    /// This broker is no longer in sync, and does not lead.
    pub fn without(mut self, broker: BrokerId) -> Self {
        self.leaving = Some(broker);
        self.after.isr.retain(|member| *member != broker);
        self
    }

    /// This broker may have lost what was committed: it is neither in sync nor eligible.
    pub fn stripped(mut self, broker: BrokerId) -> Self {
        self.stripped = Some(broker);
        self.after.isr.retain(|member| *member != broker);
        self
    }

    /// This broker cannot use its log.
    pub fn offline(mut self, broker: BrokerId) -> Self {
        if self.after.replicas.contains(&broker) && !self.after.offline.contains(&broker) {
            self.after.offline.push(broker);
        }
        self.without(broker)
    }

    /// The opposite of `offline`; it has to catch up before it is in sync again.
    pub fn online(mut self, broker: BrokerId) -> Self {
        self.after.offline.retain(|member| *member != broker);
        self
    }

    pub fn with_in_sync(mut self, in_sync: Vec<BrokerId>) -> Self {
        self.after.isr = in_sync;
        self
    }

    /// The next partition epoch begins, whatever else changes.
    pub fn renewed(mut self) -> Self {
        self.is_renewed = true;
        self
    }

    /// The first replica shall lead, if it can.
    pub fn preferably(mut self) -> Self {
        self.election = Election::Preferred;
        self
    }

    /// Whoever lives may lead, where nobody else can.
    pub fn uncleanly(mut self) -> Self {
        self.election = Election::Unclean;
        self
    }

    /// These shall be the replicas. Until all that are new are in sync, the old ones are replicas too.
    pub fn reassigned(mut self, target: &[BrokerId]) -> Self {
        let Partition { replicas, adding, .. } = &self.after;
        let had = |broker: &BrokerId| replicas.contains(broker) && !adding.contains(broker);
        let new_ones: Vec<BrokerId> = target.iter().filter(|broker| !had(broker)).copied().collect();
        let old_ones: Vec<BrokerId> = replicas.iter().filter(|broker| !target.contains(broker)).copied().collect();
        let merged = target.iter().chain(&old_ones).copied().collect();
        self.set_replicas(merged);
        self.after.adding = new_ones;
        self.after.removing = old_ones;
        self
    }

    /// Back to the replicas from before the reassignment. None: nobody of them holds what is committed (or, where an
    /// unclean election may give it up, nobody lives).
    pub fn reassignment_cancelled(mut self) -> Option<Self> {
        let adding = std::mem::take(&mut self.after.adding);
        let stays = |broker: &BrokerId| !adding.contains(broker);
        let replicas = self.after.replicas.iter().copied().filter(stays).collect();
        self.after.isr.retain(stays);
        self.after.removing.clear();
        self.set_replicas(replicas);
        let may_lose = self.after.isr.is_empty() && !self.before.elr.iter().any(stays);
        let can_go_on = || self.after.replicas.iter().any(|broker| self.can_lead(*broker));
        let is_allowed = !may_lose || (self.config.unclean_leader_election && can_go_on());
        is_allowed.then_some(self)
    }

    fn set_replicas(&mut self, replicas: Vec<BrokerId>) {
        let Partition { replicas: before, dirs, .. } = &self.after;
        let dir_of = |broker: &BrokerId| {
            let place = before.iter().position(|replica| replica == broker);
            place.and_then(|place| dirs.get(place)).copied().unwrap_or(Uuid::ZERO)
        };
        self.after.dirs = replicas.iter().map(dir_of).collect();
        self.after.offline.retain(|broker| replicas.contains(broker));
        self.after.replicas = replicas;
    }

    /// Whether somebody in sync can lead.
    pub fn has_fit_in_sync(&self) -> bool {
        self.first_fit(&self.after.isr).is_some()
    }

    /// The record; None when nothing has changed.
    pub fn record(self) -> Option<Record> {
        self.state().map(Record::PartitionState)
    }

    /// The same, to be looked at.
    pub fn state(mut self) -> Option<PartitionStateRecord> {
        self.complete_reassignment();
        self.elect();
        self.settle_eligible();
        self.put_in_sync_in_order();
        if self.after == *self.before && !self.is_renewed {
            return None;
        }
        let has_lost_replica = self.before.replicas.iter().any(|broker| !self.after.replicas.contains(broker));
        if self.after.leader != self.before.leader || has_lost_replica {
            self.after.leader_epoch += 1;
        }
        self.after.partition_epoch += 1;
        Some(state_record(self.topic_id, self.index, self.after))
    }

    /// Done when all new replicas are in sync and enough members stay: a move never takes a partition below
    /// min.insync.replicas.
    fn complete_reassignment(&mut self) {
        if !self.after.is_reassigning() {
            return;
        }
        let Partition { replicas, isr, adding, removing, .. } = &self.after;
        let stays = |broker: &BrokerId| !removing.contains(broker);
        let target: Vec<BrokerId> = replicas.iter().copied().filter(stays).collect();
        let in_sync: Vec<BrokerId> = isr.iter().copied().filter(stays).collect();
        let enough = self.config.in_sync_min(target.len()).min(isr.len());
        let is_complete = adding.iter().all(|broker| in_sync.contains(broker))
            && in_sync.len() >= enough
            && in_sync.iter().any(|broker| self.can_lead(*broker));
        if is_complete {
            self.after.isr = in_sync;
            self.after.adding.clear();
            self.after.removing.clear();
            self.set_replicas(target);
        }
    }

    /// Whether this broker is fit to lead, as far as its own state goes.
    fn can_lead(&self, broker: BrokerId) -> bool {
        self.is_there(broker) && self.image.broker(broker).is_some_and(|broker| broker.is_active())
    }

    /// The same, of one that may be about to shut down.
    fn is_there(&self, broker: BrokerId) -> bool {
        Some(broker) != self.leaving
            && !self.after.offline.contains(&broker)
            && self.image.broker(broker).is_some_and(|broker| !broker.fenced)
    }

    fn first_fit(&self, set: &[BrokerId]) -> Option<BrokerId> {
        let mut candidates = self.after.replicas.iter().filter(|broker| set.contains(broker));
        candidates.find(|broker| self.can_lead(**broker)).copied()
    }

    fn elect(&mut self) {
        match self.choose() {
            Choice::InSync(leader) => self.after.leader = leader,
            Choice::Alone(leader) => {
                self.after.leader = leader;
                self.after.isr = vec![leader];
            }
            Choice::Unclean(leader) => {
                self.is_unclean = true;
                self.after.leader = leader;
                self.after.isr = vec![leader];
            }
            Choice::Nobody => self.after.leader = NO_LEADER,
        }
    }

    fn choose(&self) -> Choice {
        let Partition { isr, replicas, leader: current, .. } = &self.after;
        let is_fit = |broker: &BrokerId| isr.contains(broker) && self.can_lead(*broker);
        let preferred = replicas.first().filter(|_| self.election == Election::Preferred);
        if let Some(preferred) = preferred.filter(|broker| is_fit(broker)) {
            return Choice::InSync(*preferred);
        }
        if is_fit(current) {
            return Choice::InSync(*current);
        }
        if let Some(leader) = self.first_fit(isr) {
            return Choice::InSync(leader);
        }
        if isr.contains(current) && self.is_there(*current) {
            // It is about to shut down and nobody in sync can follow it: it leads until it is gone.
            return Choice::InSync(*current);
        }
        if let Some(leader) = self.first_fit(&self.eligible()) {
            return Choice::Alone(leader);
        }
        self.choose_uncleanly().map_or(Choice::Nobody, Choice::Unclean)
    }

    fn choose_uncleanly(&self) -> Option<BrokerId> {
        // There is no other copy than that of an only replica, and there never will be.
        let is_alone = self.after.replicas.len() == 1;
        if self.election != Election::Unclean && !is_alone {
            return None;
        }
        let best = self.first_fit(&self.before.last_known_elr);
        best.or_else(|| self.first_fit(&self.after.replicas))
    }

    /// Who held what is committed, and is not in sync.
    fn eligible(&self) -> Vec<BrokerId> {
        let held = |broker: &&BrokerId| self.before.isr.contains(broker) || self.before.elr.contains(broker);
        let mut eligible: Vec<BrokerId> = self.after.replicas.iter().filter(held).copied().collect();
        eligible.retain(|broker| !self.after.isr.contains(broker) && Some(*broker) != self.stripped);
        eligible
    }

    fn settle_eligible(&mut self) {
        let in_sync_min = self.config.in_sync_min(self.after.replicas.len());
        if self.after.isr.len() >= in_sync_min || self.is_unclean {
            self.after.elr.clear();
            self.after.last_known_elr.clear();
            return;
        }
        let eligible = self.eligible();
        let before = self.before;
        let known = |broker: &&BrokerId| {
            let once = before.last_known_elr.iter().chain(&before.isr).chain(&before.elr);
            once.into_iter().any(|member| member == *broker)
        };
        let mut last_known: Vec<BrokerId> = self.after.replicas.iter().filter(known).copied().collect();
        last_known.retain(|broker| !self.after.isr.contains(broker) && !eligible.contains(broker));
        self.after.elr = eligible;
        self.after.last_known_elr = last_known;
    }

    /// In the order of the replicas; the same members keep theirs.
    fn put_in_sync_in_order(&mut self) {
        let Partition { isr, replicas, elr, last_known_elr, .. } = &mut self.after;
        let keep_order = |after: &mut Vec<BrokerId>, before: &Vec<BrokerId>| {
            let is_same = after.len() == before.len() && after.iter().all(|member| before.contains(member));
            if is_same {
                after.clone_from(before);
            } else {
                after.sort_by_key(|member| replicas.iter().position(|replica| replica == member));
            }
        };
        keep_order(isr, &self.before.isr);
        keep_order(elr, &self.before.elr);
        keep_order(last_known_elr, &self.before.last_known_elr);
    }
}

pub(super) fn state_record(topic_id: TopicId, index: PartitionIndex, state: Partition) -> PartitionStateRecord {
    PartitionStateRecord {
        topic_id,
        partition: index,
        replicas: state.replicas,
        isr: state.isr,
        elr: state.elr,
        last_known_elr: state.last_known_elr,
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        adding: state.adding,
        removing: state.removing,
        dirs: state.dirs,
        offline: state.offline,
    }
}
