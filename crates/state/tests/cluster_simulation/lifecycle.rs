//! How a broker lives: it starts, registers, learns images, and has the role that the newest image gives it.

use capek_state::partition::{Ask, Follower, Leader, LeaderStart, NewProducers};
use capek_wire::ErrorCode;

use crate::broker::{Broker, FollowerRole, LeaderRole, Proposal, Role};
use crate::client::PRODUCER_ID_FIRST;
use crate::controller::{Partition, topic_config};
use crate::disk::Disk;
use crate::messages::{Event, Message, ToController};
use crate::world::{LAG_MAX_MS, World};

/// How long a proposal without an answer stands before it is sent again.
const PROPOSE_AGAIN_MS: i64 = 300;

impl World {
    pub fn broker(&mut self, id: i32) -> &mut Broker {
        &mut self.brokers[(id - 1) as usize]
    }

    pub fn start(&mut self, id: i32) {
        let incarnation = self.number();
        let broker = self.broker(id);
        if broker.is_up {
            return;
        }
        broker.is_up = true;
        broker.incarnation = incarnation;
        broker.epoch = None;
        broker.version = 0;
        // Recovery syncs what it finds.
        broker.disk.flushed = broker.disk.end();
        broker.disk.high_watermark = broker.disk.high_watermark.min(broker.disk.end());
        let (life, end) = (broker.life, broker.disk.end());
        self.note(|| format!("broker {id} starts its life {life} with a log of {end}"));
        self.after(1, Event::Tick { broker: id, life });
    }

    /// Dies at once; of what was not synced a part survives, and after a power cut nothing.
    pub fn crash(&mut self, id: i32, is_power_cut: bool) {
        let broker = self.broker(id);
        if !broker.is_up {
            return;
        }
        let flushed = broker.disk.flushed;
        let unsynced: Vec<i64> = broker.disk.from(flushed, usize::MAX).iter().map(|batch| batch.end_offset()).collect();
        let kept = if is_power_cut { None } else { self.random.pick(&unsynced) };
        let broker = self.broker(id);
        broker.disk.truncate(kept.unwrap_or(flushed));
        broker.life += 1;
        broker.is_up = false;
        broker.paused_until_ms = 0;
        broker.syncing = None;
        broker.role = Role::None;
        broker.role_number += 1;
        let end = broker.disk.end();
        self.checker.counts.crashes += 1;
        self.note(|| format!("broker {id} crashes; {end} is left of its log"));
    }

    pub fn tick(&mut self, id: i32) {
        let broker = self.broker(id);
        let (incarnation, epoch, version) = (broker.incarnation, broker.epoch, broker.version);
        match epoch {
            None => self.tell_controller(id, ToController::Register { broker: id, incarnation }),
            Some(broker_epoch) => {
                self.tell_controller(id, ToController::Heartbeat { broker: id, broker_epoch, version });
            }
        }
        self.learn(id);
        self.lead_on(id);
    }

    /// Images come late, one after the other or many at once.
    fn learn(&mut self, id: i32) {
        let last = self.controller.images.len() - 1;
        let version = self.broker(id).version;
        let is_reached = self.active.is_some_and(|active| self.reaches(active, id));
        if version == last || !is_reached || (self.random.one_in(3) && !self.is_quiet) {
            return;
        }
        let next = if self.random.one_in(2) { version + 1 } else { last };
        self.broker(id).version = next;
        self.follow_image(id);
    }

    fn follow_image(&mut self, id: i32) {
        let broker = self.broker(id);
        let (version, incarnation, epoch) = (broker.version, broker.incarnation, broker.epoch);
        let image = self.controller.images[version].clone();
        // Before its own registration an image is about an earlier life: that one's epochs are not to be taken up again.
        let is_ours = image.brokers.get(&id).is_some_and(|known| known.incarnation == incarnation);
        if !is_ours || epoch.is_none() {
            return;
        }
        let partition = image.partition;
        if partition.replicas.is_empty() {
            return;
        }
        if !partition.replicas.contains(&id) {
            self.end_role(id);
            let broker = self.broker(id);
            broker.disk = Disk::default();
            broker.syncing = None;
            return;
        }
        let current = match &self.broker(id).role {
            Role::None => i32::MIN,
            Role::Leader(role) => role.leader.epoch(),
            Role::Follower(role) => role.follower.epoch(),
        };
        if partition.leader_epoch == current {
            return self.in_sync_changed(id, &partition);
        }
        self.end_role(id);
        if partition.leader == id {
            self.lead(id, &partition);
        } else if partition.leader >= 0 {
            self.follow(id, partition.leader, partition.leader_epoch);
        }
    }

    fn in_sync_changed(&mut self, id: i32, partition: &Partition) {
        let now_ms = self.now_ms;
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let mut effects = Vec::new();
        role.leader.in_sync_changed(&partition.replica_set(id), now_ms, &mut effects);
        if !role.leader.is_proposing() {
            role.proposal = None;
        }
        self.carry_out(id, effects);
    }

    /// The actor of the partition ends; the journal goes on with what it was given, and so a cut is done, or never was begun.
    pub fn end_role(&mut self, id: i32) {
        let may_cut = self.random.one_in(2);
        let broker = self.broker(id);
        broker.role_number += 1;
        match std::mem::replace(&mut broker.role, Role::None) {
            Role::None => {}
            Role::Leader(role) => {
                for parked in role.parked.into_values() {
                    let answer = Message::Produced {
                        value: parked.value,
                        error: ErrorCode::RequestTimedOut,
                        base_offset: parked.base_offset,
                    };
                    self.reply(parked.line, answer);
                }
            }
            Role::Follower(role) => {
                if let Some(end_offset) = role.cut.filter(|_| may_cut) {
                    self.cut_disk(id, end_offset);
                }
            }
        }
    }

    fn lead(&mut self, id: i32, partition: &Partition) {
        let epoch_start = self.broker(id).disk.end();
        let high_watermark = self.broker(id).disk.high_watermark;
        self.begin_to_lead(id, partition, (epoch_start, high_watermark), None);
        self.note(|| format!("broker {id} leads epoch {} from {epoch_start}", partition.leader_epoch));
    }

    fn begin_to_lead(
        &mut self,
        id: i32,
        partition: &Partition,
        (epoch_start, high_watermark): (i64, i64),
        proposal: Option<Proposal>,
    ) {
        let (now_ms, in_sync_min) = (self.now_ms, self.in_sync_min.min(partition.replicas.len()));
        let config = topic_config(in_sync_min);
        let proposed = proposal.as_ref().map_or(Vec::new(), |proposal| proposal.alter.isr.clone());
        let broker = self.broker(id);
        // Ids count with the world's numbers; the first producers came when the brokers were there.
        let id_min = if broker.life == 0 { 0 } else { PRODUCER_ID_FIRST + broker.incarnation as i64 };
        let mut leader = Leader::new(LeaderStart {
            proposed: proposed.iter().map(|(member, _)| *member).collect(),
            now_ms,
            epoch_start,
            high_watermark,
            ..broker.disk.leader_start(partition.replica_set(id), partition.leader_epoch, in_sync_min)
        });
        leader.set_new_producers(Some(NewProducers { id_min, since_ms: 0 }));
        broker.role = Role::Leader(Box::new(LeaderRole {
            leader,
            epoch_start,
            config,
            proposed,
            proposal,
            parked: Default::default(),
            board: Default::default(),
            fetches: Default::default(),
            told: Default::default(),
        }));
        let (disk, high_watermark) = (broker.disk.clone(), leader_high_watermark(broker));
        self.checker.commits(id, &disk, high_watermark);
    }

    /// The leader's actor panics and begins again, in the same epoch: the journal, the high watermark and what is proposed are
    /// not its own.
    pub fn restart_role(&mut self, id: i32) {
        let version = self.broker(id).version;
        let partition = self.controller.images[version].partition.clone();
        match &self.broker(id).role {
            Role::Leader(role) if role.leader.epoch() == partition.leader_epoch => {
                let known = (role.epoch_start, role.leader.high_watermark());
                let (proposal, board) = (role.proposal.clone(), role.board.clone());
                self.note(|| format!("the leader on broker {id} begins again"));
                self.end_role(id);
                self.begin_to_lead(id, &partition, known, proposal);
                if let Role::Leader(role) = &mut self.broker(id).role {
                    role.board = board;
                }
                self.read_board(id);
            }
            Role::Follower(role) => {
                let (leader, epoch) = (role.leader, role.follower.epoch());
                self.note(|| format!("the follower on broker {id} begins again"));
                self.end_role(id);
                self.follow(id, leader, epoch);
            }
            _ => {}
        }
    }

    pub fn follow(&mut self, id: i32, leader: i32, epoch: i32) {
        let (connection, to_life) = (self.number(), self.broker(leader).life);
        let broker = self.broker(id);
        let follower = Follower::new(broker.disk.follower_start(epoch));
        let role = FollowerRole { follower, leader, fetch: None, connection, to_life, cut: None };
        broker.role = Role::Follower(Box::new(role));
        self.note(|| format!("broker {id} follows {leader} in epoch {epoch}"));
        self.fetch(id);
    }

    /// Looks at its followers, and asks again for what the controller has not answered.
    fn lead_on(&mut self, id: i32) {
        let now_ms = self.now_ms;
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let mut effects = Vec::new();
        role.leader.review_in_sync(LAG_MAX_MS, now_ms, &mut effects);
        let is_due = role.proposal.as_ref().is_some_and(|proposal| now_ms - proposal.sent_ms > PROPOSE_AGAIN_MS);
        if is_due {
            self.propose_again(id);
        }
        self.carry_out(id, effects);
    }

    fn propose_again(&mut self, id: i32) {
        let (now_ms, version) = (self.now_ms, self.broker(id).version);
        let image = self.controller.images[version].clone();
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let Some(proposal) = &mut role.proposal else { return };
        proposal.sent_ms = now_ms;
        let ask = proposal.asking.ask();
        let alter = if ask == Ask::AsItIs { image.as_it_is(&proposal.alter) } else { proposal.alter.clone() };
        self.checker.counts.withdrawals += u64::from(ask == Ask::AsItIs);
        self.tell_controller(id, ToController::Alter(alter));
    }
}

fn leader_high_watermark(broker: &Broker) -> i64 {
    match &broker.role {
        Role::Leader(role) => role.leader.high_watermark(),
        _ => 0,
    }
}
