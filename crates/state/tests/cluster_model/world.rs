//! Everything that there is at one moment: the controller, brokers with a replica each, what is on its way, what was promised.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use capek_state::partition::{Asking, Follower, FollowerReports, Leader};

use crate::checker::Checker;
use crate::controller::{Alter, Controller, Image};
use crate::disk::Disk;
use crate::messages::Answer;

pub const BROKERS: i32 = 3;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub records: u8,
    pub troubles: u8,
    pub in_sync_min: u8,
}

/// Parts are shared by the worlds that do not differ in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub bounds: Bounds,
    pub controller: Arc<Controller>,
    pub brokers: Vec<Arc<Broker>>,
    pub late: Vec<Late>,
    pub sent: Vec<Sent>,
    pub checker: Arc<Checker>,
    pub troubles: u8,
    /// A promise that does not hold.
    pub broken: Option<String>,
    pub seen: Seen,
}

/// A record, by the number of its value: each comes from an idempotent producer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    /// To a leader of this epoch or an earlier one it is not sent again.
    pub epoch: i32,
    /// What was acknowledged before it was asked for ends here. None: it was never sent.
    pub floor: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    pub id: i32,
    pub life: u32,
    /// Of its registration; None: it is down.
    pub epoch: Option<i64>,
    /// Asked the controller to let it go.
    pub is_stopping: bool,
    pub image: Image,
    pub disk: Disk,
    pub role: Role,
    /// Of those to its leader. Two of which the earlier left nothing on its way are one.
    pub connection: u64,
}

/// Of the size of its largest: brokers stand behind an `Arc`.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    None,
    Leader(LeaderRole),
    Follower(FollowerRole),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaderRole {
    pub leader: Leader,
    pub epoch_start: i64,
    /// Of the last proposal.
    pub proposed: Vec<(i32, i64)>,
    /// Sent and not answered for certain.
    pub proposal: Option<Alter>,
    pub asking: Asking,
    /// Where they are, by value.
    pub parked: BTreeMap<u64, i64>,
    pub refused: u8,
    /// Not its own: a leader that begins again finds here what its followers will not repeat.
    pub board: FollowerReports,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FollowerRole {
    pub follower: Follower,
    pub leader: i32,
    /// Something of this connection is late.
    pub is_waiting: bool,
}

/// A message that did not arrive at once, and may at any time later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Late {
    Fetch(Fetch),
    Fetched { to: i32, connection: u64, answer: Answer },
    Flushed(Flushed),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    pub from: i32,
    pub to: i32,
    /// Of the follower's broker; after the next one nobody waits for the answer any more.
    pub connection: u64,
    pub broker_epoch: i64,
    pub leader_epoch: i32,
    pub offset: i64,
    pub last_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flushed {
    pub from: i32,
    pub to: i32,
    pub connection: u64,
    pub broker_epoch: i64,
    pub leader_epoch: i32,
    pub end_offset: i64,
}

impl Late {
    /// The follower that it comes from or goes to, and over which of its connections: each keeps its order.
    pub fn connection(&self) -> (i32, u64) {
        match self {
            Late::Fetch(fetch) => (fetch.from, fetch.connection),
            Late::Fetched { to, connection, .. } => (*to, *connection),
            Late::Flushed(flushed) => (flushed.from, flushed.connection),
        }
    }
}

/// What has happened on the way here, to show that it can: worlds that differ in nothing else are one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub truncation: bool,
    pub late_arrival: bool,
    pub overtaken: bool,
    pub refused_proposal: bool,
    pub duplicate: bool,
    pub shrink: bool,
    pub growth_after_shrink: bool,
    pub lost_unsynced: bool,
    pub led_by_eligible: bool,
}

impl PartialEq for Seen {
    fn eq(&self, _: &Seen) -> bool {
        true
    }
}

impl Eq for Seen {}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl World {
    /// The topic exists, its first replica leads, and all have fetched once.
    pub fn new(bounds: Bounds) -> World {
        let mut world = World {
            bounds,
            controller: Arc::new(Controller::new(BROKERS, bounds.in_sync_min.into())),
            brokers: (1..=BROKERS).map(|id| Arc::new(Broker::new(id))).collect(),
            late: Vec::new(),
            sent: vec![Sent { epoch: -1, floor: None }; bounds.records.into()],
            checker: Arc::new(Checker::default()),
            troubles: 0,
            broken: None,
            seen: Seen::default(),
        };
        for id in 1..=BROKERS {
            world.start(id);
        }
        for id in 1..=BROKERS {
            world.unfence(id);
        }
        for id in 1..=BROKERS {
            world.learn(id);
        }
        for id in 2..=BROKERS {
            world.fetch(id, None);
        }
        world.seen = Seen::default();
        world
    }

    /// The same, and the last replica was fenced for a while: it is out of sync, and its leader does not know yet.
    pub fn one_out_of_sync(bounds: Bounds) -> World {
        let mut world = World::new(bounds);
        world.fence(BROKERS);
        world.unfence(BROKERS);
        world
    }

    pub fn at(&self, id: i32) -> &Broker {
        &self.brokers[(id - 1) as usize]
    }

    pub fn broker(&mut self, id: i32) -> &mut Broker {
        Arc::make_mut(&mut self.brokers[(id - 1) as usize])
    }

    pub fn checker(&mut self) -> &mut Checker {
        Arc::make_mut(&mut self.checker)
    }

    pub fn image(&self) -> &Image {
        self.controller.image()
    }

    /// Whether what is written may be lost, or what is sent be late.
    pub fn has_trouble_left(&self) -> bool {
        self.troubles < self.bounds.troubles
    }

    /// B3, B4, B5, A10: what holds at every moment.
    pub fn check(&mut self) {
        let partition = self.image().partition.clone();
        let in_sync_min = usize::from(self.bounds.in_sync_min);
        for member in partition.isr.iter().chain(&partition.elr) {
            let mut disk = self.at(*member).disk.clone();
            self.checker.check_candidate(*member, &mut disk);
        }
        let mut told = Vec::new();
        for broker in &self.brokers {
            let Role::Leader(role) = &broker.role else { continue };
            Checker::check_leader(&partition, &role.leader, &role.proposed, in_sync_min);
            if role.leader.knows_committed_end() {
                told.push((role.leader.epoch(), role.leader.high_watermark()));
            }
        }
        for (epoch, end_offset) in told {
            self.checker().lists(epoch, end_offset);
        }
    }
}

impl Broker {
    fn new(id: i32) -> Broker {
        Broker {
            id,
            life: 0,
            epoch: None,
            is_stopping: false,
            image: Image::default(),
            disk: Disk::default(),
            role: Role::None,
            connection: 0,
        }
    }

    pub fn is_up(&self) -> bool {
        self.epoch.is_some()
    }

    pub fn leader_epoch(&self) -> i32 {
        match &self.role {
            Role::None => i32::MIN,
            Role::Leader(role) => role.leader.epoch(),
            Role::Follower(role) => role.follower.epoch(),
        }
    }
}
