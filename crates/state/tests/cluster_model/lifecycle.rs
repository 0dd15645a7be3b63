//! Brokers start, die, learn what the controller has decided, and take the role that it gives them.

use std::sync::Arc;

use capek_state::partition::{Ask, Asking, Fate, Follower, Leader, LeaderStart};

use crate::checker::Checker;
use crate::controller::{Alter, Controller, Image, Partition};
use crate::disk::Disk;
use crate::world::{FollowerRole, Late, LeaderRole, Role, World};

impl World {
    // The controller.

    /// It decides; what it has decided is looked at, and brokers whom it does not concern know it.
    fn control<T>(&mut self, command: impl FnOnce(&mut Controller) -> T) -> T {
        let before = self.image().clone();
        let controller = Arc::make_mut(&mut self.controller);
        let outcome = command(controller);
        for next in 1..controller.images.len() {
            let (known, image) = (&controller.images[next - 1], &controller.images[next]);
            Checker::check_image(known, image, self.bounds.in_sync_min.into());
        }
        controller.images.drain(..controller.images.len() - 1);
        self.watch(&before);
        for id in 1..=self.brokers.len() as i32 {
            let image = self.image();
            let is_follower = matches!(self.at(id).role, Role::Follower(_));
            if is_follower && self.at(id).leader_epoch() == image.partition.leader_epoch && self.at(id).image != *image
            {
                let image = image.clone();
                self.broker(id).image = image;
            }
        }
        outcome
    }

    fn watch(&mut self, before: &Image) {
        let (old, new) = (&before.partition, &self.image().partition);
        let has_shrunk = new.isr.len() < old.isr.len();
        let is_by_eligible = new.leader >= 0 && new.leader != old.leader && old.elr.contains(&new.leader);
        self.seen.growth_after_shrink |= self.seen.shrink && new.isr.len() > old.isr.len();
        self.seen.shrink |= has_shrunk;
        self.seen.led_by_eligible |= is_by_eligible;
    }

    /// The session of this broker has ended.
    pub fn fence(&mut self, id: i32) {
        self.control(|controller| controller.fence(id));
    }

    /// A heartbeat of a broker that knows of its registration.
    pub fn unfence(&mut self, id: i32) {
        let epoch = self.at(id).epoch.expect("a broker that is down says nothing");
        self.control(|controller| controller.unfence(id, epoch));
    }

    pub fn shut_down(&mut self, id: i32) {
        let epoch = self.at(id).epoch.expect("a broker that is down says nothing");
        self.broker(id).is_stopping = true;
        self.control(|controller| controller.shut_down(id, epoch));
    }

    /// The controller takes what this leader has proposed. B11: never what is about another epoch.
    pub fn decide(&mut self, id: i32, is_heard: bool) {
        let image = self.at(id).image.clone();
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let Some(proposed) = role.proposal.clone() else { return };
        let before = role.asking;
        let alter = if role.asking.ask() == Ask::AsItIs { image.as_it_is(&proposed) } else { proposed };
        let is_current = self.is_current(&alter);
        let result = self.control(|controller| controller.alter(&alter));
        assert!(is_current || result.is_err(), "a proposal about what has changed was taken: {alter:?}");
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        if !is_heard {
            return;
        }
        match role.asking.answered(result) {
            Fate::AskAgain => return,
            // It is not asked again before the image is known: here it may be, and nothing comes of it.
            Fate::Shown => {
                role.asking = before;
                return;
            }
            Fate::Refused => {}
        }
        self.seen.refused_proposal = true;
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        role.proposal = None;
        role.refused = role.refused.saturating_add(1);
        let mut effects = Vec::new();
        role.leader.in_sync_refused(alter.partition_epoch, 0, &mut effects);
        self.carry_out(id, effects);
        self.review(id, i64::MAX);
    }

    fn is_current(&self, alter: &Alter) -> bool {
        let Image { partition, brokers } = self.image();
        let is_life = |member: i32, epoch: i64| brokers.get(&member).is_some_and(|known| known.epoch == epoch);
        partition.leader == alter.broker
            && partition.leader_epoch == alter.leader_epoch
            && partition.partition_epoch == alter.partition_epoch
            && is_life(alter.broker, alter.broker_epoch)
            && alter.isr.iter().all(|(member, epoch)| is_life(*member, *epoch) && !brokers[member].fenced)
    }

    // Brokers.

    /// Recovery syncs what it finds; then the broker registers, and knows that.
    pub fn start(&mut self, id: i32) {
        let broker = self.broker(id);
        broker.disk.flushed = broker.disk.end();
        broker.disk.high_watermark = broker.disk.high_watermark.min(broker.disk.end());
        let incarnation = (id as u64) * 100 + u64::from(broker.life);
        let epoch = self.control(|controller| controller.register(id, incarnation));
        self.broker(id).epoch = Some(epoch.expect("the earlier life is gone"));
        self.learn(id);
    }

    /// Dies at once; of its log this much is left.
    pub fn crash(&mut self, id: i32, kept_end: i64) {
        self.end_role(id);
        let broker = self.broker(id);
        let is_loss = kept_end < broker.disk.end();
        broker.disk.truncate(kept_end);
        broker.disk.high_watermark = broker.disk.high_watermark.min(kept_end);
        broker.life += 1;
        broker.epoch = None;
        broker.is_stopping = false;
        broker.image = Image::default();
        self.seen.lost_unsynced |= is_loss;
        self.late.retain(|late| match late {
            Late::Fetch(fetch) => fetch.to != id,
            Late::Flushed(flushed) => flushed.to != id,
            Late::Fetched { to, .. } => *to != id,
        });
    }

    /// Stops in peace: all is on the disk.
    pub fn stop(&mut self, id: i32) {
        let broker = self.broker(id);
        broker.disk.flushed = broker.disk.end();
        let kept_end = broker.disk.end();
        self.crash(id, kept_end);
    }

    pub fn learn(&mut self, id: i32) {
        let image = self.image().clone();
        let partition = image.partition.clone();
        let broker = self.broker(id);
        broker.image = image;
        if partition.replicas.is_empty() {
            return;
        }
        if partition.leader_epoch == broker.leader_epoch() {
            return self.in_sync_changed(id, &partition);
        }
        assert!(partition.leader_epoch > broker.leader_epoch(), "broker {id} goes back to an earlier epoch");
        self.end_role(id);
        if partition.leader == id {
            let disk = &self.at(id).disk;
            let begins = (disk.end(), disk.high_watermark);
            self.lead(id, &partition, begins, None);
        } else if partition.leader >= 0 {
            self.follow(id, partition.leader, partition.leader_epoch);
        }
    }

    fn in_sync_changed(&mut self, id: i32, partition: &Partition) {
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let mut effects = Vec::new();
        role.leader.in_sync_changed(&partition.replica_set(id), 0, &mut effects);
        if !role.leader.is_proposing() {
            role.proposal = None;
        }
        self.carry_out(id, effects);
        self.review(id, i64::MAX);
    }

    fn lead(
        &mut self,
        id: i32,
        partition: &Partition,
        (epoch_start, high_watermark): (i64, i64),
        proposal: Option<Alter>,
    ) {
        let in_sync_min = self.bounds.in_sync_min.into();
        let proposed = proposal.as_ref().map_or(Vec::new(), |alter| alter.isr.clone());
        let broker = self.broker(id);
        let leader = Leader::new(LeaderStart {
            proposed: proposed.iter().map(|(member, _)| *member).collect(),
            epoch_start,
            high_watermark,
            ..broker.disk.leader_start(partition.replica_set(id), partition.leader_epoch, in_sync_min)
        });
        let high_watermark = leader.high_watermark();
        broker.role = Role::Leader(LeaderRole {
            leader,
            epoch_start,
            proposed,
            proposal,
            asking: Asking::default(),
            parked: Default::default(),
            refused: 0,
            board: Default::default(),
        });
        let disk: Disk = broker.disk.clone();
        self.checker().commits(id, &disk, high_watermark);
    }

    pub fn follow(&mut self, id: i32, leader: i32, epoch: i32) {
        let broker = self.broker(id);
        let follower = Follower::new(broker.disk.follower_start(epoch));
        broker.role = Role::Follower(FollowerRole { follower, leader, is_waiting: false });
    }

    /// Who waited for an answer is told that there is none, and sends again.
    pub fn end_role(&mut self, id: i32) {
        self.cut_connection(id);
        let Role::Leader(role) = std::mem::replace(&mut self.broker(id).role, Role::None) else { return };
        let epoch = role.leader.epoch();
        let unanswered = self.sent.iter_mut().zip(0..).filter(|(_, value)| role.parked.contains_key(value));
        for (sent, _) in unanswered.filter(|(sent, _)| sent.epoch == epoch) {
            sent.epoch = epoch - 1;
        }
    }

    /// What this follower was about to hear is lost; what it has said may yet arrive.
    pub fn cut_connection(&mut self, id: i32) {
        self.late.retain(|late| !matches!(late, Late::Fetched { to, .. } if *to == id));
        let current = (id, self.at(id).connection);
        if self.late.iter().any(|late| late.connection() == current) {
            self.broker(id).connection += 1;
        }
    }

    /// The partition's actor begins again in the same epoch: the journal, the high watermark and what is proposed are not its
    /// own.
    pub fn restart_role(&mut self, id: i32) {
        match &self.at(id).role {
            Role::None => {}
            Role::Leader(role) => {
                let known = (role.epoch_start, role.leader.high_watermark());
                let (proposal, asking, board) = (role.proposal.clone(), role.asking, role.board.clone());
                let partition = self.at(id).image.partition.clone();
                self.end_role(id);
                self.lead(id, &partition, known, proposal);
                if let Role::Leader(role) = &mut self.broker(id).role {
                    (role.board, role.asking) = (board, asking);
                }
                self.read_board(id);
            }
            Role::Follower(role) => {
                let (leader, epoch) = (role.leader, role.follower.epoch());
                self.end_role(id);
                self.follow(id, leader, epoch);
            }
        }
    }
}
