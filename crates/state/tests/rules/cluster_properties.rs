//! Whatever happens to the brokers of a cluster, and in whatever order: what was committed is never given to a leader that does
//! not have it, and records are what they should be.

use std::collections::BTreeMap;

use capek_state::cluster::{
    Command, ConfigOperationKind, CreatePartitions, CreateTopic, Decision, ElectLeaders, ElectionKind, Image,
    Partition, PartitionName, Reassignment, RegisterBroker, decide, preferred_leaders_to_return,
};
use capek_state::cluster::{ConfigResource, Record};
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};
use proptest::prelude::*;

use crate::brokers::proposal_of;
use crate::fixtures::{cluster, run, topic, uuid};

const BROKERS: BrokerId = 4;
/// `t` is synced, `u` is not.
const TOPICS: [&str; 2] = ["t", "u"];

type Place = (usize, PartitionIndex);

#[derive(Clone, Copy, Debug)]
enum Restart {
    Clean,
    Unclean,
    Damaged,
    OtherDisk,
}

#[derive(Clone, Debug)]
enum Step {
    Register(BrokerId, Restart),
    Unregister(BrokerId),
    Fence(BrokerId),
    Unfence(BrokerId),
    ShutDown(BrokerId),
    Alter(Place, u8),
    Failed(BrokerId, Place),
    Back(BrokerId, Place),
    Elect(Place, bool),
    Rebalance,
    Reassign(Place, Vec<BrokerId>),
    Cancel(Place),
    Set(usize, &'static str, Option<&'static str>),
    Grow(usize),
    Produce(Place),
    Replicate(Place, BrokerId),
    Advance(Place),
}

fn place() -> impl Strategy<Value = Place> {
    (0..TOPICS.len(), 0..2)
}

fn step() -> impl Strategy<Value = Step> {
    let broker = || 1..=BROKERS;
    let restart = prop_oneof![
        4 => Just(Restart::Clean),
        2 => Just(Restart::Unclean),
        1 => Just(Restart::Damaged),
        1 => Just(Restart::OtherDisk),
    ];
    let target = Just((1..=BROKERS).collect::<Vec<_>>()).prop_shuffle();
    let target = (target, 1..=3usize).prop_map(|(brokers, count)| brokers[..count].to_vec());
    let setting = prop_oneof![
        3 => Just(("min.insync.replicas", Some("1"))),
        3 => Just(("min.insync.replicas", Some("2"))),
        1 => Just(("min.insync.replicas", Some("3"))),
        2 => Just(("min.insync.replicas", None)),
        1 => Just(("unclean.leader.election.enable", Some("true"))),
        2 => Just(("unclean.leader.election.enable", None)),
    ];
    prop_oneof![
        6 => (broker(), restart).prop_map(|(broker, restart)| Step::Register(broker, restart)),
        1 => broker().prop_map(Step::Unregister),
        5 => broker().prop_map(Step::Fence),
        8 => broker().prop_map(Step::Unfence),
        2 => broker().prop_map(Step::ShutDown),
        12 => (place(), any::<u8>()).prop_map(|(place, members)| Step::Alter(place, members)),
        2 => (broker(), place()).prop_map(|(broker, place)| Step::Failed(broker, place)),
        3 => (broker(), place()).prop_map(|(broker, place)| Step::Back(broker, place)),
        1 => (place(), any::<bool>()).prop_map(|(place, unclean)| Step::Elect(place, unclean)),
        1 => Just(Step::Rebalance),
        3 => (place(), target).prop_map(|(place, target)| Step::Reassign(place, target)),
        1 => place().prop_map(Step::Cancel),
        2 => (0..TOPICS.len(), setting).prop_map(|(topic, (name, value))| Step::Set(topic, name, value)),
        1 => (0..TOPICS.len()).prop_map(Step::Grow),
        10 => place().prop_map(Step::Produce),
        12 => (place(), broker()).prop_map(|(place, broker)| Step::Replicate(place, broker)),
        10 => place().prop_map(Step::Advance),
    ]
}

/// A cluster, and what its brokers have on their disks.
struct World {
    image: Image,
    log: Vec<Vec<u8>>,
    /// The end of each replica's log.
    ends: BTreeMap<(TopicId, PartitionIndex, BrokerId), u64>,
    /// What some leader has told to be committed.
    committed: BTreeMap<(TopicId, PartitionIndex), u64>,
    disks: BTreeMap<BrokerId, u64>,
    number: u64,
    /// An unclean election was asked for.
    is_asked: bool,
}

impl World {
    fn new() -> World {
        let mut image = cluster(0);
        for broker in 1..=BROKERS {
            let dirs = vec![uuid(broker as u64)];
            let command =
                RegisterBroker { broker, incarnation: uuid(broker as u64), dirs, ..RegisterBroker::default() };
            run(&mut image, &Command::RegisterBroker(command));
        }
        run(&mut image, &Command::CreateTopic(topic(TOPICS[0], 2, 3)));
        let configs = vec![("capek.flush".to_owned(), Some("async".to_owned()))];
        run(&mut image, &Command::CreateTopic(CreateTopic { configs, ..topic(TOPICS[1], 2, 2) }));
        let disks = (1..=BROKERS).map(|broker| (broker, broker as u64)).collect();
        World {
            image,
            log: Vec::new(),
            ends: BTreeMap::new(),
            committed: BTreeMap::new(),
            disks,
            number: 1_000,
            is_asked: false,
        }
    }

    fn id(&self, place: Place) -> TopicId {
        self.image.topic_by_name(TOPICS[place.0]).expect("it is never deleted").id
    }

    fn partition(&self, place: Place) -> &Partition {
        self.image.partition(self.id(place), place.1).expect("both were there from the start")
    }

    fn in_sync_min(&self, name: &str, partition: &Partition) -> usize {
        let config = self.image.topic_config(name, 1, &BTreeMap::new());
        config.min_insync_replicas_for(partition.replicas.len() as i32) as usize
    }

    fn end(&mut self, place: Place, broker: BrokerId) -> &mut u64 {
        self.ends.entry((self.id(place), place.1, broker)).or_default()
    }

    fn epoch(&self, broker: BrokerId) -> i64 {
        self.image.broker(broker).map_or(-1, |broker| broker.epoch)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Produce(place) => {
                let leader = self.partition(*place).leader;
                if leader >= 0 {
                    *self.end(*place, leader) += 1;
                }
            }
            Step::Replicate(place, broker) => self.replicate(*place, *broker),
            Step::Advance(place) => self.advance(*place),
            Step::Register(broker, restart) => self.restart(*broker, *restart),
            _ => {
                if let Some(command) = self.command(step) {
                    self.decide(&command);
                }
            }
        }
    }

    fn replicate(&mut self, place: Place, broker: BrokerId) {
        let partition = self.partition(place);
        let (leader, is_replica) = (partition.leader, partition.replicas.contains(&broker));
        let lives = self.image.broker(broker).is_some() && !partition.offline.contains(&broker);
        if is_replica && lives && leader >= 0 {
            let end = *self.end(place, leader);
            *self.end(place, broker) = end;
        }
    }

    /// The high watermark, where the in-sync set is large enough for one.
    fn advance(&mut self, place: Place) {
        let partition = self.partition(place).clone();
        if partition.leader < 0 || partition.isr.len() < self.in_sync_min(TOPICS[place.0], &partition) {
            return;
        }
        let ends = partition.isr.iter().map(|member| *self.end(place, *member));
        let end = ends.min().expect("the leader is in sync");
        let committed = self.committed.entry((self.id(place), place.1)).or_default();
        *committed = end.max(*committed);
    }

    /// A new process of this broker, and what it finds on its disk.
    fn restart(&mut self, broker: BrokerId, restart: Restart) {
        self.number += 1;
        let is_stranger = self.image.broker(broker).is_none();
        let mut command = RegisterBroker {
            broker,
            incarnation: uuid(self.number),
            fenced: true,
            previous_is_gone: true,
            ..RegisterBroker::default()
        };
        let damaged_place = (self.number as usize % 2, (self.number / 2) as i32 % 2);
        let [synced, unsynced] = [0, 1].map(|topic| self.id((topic, 0)));
        let damaged = (self.id(damaged_place), damaged_place.1);
        let loses = |topic: TopicId, index: PartitionIndex| match restart {
            Restart::Clean => is_stranger,
            Restart::Unclean => is_stranger || topic == unsynced,
            Restart::Damaged => is_stranger || (topic, index) == damaged,
            Restart::OtherDisk => topic == synced || topic == unsynced,
        };
        for ((topic, index, holder), end) in &mut self.ends {
            if *holder == broker && loses(*topic, *index) {
                *end /= 2;
            }
        }
        match restart {
            Restart::Clean => {}
            Restart::Unclean => command.unclean = true,
            Restart::Damaged => command.damaged = vec![damaged],
            Restart::OtherDisk => drop(self.disks.insert(broker, self.number)),
        }
        command.dirs = vec![uuid(self.disks[&broker])];
        self.decide(&Command::RegisterBroker(command));
    }

    fn name(place: Place) -> PartitionName {
        PartitionName { topic: TOPICS[place.0].to_owned(), partition: place.1 }
    }

    fn command(&mut self, step: &Step) -> Option<Command> {
        Some(match step {
            Step::Unregister(broker) => Command::UnregisterBroker { broker: *broker, epoch: self.epoch(*broker) },
            Step::Fence(broker) => Command::FenceBroker { broker: *broker, epoch: self.epoch(*broker) },
            Step::Unfence(broker) => Command::UnfenceBroker { broker: *broker, epoch: self.epoch(*broker) },
            Step::ShutDown(broker) => Command::ControlledShutdown { broker: *broker, epoch: self.epoch(*broker) },
            Step::Alter(place, members) => return self.alter(*place, *members),
            Step::Failed(broker, place) => Command::ReplicasFailed {
                broker: *broker,
                broker_epoch: self.epoch(*broker),
                partitions: vec![(self.id(*place), place.1)],
            },
            Step::Back(broker, place) => Command::ReplicasBack {
                broker: *broker,
                broker_epoch: self.epoch(*broker),
                partitions: vec![(self.id(*place), place.1)],
            },
            Step::Elect(place, is_unclean) => {
                let kind = if *is_unclean { ElectionKind::Unclean } else { ElectionKind::Preferred };
                Command::ElectLeaders(ElectLeaders { kind, partitions: vec![World::name(*place)] })
            }
            Step::Rebalance => return preferred_leaders_to_return(&self.image),
            Step::Reassign(place, target) => World::move_to(*place, Some(target.clone())),
            Step::Cancel(place) => World::move_to(*place, None),
            Step::Set(topic, name, value) => {
                let kind = if value.is_some() { ConfigOperationKind::Set } else { ConfigOperationKind::Delete };
                crate::brokers::change_setting(ConfigResource::topic(TOPICS[*topic]), name, kind, *value)
            }
            Step::Grow(topic) => {
                let count = self.image.topic_by_name(TOPICS[*topic])?.partitions.len() as i32 + 1;
                let topic = TOPICS[*topic].to_owned();
                Command::CreatePartitions(CreatePartitions { topic, count, ..CreatePartitions::default() })
            }
            Step::Register(..) | Step::Produce(_) | Step::Replicate(..) | Step::Advance(_) => return None,
        })
    }

    fn move_to(place: Place, replicas: Option<Vec<BrokerId>>) -> Command {
        let reassignments = vec![Reassignment { name: World::name(place), replicas }];
        Command::ReassignPartitions { reassignments, may_change_replication_factor: true }
    }

    /// Some members stay, and of the others some that hold everything join: a leader asks for nothing else.
    fn alter(&mut self, place: Place, wanted: u8) -> Option<Command> {
        let partition = self.partition(place).clone();
        let key = (self.id(place), place.1);
        let committed = self.committed.get(&key).copied().unwrap_or(0);
        let leader_end = *self.end(place, partition.leader);
        let mut members = Vec::new();
        for broker in &partition.replicas {
            let holds_everything = *self.end(place, *broker) >= committed.max(leader_end);
            let may = partition.isr.contains(broker) || holds_everything;
            if *broker == partition.leader || (may && wanted & (1 << broker) != 0) {
                members.push(*broker);
            }
        }
        (partition.leader >= 0).then(|| proposal_of(&self.image, key, &members))
    }

    fn decide(&mut self, command: &Command) {
        let Ok(Decision { records, .. }) = decide(&self.image, command) else { return };
        self.is_asked = matches!(command, Command::ElectLeaders(ElectLeaders { kind: ElectionKind::Unclean, .. }));
        for record in &records {
            let before = self.image.clone();
            self.image.apply(record);
            self.log.push(record.encode());
            if let Record::PartitionState(state) = record {
                let key = (state.topic_id, state.partition);
                if let Some(before) = before.partition(key.0, key.1) {
                    self.changed(key, before, command);
                }
            }
        }
        self.check(command);
    }

    /// One record after another: epochs rise, and only an unclean election gives something up.
    fn changed(&mut self, key: (TopicId, PartitionIndex), before: &Partition, command: &Command) {
        let after = self.image.partition(key.0, key.1).expect("it was just changed").clone();
        assert_eq!(after.partition_epoch, before.partition_epoch + 1, "{before:?} -> {after:?}");
        let rise = after.leader_epoch - before.leader_epoch;
        assert!((0..=1).contains(&rise), "{before:?} -> {after:?}");
        assert!(rise == 1 || after.leader == before.leader, "{before:?} -> {after:?}");
        for gone in before.replicas.iter().filter(|broker| !after.replicas.contains(broker)) {
            self.ends.remove(&(key.0, key.1, *gone));
            assert_eq!(rise, 1, "a replica is gone: {before:?} -> {after:?}");
        }
        let joins = |broker: &BrokerId| match command {
            Command::AlterPartitions(wanted) => wanted.partitions[0].isr.iter().any(|(member, _)| member == broker),
            _ => false,
        };
        let was_clean = |broker: &BrokerId| before.isr.contains(broker) || before.elr.contains(broker) || joins(broker);
        if after.leader >= 0 && after.leader != before.leader && !was_clean(&after.leader) {
            let allows = self.image.topic(key.0).is_some_and(|topic| {
                let config = self.image.topic_config(&topic.name, 1, &BTreeMap::new());
                config.unclean_leader_election
            });
            assert!(allows || after.replicas.len() == 1 || self.is_asked, "{before:?} -> {after:?}");
            assert_eq!((&after.isr[..], &after.elr[..]), (&[after.leader][..], &[][..]));
            let end = self.ends.get(&(key.0, key.1, after.leader)).copied().unwrap_or(0);
            self.committed.insert(key, end);
        }
    }

    fn check(&self, command: &Command) {
        for topic in self.image.topics() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let context = || format!("{}-{index} after {command:?}: {partition:?}", topic.name);
                self.check_shape(&topic.name, partition, &context);
                self.check_leader(partition, &context);
                let committed = self.committed.get(&(topic.id, index)).copied().unwrap_or(0);
                for member in partition.isr.iter().chain(&partition.elr) {
                    let end = self.ends.get(&(topic.id, index, *member)).copied().unwrap_or(0);
                    assert!(end >= committed, "{member} has {end} of {committed}: {}", context());
                }
            }
        }
    }

    fn check_shape(&self, topic: &str, partition: &Partition, context: &dyn Fn() -> String) {
        let Partition { replicas, isr, elr, last_known_elr, adding, removing, offline, dirs, .. } = partition;
        for set in [isr, elr, last_known_elr, adding, removing, offline] {
            assert!(set.iter().all(|broker| replicas.contains(broker)), "{}", context());
        }
        let mut seats: Vec<_> = isr.iter().chain(elr).chain(last_known_elr).collect();
        seats.sort_unstable();
        assert!(seats.windows(2).all(|pair| pair[0] != pair[1]), "{}", context());
        assert_eq!(dirs.len(), replicas.len(), "{}", context());
        if isr.len() >= self.in_sync_min(topic, partition) {
            assert!(elr.is_empty() && last_known_elr.is_empty(), "{}", context());
        }
        assert!(!seats.is_empty(), "{}", context());
        let lives = |broker: &BrokerId| self.image.broker(*broker).is_some_and(|known| !known.fenced);
        assert!(isr.iter().all(|broker| lives(broker) && !offline.contains(broker)), "{}", context());
        assert!(adding.iter().all(|broker| !removing.contains(broker)), "{}", context());
    }

    fn check_leader(&self, partition: &Partition, context: &dyn Fn() -> String) {
        let Partition { leader, isr, elr, offline, .. } = partition;
        if *leader >= 0 {
            assert!(isr.contains(leader), "{}", context());
            return;
        }
        let could = |broker: &&BrokerId| {
            !offline.contains(broker) && self.image.broker(**broker).is_some_and(|known| known.is_active())
        };
        assert_eq!(isr.iter().chain(elr).find(could), None, "it could lead: {}", context());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_gives_the_lead_to_one_that_misses_something(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        let start = world.image.clone();
        for step in &steps {
            world.take(step);
        }
        let mut replayed = start;
        for bytes in &world.log {
            replayed.apply(&Record::decode(bytes).expect("it was encoded"));
        }
        prop_assert_eq!(&replayed, &world.image);
        let restored = Image::from_records(world.image.records_applied(), &world.image.to_records());
        prop_assert_eq!(restored, world.image);
    }
}
