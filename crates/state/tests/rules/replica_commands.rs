//! Elections and reassignments. The codes and words were taken from a Kafka 4.3.

use capek_state::Refusal;
use capek_state::cluster::{
    Assignment, Command, CreateTopic, Decision, ElectLeaders, ElectionKind, Image, Outcome, PartitionName,
    PartitionRecord, PartitionStateRecord, Reassignment, Record, decide,
};
use capek_wire::ErrorCode;
use capek_wire::ids::Uuid;

use crate::fixtures::{apply, assert_refused, cluster, run, topic};

/// Brokers 1 to 3; partition 0 of `t` lies on 1, 2 and 3 and is led by 1.
fn image() -> Image {
    let mut image = cluster(3);
    let assignments = vec![Assignment { partition: 0, brokers: vec![1, 2, 3] }];
    run(&mut image, &Command::CreateTopic(CreateTopic { assignments, ..topic("t", -1, -1) }));
    image
}

fn state(image: &Image) -> PartitionRecord {
    let topic = image.topic_by_name("t").expect("it was created");
    let partition = topic.partition(0).expect("it has one");
    PartitionRecord {
        topic_id: topic.id,
        partition: 0,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        dirs: partition.dirs.clone(),
    }
}

fn name(topic: &str, partition: i32) -> PartitionName {
    PartitionName { topic: topic.to_owned(), partition }
}

/// The records, and what each was answered with.
fn outcome(decision: Decision) -> (Vec<Record>, Vec<Result<(), Refusal>>) {
    match decision.outcome {
        Outcome::Each(outcomes) => (decision.records, outcomes),
        other => panic!("{other:?}"),
    }
}

fn elect(image: &Image, kind: ElectionKind, partitions: Vec<PartitionName>) -> (Vec<Record>, Vec<Result<(), Refusal>>) {
    let command = Command::ElectLeaders(ElectLeaders { kind, partitions });
    outcome(decide(image, &command).expect("partitions are judged one by one"))
}

fn reassign(image: &Image, partition: PartitionName, replicas: Option<&[i32]>) -> (Vec<Record>, Result<(), Refusal>) {
    let reassignments = vec![Reassignment { name: partition, replicas: replicas.map(<[i32]>::to_vec) }];
    let command = Command::ReassignPartitions { reassignments, may_change_replication_factor: true };
    let (records, mut outcomes) = outcome(decide(image, &command).expect("partitions are judged one by one"));
    (records, outcomes.remove(0))
}

/// What a decision writes: the same, and nothing of a cluster.
fn whole(record: PartitionRecord) -> Record {
    let PartitionRecord { topic_id, partition, replicas, isr, leader, leader_epoch, partition_epoch, dirs } = record;
    Record::PartitionState(PartitionStateRecord {
        topic_id,
        partition,
        replicas,
        isr,
        elr: Vec::new(),
        last_known_elr: Vec::new(),
        leader,
        leader_epoch,
        partition_epoch,
        adding: Vec::new(),
        removing: Vec::new(),
        dirs,
        offline: Vec::new(),
    })
}

#[test]
fn an_election_without_need_is_said_to_be_one() {
    let image = image();
    for kind in [ElectionKind::Preferred, ElectionKind::Unclean] {
        let (records, outcomes) = elect(&image, kind, vec![name("t", 0), name("t", 9), name("u", 0)]);
        assert_eq!(records, []);
        let expected = [
            (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition."),
            (ErrorCode::UnknownTopicOrPartition, "No such partition as t-9"),
            (ErrorCode::UnknownTopicOrPartition, "No such topic as u"),
        ];
        for (outcome, (code, message)) in outcomes.into_iter().zip(expected) {
            assert_refused(outcome, code, message);
        }
    }
}

#[test]
fn the_preferred_replica_is_elected_once_it_is_in_sync() {
    let mut image = image();
    let led_by_two =
        PartitionRecord { leader: 2, isr: vec![2, 3], leader_epoch: 1, partition_epoch: 1, ..state(&image) };
    apply(&mut image, &[Record::Partition(led_by_two.clone())]);
    let (_, outcomes) = elect(&image, ElectionKind::Preferred, vec![name("t", 0)]);
    assert_eq!(outcomes, [Err(Refusal::bare(ErrorCode::PreferredLeaderNotAvailable))]);

    let in_sync = PartitionRecord { isr: vec![2, 3, 1], partition_epoch: 2, ..led_by_two };
    apply(&mut image, &[Record::Partition(in_sync.clone())]);
    let (records, outcomes) = elect(&image, ElectionKind::Preferred, vec![name("t", 0), name("t", 0)]);
    let elected = PartitionRecord { leader: 1, leader_epoch: 2, partition_epoch: 3, ..in_sync };
    assert_eq!(records, [whole(elected)]);
    assert_eq!(outcomes[0], Ok(()));
    assert_eq!(outcomes[1].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::ElectionNotNeeded));
}

#[test]
fn an_unclean_election_takes_a_replica_in_sync_before_any_other() {
    let mut image = image();
    let leaderless = PartitionRecord { leader: -1, isr: vec![3], ..state(&image) };
    apply(&mut image, &[Record::Partition(leaderless.clone())]);
    let leader = |image: &Image| match &elect(image, ElectionKind::Unclean, vec![name("t", 0)]).0[..] {
        [Record::PartitionState(elected)] => (elected.leader, elected.isr.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(leader(&image), (3, vec![3]));
    let epoch = image.broker(3).expect("registered").epoch;
    run(&mut image, &Command::FenceBroker { broker: 3, epoch });
    assert_eq!(leader(&image), (1, vec![1]), "what 3 had is given up");
}

#[test]
fn a_reassignment_to_what_is_changes_nothing() {
    assert_eq!(reassign(&image(), name("t", 0), Some(&[1, 2, 3])), (vec![], Ok(())));
}

#[test]
fn another_order_makes_another_replica_the_preferred_one() {
    let mut image = image();
    let dirs = vec![Uuid([1; 16]), Uuid([2; 16]), Uuid([3; 16])];
    let placed = PartitionRecord { dirs, ..state(&image) };
    apply(&mut image, &[Record::Partition(placed)]);
    let (records, outcome) = reassign(&image, name("t", 0), Some(&[3, 1, 2]));
    assert_eq!(outcome, Ok(()));
    let dirs = vec![Uuid([3; 16]), Uuid([1; 16]), Uuid([2; 16])];
    let reordered = PartitionRecord { replicas: vec![3, 1, 2], dirs, partition_epoch: 1, ..state(&image) };
    assert_eq!(records, [whole(reordered)]);
}

#[test]
fn reassignments_are_refused_in_kafkas_words() {
    let image = image();
    let refused = |partition: PartitionName, replicas: Option<&[i32]>, code, message: &str| {
        let (records, outcome) = reassign(&image, partition, replicas);
        assert_eq!(records, []);
        assert_refused(outcome, code, message);
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let invalid = ErrorCode::InvalidReplicaAssignment;
    let manual = "The manual partition assignment includes";
    refused(name("u", 0), Some(&[1]), unknown, "Unable to find a topic named u.");
    refused(name("u", 0), None, unknown, "Unable to find a topic named u.");
    refused(name("t", 9), None, unknown, "Unable to find partition t:9.");
    refused(name("t", 0), None, ErrorCode::NoReassignmentInProgress, "");
    refused(name("t", 0), Some(&[9]), invalid, &format!("{manual} broker 9, but no such broker is registered."));
    refused(name("t", 0), Some(&[]), invalid, &format!("{manual} an empty replica list."));
    refused(name("t", 0), Some(&[1, 1]), invalid, &format!("{manual} the broker 1 more than once."));
}

#[test]
fn the_replication_factor_stays_when_it_must() {
    let image = image();
    let reassignments = vec![Reassignment { name: name("t", 0), replicas: Some(vec![1, 2]) }];
    let command = Command::ReassignPartitions { reassignments, may_change_replication_factor: false };
    let (_, mut outcomes) = outcome(decide(&image, &command).expect("partitions are judged one by one"));
    let message = "The replication factor is changed from 3 to 2";
    assert_refused(outcomes.remove(0), ErrorCode::InvalidReplicationFactor, message);
}
