//! The controller: the one that brokers run, its log a list of images. Whatever it decides is committed, or never was.

use std::collections::BTreeMap;

use capek_state::cluster::{
    AlterPartition, AlterPartitions, Assignment, Command, CreateTopic, ElectLeaders, ElectionKind, Outcome,
    PartitionName, Reassignment, RegisterBroker, decide,
};
use capek_state::config::TopicConfig;
use capek_state::partition::ReplicaSet;
use capek_wire::ErrorCode;
use capek_wire::ids::Uuid;

const TOPIC: &str = "orders";
const TOPIC_ID: Uuid = Uuid([7; 16]);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition {
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub elr: Vec<i32>,
    /// -1: none.
    pub leader: i32,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    pub is_reassigned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    pub incarnation: u64,
    pub epoch: i64,
    pub fenced: bool,
}

/// What brokers look at; none before the topic exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Image {
    pub partition: Partition,
    pub brokers: BTreeMap<i32, Registration>,
}

/// What a leader asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alter {
    pub broker: i32,
    pub broker_epoch: i64,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    pub isr: Vec<(i32, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    /// The last is the present one; brokers get to know them one after the other.
    pub images: Vec<Image>,
    state: capek_state::cluster::Image,
    broker_count: i32,
    in_sync_min: usize,
}

impl Partition {
    /// As its leader is told of it.
    pub fn replica_set(&self, me: i32) -> ReplicaSet {
        ReplicaSet {
            me,
            replicas: self.replicas.clone(),
            in_sync: self.isr.clone(),
            partition_epoch: self.partition_epoch,
        }
    }
}

impl Image {
    /// What the leader asks that proposes this set. One that was in sync before it began may not have fetched yet: then the
    /// image that it has knows the epoch.
    pub fn alter(
        &self,
        (broker, broker_epoch): (i32, i64),
        leader_epoch: i32,
        members: Vec<(i32, i64)>,
        partition_epoch: i32,
    ) -> Alter {
        let epoch_of = |(member, epoch): (i32, i64)| match epoch {
            -1 if member == broker => (member, broker_epoch),
            -1 => (member, self.brokers.get(&member).map_or(-1, |known| known.epoch)),
            epoch => (member, epoch),
        };
        let isr = members.into_iter().map(epoch_of).collect();
        Alter { broker, broker_epoch, leader_epoch, partition_epoch, isr }
    }

    /// What the leader asks that wants nothing to come of what it has asked before.
    pub fn as_it_is(&self, alter: &Alter) -> Alter {
        let members = self.partition.isr.iter().map(|member| (*member, -1)).collect();
        self.alter((alter.broker, alter.broker_epoch), alter.leader_epoch, members, alter.partition_epoch)
    }
}

pub fn topic_config(in_sync_min: usize) -> TopicConfig {
    let overrides = [("min.insync.replicas".to_owned(), in_sync_min.to_string())];
    TopicConfig::resolve(&overrides.into_iter().collect(), &|_| None)
}

impl Controller {
    pub fn new(broker_count: i32, in_sync_min: usize) -> Controller {
        let state = capek_state::cluster::Image::default();
        let mut controller = Controller { images: vec![Image::default()], state, broker_count, in_sync_min };
        controller.images[0].partition.leader = -1;
        let created = controller.run(&Command::CreateCluster { cluster_id: "simulated".to_owned() });
        created.expect("there was no cluster");
        controller
    }

    pub fn image(&self) -> &Image {
        self.images.last().expect("the first image is never dropped")
    }

    fn run(&mut self, command: &Command) -> Result<Outcome, ErrorCode> {
        let decision = decide(&self.state, command).map_err(|refusal| refusal.code)?;
        for record in &decision.records {
            self.state.apply(record);
        }
        let image = self.seen();
        if image != *self.image() {
            self.images.push(image);
        }
        Ok(decision.outcome)
    }

    fn seen(&self) -> Image {
        let mut image = Image { partition: Partition { leader: -1, ..Partition::default() }, ..Image::default() };
        for id in 1..=self.broker_count {
            if let Some(known) = self.state.broker(id) {
                let incarnation = known.incarnation.0[8..].try_into().expect("half of sixteen bytes");
                let registration = Registration {
                    incarnation: u64::from_be_bytes(incarnation),
                    epoch: known.epoch,
                    fenced: known.fenced,
                };
                image.brokers.insert(id, registration);
            }
        }
        if let Some(known) = self.state.topic(TOPIC_ID).and_then(|topic| topic.partition(0)) {
            image.partition = Partition {
                replicas: known.replicas.clone(),
                isr: known.isr.clone(),
                elr: known.elr.clone(),
                leader: known.leader,
                leader_epoch: known.leader_epoch,
                partition_epoch: known.partition_epoch,
                is_reassigned: !(known.adding.is_empty() && known.removing.is_empty()),
            };
        }
        image
    }

    pub fn register(&mut self, broker: i32, incarnation: u64) -> Option<i64> {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&incarnation.to_be_bytes());
        let command = RegisterBroker {
            broker,
            incarnation: Uuid(bytes),
            fenced: true,
            previous_is_gone: true,
            ..RegisterBroker::default()
        };
        match self.run(&Command::RegisterBroker(command)) {
            Ok(Outcome::BrokerRegistered { epoch }) => Some(epoch),
            _ => None,
        }
    }

    fn epoch_of(&self, broker: i32) -> i64 {
        self.image().brokers.get(&broker).map_or(-1, |known| known.epoch)
    }

    pub fn fence(&mut self, broker: i32) {
        let command = Command::FenceBroker { broker, epoch: self.epoch_of(broker) };
        self.run(&command).expect("a broker that is known can be fenced");
    }

    pub fn shut_down(&mut self, broker: i32, epoch: i64) {
        // A stale epoch is refused, and that is all.
        let _ = self.run(&Command::ControlledShutdown { broker, epoch });
    }

    pub fn unfence(&mut self, broker: i32, epoch: i64) {
        let _ = self.run(&Command::UnfenceBroker { broker, epoch });
        let brokers = &self.image().brokers;
        let all_live = brokers.len() as i32 == self.broker_count && brokers.values().all(|known| !known.fenced);
        if all_live && self.state.topic(TOPIC_ID).is_none() {
            self.create_topic();
        }
    }

    fn create_topic(&mut self) {
        let assignments = vec![Assignment { partition: 0, brokers: vec![1, 2, 3] }];
        let created = self.run(&Command::CreateTopic(CreateTopic {
            name: TOPIC.to_owned(),
            id: TOPIC_ID,
            partitions: -1,
            replication_factor: -1,
            assignments,
            configs: vec![("min.insync.replicas".to_owned(), Some(self.in_sync_min.to_string()))],
            ..CreateTopic::default()
        }));
        created.expect("the topic is new and its brokers live");
    }

    pub fn alter(&mut self, alter: &Alter) -> Result<(), ErrorCode> {
        let partition = AlterPartition {
            topic_id: TOPIC_ID,
            partition: 0,
            leader_epoch: alter.leader_epoch,
            partition_epoch: alter.partition_epoch,
            isr: alter.isr.clone(),
        };
        let (broker, broker_epoch) = (alter.broker, alter.broker_epoch);
        let command = AlterPartitions { broker, broker_epoch, partitions: vec![partition] };
        match self.run(&Command::AlterPartitions(command))? {
            Outcome::Each(mut each) => each.pop().expect("one was asked for").map_err(|refusal| refusal.code),
            other => panic!("{other:?} is no answer to AlterPartitions"),
        }
    }

    fn name() -> PartitionName {
        PartitionName { topic: TOPIC.to_owned(), partition: 0 }
    }

    /// The replicas shall be these; it is refused while it cannot be.
    pub fn reassign(&mut self, replicas: Vec<i32>) {
        let reassignments = vec![Reassignment { name: Self::name(), replicas: Some(replicas) }];
        let _ = self.run(&Command::ReassignPartitions { reassignments, may_change_replication_factor: false });
    }

    /// The first replica shall lead, if it may.
    pub fn elect_preferred(&mut self) {
        let partitions = vec![Self::name()];
        let _ = self.run(&Command::ElectLeaders(ElectLeaders { kind: ElectionKind::Preferred, partitions }));
    }
}
