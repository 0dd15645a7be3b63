//! What happens to brokers, in one word each, and partitions as one line that shows everything that is not as usual.

use capek_state::Refusal;
use capek_state::cluster::{
    AlterConfigs, AlterPartition, AlterPartitions, Command, ConfigOperation, ConfigOperationKind, ConfigResource,
    CreateTopic, Decision, Image, Outcome, PartitionRecord, Record, RegisterBroker, decide,
};
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId, Uuid};

use crate::fixtures::{apply, cluster, run, topic, uuid};

/// Brokers 1 to 3; the partitions of `t` lie on these brokers.
pub fn three(replicas: &[&[BrokerId]]) -> Image {
    placed(cluster(3), replicas)
}

/// They need not be alike.
pub fn placed(mut image: Image, replicas: &[&[BrokerId]]) -> Image {
    let CreateTopic { id, name, .. } = topic("t", -1, -1);
    image.apply(&Record::Topic { topic_id: id, name });
    for (partition, brokers) in (0..).zip(replicas) {
        image.apply(&Record::Partition(PartitionRecord {
            topic_id: id,
            partition,
            replicas: brokers.to_vec(),
            isr: brokers.to_vec(),
            leader: brokers[0],
            leader_epoch: 0,
            partition_epoch: 0,
            dirs: vec![Uuid::ZERO; brokers.len()],
        }));
    }
    image
}

pub fn id_of_t(image: &Image) -> TopicId {
    image.topic_by_name("t").expect("it was created").id
}

fn list(brokers: &[BrokerId]) -> String {
    brokers.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(",")
}

/// `leader@leader-epoch.partition-epoch of replicas, in sync members`, and what else there is.
pub fn line_of(image: &Image, index: PartitionIndex) -> String {
    let partition = image.partition(id_of_t(image), index).expect("it was created");
    let mut line = format!("{}@{}.{}", partition.leader, partition.leader_epoch, partition.partition_epoch);
    line += &format!(" of {}, in sync {}", list(&partition.replicas), list(&partition.isr));
    let rest = [
        ("eligible", &partition.elr),
        ("last known", &partition.last_known_elr),
        ("adding", &partition.adding),
        ("removing", &partition.removing),
        ("offline", &partition.offline),
    ];
    for (word, brokers) in rest.into_iter().filter(|(_, brokers)| !brokers.is_empty()) {
        line += &format!(", {word} {}", list(brokers));
    }
    line
}

/// Of partition 0.
pub fn line(image: &Image) -> String {
    line_of(image, 0)
}

pub fn epoch(image: &Image, broker: BrokerId) -> i64 {
    image.broker(broker).expect("it is registered").epoch
}

pub fn fence(image: &mut Image, broker: BrokerId) -> Decision {
    let epoch = epoch(image, broker);
    run(image, &Command::FenceBroker { broker, epoch })
}

pub fn unfence(image: &mut Image, broker: BrokerId) -> Decision {
    let epoch = epoch(image, broker);
    run(image, &Command::UnfenceBroker { broker, epoch })
}

pub fn shut_down(image: &mut Image, broker: BrokerId) -> Outcome {
    let epoch = epoch(image, broker);
    run(image, &Command::ControlledShutdown { broker, epoch }).outcome
}

/// The registration of a new process that begins fenced.
pub fn restart(image: &Image, broker: BrokerId) -> RegisterBroker {
    let incarnation = uuid(1_000 + image.records_applied());
    let dirs = image.broker(broker).map_or(Vec::new(), |known| known.dirs.clone());
    RegisterBroker { broker, incarnation, dirs, fenced: true, previous_is_gone: true, ..RegisterBroker::default() }
}

pub fn register(image: &mut Image, command: RegisterBroker) -> Decision {
    run(image, &Command::RegisterBroker(command))
}

/// What the leader that the image names asks, at its present epochs.
pub fn proposal(image: &Image, index: PartitionIndex, members: &[BrokerId]) -> AlterPartition {
    wish(image, (id_of_t(image), index), members)
}

fn wish(image: &Image, (topic_id, index): (TopicId, PartitionIndex), members: &[BrokerId]) -> AlterPartition {
    let partition = image.partition(topic_id, index).expect("it was created");
    AlterPartition {
        topic_id,
        partition: index,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        isr: members.iter().map(|member| (*member, image.broker(*member).map_or(-1, |broker| broker.epoch))).collect(),
    }
}

/// The same of any partition, as a command.
pub fn proposal_of(image: &Image, key: (TopicId, PartitionIndex), members: &[BrokerId]) -> Command {
    let broker = image.partition(key.0, key.1).expect("it was created").leader;
    let broker_epoch = epoch(image, broker);
    Command::AlterPartitions(AlterPartitions { broker, broker_epoch, partitions: vec![wish(image, key, members)] })
}

/// The records, and what each proposal was answered with.
pub fn propose(
    image: &Image,
    broker: BrokerId,
    partitions: Vec<AlterPartition>,
) -> (Vec<Record>, Vec<Result<(), Refusal>>) {
    let command = AlterPartitions { broker, broker_epoch: epoch(image, broker), partitions };
    let decision = decide(image, &Command::AlterPartitions(command)).expect("they are judged one by one");
    match decision.outcome {
        Outcome::Each(outcomes) => (decision.records, outcomes),
        other => panic!("{other:?}"),
    }
}

/// The leader of partition 0 says who is in sync.
pub fn in_sync(image: &mut Image, members: &[BrokerId]) -> Result<(), Refusal> {
    let leader = image.partition(id_of_t(image), 0).expect("it was created").leader;
    let (records, mut outcomes) = propose(image, leader, vec![proposal(image, 0, members)]);
    apply(image, &records);
    outcomes.remove(0)
}

pub fn change_setting(resource: ConfigResource, name: &str, kind: ConfigOperationKind, value: Option<&str>) -> Command {
    let operation = ConfigOperation { name: name.to_owned(), kind, value: value.map(str::to_owned) };
    Command::AlterConfigs(AlterConfigs { resource, operations: vec![operation] })
}

pub fn set(image: &mut Image, resource: ConfigResource, name: &str, value: &str) -> Decision {
    run(image, &change_setting(resource, name, ConfigOperationKind::Set, Some(value)))
}

pub fn set_on_t(image: &mut Image, name: &str, value: &str) -> Decision {
    set(image, ConfigResource::topic("t"), name, value)
}
