//! Creating and deleting topics, adding partitions. The codes and words were taken from a Kafka 4.3.

use capek_state::cluster::{
    Assignment, Command, CreatePartitions, CreateTopic, Image, Outcome, PartitionRecord, Record, TopicDefaults,
    TopicReference, decide,
};
use capek_wire::ErrorCode;
use capek_wire::ids::Uuid;

use crate::fixtures::{assert_refused, cluster, run, topic, uuid};

fn create(image: &Image, command: CreateTopic) -> Result<capek_state::cluster::Decision, capek_state::Refusal> {
    decide(image, &Command::CreateTopic(command))
}

#[track_caller]
fn refused(image: &Image, command: CreateTopic, code: ErrorCode, message: &str) {
    assert_refused(create(image, command), code, message);
}

fn with_configs(name: &str, configs: &[(&str, Option<&str>)]) -> CreateTopic {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    CreateTopic { configs, ..topic(name, 1, 1) }
}

fn by_hand(name: &str, assignments: &[(i32, &[i32])]) -> CreateTopic {
    let of = |(partition, brokers): &(i32, &[i32])| Assignment { partition: *partition, brokers: brokers.to_vec() };
    CreateTopic { assignments: assignments.iter().map(of).collect(), ..topic(name, -1, -1) }
}

#[test]
fn a_topic_is_its_record_then_its_configuration_then_its_partitions() {
    let image = cluster(1);
    let command = CreateTopic { id: uuid(5), ..with_configs("orders", &[("retention.ms", Some("5000"))]) };
    let decision = create(&image, CreateTopic { partitions: 2, ..command }).expect("nothing is wrong with it");
    let partition = |partition| {
        Record::Partition(PartitionRecord {
            topic_id: uuid(5),
            partition,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            dirs: vec![Uuid::ZERO],
        })
    };
    let config = Record::ConfigChanged {
        resource: capek_state::cluster::ConfigResource::topic("orders"),
        name: "retention.ms".to_owned(),
        value: Some("5000".to_owned()),
    };
    let topic = Record::Topic { topic_id: uuid(5), name: "orders".to_owned() };
    assert_eq!(decision.records, [topic, config, partition(0), partition(1)]);
    assert_eq!(decision.outcome, Outcome::TopicCreated { topic_id: uuid(5), partitions: 2, replication_factor: 1 });
    assert_eq!(decision.warnings, [] as [String; 0]);
}

#[test]
fn illegal_names_are_refused_in_kafkas_words() {
    let image = cluster(1);
    let check =
        |name: &str, message: &str| refused(&image, topic(name, 1, 1), ErrorCode::InvalidTopicException, message);
    check("", "Topic name is invalid: the empty string is not allowed");
    check(".", "Topic name is invalid: '.' is not allowed");
    check("..", "Topic name is invalid: '..' is not allowed");
    let characters = "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
    check("a b", &format!("Topic name is invalid: 'a b' {characters}"));
    check("../x", &format!("Topic name is invalid: '../x' {characters}"));
    check("čapek", &format!("Topic name is invalid: 'čapek' {characters}"));
    let long = "x".repeat(250);
    check(&long, &format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249"));
    assert!(create(&image, topic(&"x".repeat(249), 1, 1)).is_ok());
}

#[test]
fn a_name_is_taken_once() {
    let mut image = cluster(1);
    run(&mut image, &Command::CreateTopic(topic("t", 1, 1)));
    refused(&image, topic("t", 1, 1), ErrorCode::TopicAlreadyExists, "Topic 't' already exists.");
    let also_wrong = with_configs("t", &[("retention.ms", Some("abc"))]);
    refused(&image, also_wrong, ErrorCode::TopicAlreadyExists, "Topic 't' already exists.");
}

#[test]
fn dots_and_underscores_collide() {
    let mut image = cluster(1);
    for name in ["a.b", "c.d.e", "plain", "zz_"] {
        run(&mut image, &Command::CreateTopic(topic(name, 1, 1)));
    }
    let check = |name: &str, other: &str| {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        refused(&image, topic(name, 1, 1), ErrorCode::InvalidTopicException, &message);
    };
    check("a_b", "a.b");
    check("c_d.e", "c.d.e");
    check("c.d_e", "c.d.e");
    check("zz.", "zz_");
    for name in ["c_d_x", "a-b", "ab", "a.b.c", "plain_", "_", "."] {
        let refused_for_collision = create(&image, topic(name, 1, 1))
            .is_err_and(|refusal| refusal.message.is_some_and(|message| message.contains("collides")));
        assert!(!refused_for_collision, "{name}");
    }
}

#[test]
fn the_metadata_topic_is_nobodys() {
    let message = "Creation of internal topic __cluster_metadata is prohibited.";
    refused(&cluster(1), topic("__cluster_metadata", 1, 1), ErrorCode::InvalidRequest, message);
    assert!(create(&cluster(1), topic("__consumer_offsets", 1, 1)).is_ok());
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let image = cluster(1);
    let factor = "Replication factor must be larger than 0, or -1 to use the default value.";
    let count = "Number of partitions was set to an invalid non-positive value.";
    refused(&image, topic("t", 1, 0), ErrorCode::InvalidReplicationFactor, factor);
    refused(&image, topic("t", 1, -2), ErrorCode::InvalidReplicationFactor, factor);
    refused(&image, topic("t", -2, -2), ErrorCode::InvalidReplicationFactor, factor);
    refused(&image, topic("t", 0, 1), ErrorCode::InvalidPartitions, count);
    refused(&image, topic("t", -2, 1), ErrorCode::InvalidPartitions, count);
    let excessive = "Excessively large number of partitions per request.";
    refused(&image, topic("t", 10_001, 1), ErrorCode::PolicyViolation, excessive);
    assert!(create(&image, topic("t", 10_000, 1)).is_ok());
}

#[test]
fn more_replicas_than_brokers_are_refused_when_asked_for() {
    refused(
        &cluster(1),
        topic("t", 1, 2),
        ErrorCode::InvalidReplicationFactor,
        "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because only \
         1 broker(s) are registered or some brokers have all their log directories cordoned.",
    );
}

#[test]
fn more_replicas_than_brokers_are_fewer_when_configured() {
    let defaults = TopicDefaults { partitions: 4, replication_factor: 3 };
    let command = CreateTopic { defaults, ..topic("t", -1, -1) };
    let decision = create(&cluster(1), command.clone()).expect("configuration is capped");
    let outcome = Outcome::TopicCreated { topic_id: command.id, partitions: 4, replication_factor: 1 };
    assert_eq!(decision.outcome, outcome);
    let warning = "topic t gets 1 replicas instead of the configured 3: that is how many brokers there are";
    assert_eq!(decision.warnings, [warning]);
    let decision = create(&cluster(3), command).expect("there are enough");
    assert_eq!(decision.warnings, [] as [String; 0]);
}

#[test]
fn configuration_is_judged_before_numbers_and_names_before_values() {
    let image = cluster(1);
    let unknown = CreateTopic { partitions: 0, ..with_configs("t", &[("foo", Some("bar"))]) };
    refused(&image, unknown, ErrorCode::InvalidConfig, "Unknown topic config name: foo");
    let both = with_configs("t", &[("retention.ms", Some("abc")), ("zoo", Some("bar"))]);
    refused(&image, both, ErrorCode::InvalidConfig, "Unknown topic config name: zoo");
    let value = CreateTopic { replication_factor: 3, ..with_configs("t", &[("retention.ms", Some("abc"))]) };
    let message = "Invalid value abc for configuration retention.ms: Not a number of type LONG";
    refused(&image, value, ErrorCode::InvalidConfig, message);
    let null = with_configs("t", &[("retention.ms", None)]);
    refused(&image, null, ErrorCode::InvalidConfig, "Null value not supported for topic configs: retention.ms");
}

#[test]
fn replicas_by_hand_are_taken_as_they_are() {
    let decision = create(&cluster(2), by_hand("t", &[(1, &[2, 1]), (0, &[1, 2])])).expect("all of it exists");
    let replicas: Vec<_> = decision
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Partition(partition) => Some((partition.partition, partition.replicas.clone(), partition.leader)),
            _ => None,
        })
        .collect();
    assert_eq!(replicas, [(0, vec![1, 2], 1), (1, vec![2, 1], 2)]);
    assert!(matches!(decision.outcome, Outcome::TopicCreated { partitions: 2, replication_factor: 2, .. }));
}

#[test]
fn replicas_by_hand_must_make_sense() {
    let image = cluster(2);
    let check = |assignments: &[(i32, &[i32])], message: &str| {
        refused(&image, by_hand("t", assignments), ErrorCode::InvalidReplicaAssignment, message);
    };
    let gap = "partitions should be a consecutive 0-based integer sequence";
    check(&[(0, &[1]), (2, &[1])], gap);
    check(&[(1, &[1])], gap);
    check(&[(-1, &[1])], gap);
    check(&[(0, &[1]), (0, &[2])], "Found multiple manual partition assignments for partition 0");
    let unknown = "The manual partition assignment includes broker 9, but no such broker is registered.";
    check(&[(0, &[9])], unknown);
    check(&[(0, &[1]), (1, &[1, 9])], unknown);
    check(&[(0, &[-1])], "The manual partition assignment includes broker -1, but no such broker is registered.");
    check(&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once.");
    check(&[(0, &[])], "The manual partition assignment includes an empty replica list.");
    let uneven = "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with previous partitions, which have 1 replica(s).";
    check(&[(0, &[1]), (1, &[1, 2])], uneven);
    let numbers_too = CreateTopic { partitions: 1, ..by_hand("t", &[(0, &[1])]) };
    let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    refused(&image, numbers_too, ErrorCode::InvalidRequest, message);
    let factor_too = CreateTopic { replication_factor: 1, ..by_hand("t", &[(0, &[1])]) };
    let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
    refused(&image, factor_too, ErrorCode::InvalidRequest, message);
}

#[test]
fn fenced_brokers_hold_replicas_but_are_not_in_sync() {
    let mut image = cluster(2);
    let epoch = image.broker(1).expect("it is registered").epoch;
    run(&mut image, &Command::FenceBroker { broker: 1, epoch });
    run(&mut image, &Command::CreateTopic(by_hand("t", &[(0, &[1, 2])])));
    let created = image.topic_by_name("t").expect("it was created");
    assert_eq!((created.partitions[0].isr.clone(), created.partitions[0].leader), (vec![2], 2));
    let message = "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled shutdown.";
    refused(&image, by_hand("u", &[(0, &[1])]), ErrorCode::InvalidReplicaAssignment, message);
}

fn grow(image: &Image, count: i32, assignments: Option<&[&[i32]]>) -> Result<usize, capek_state::Refusal> {
    let assignments = assignments.map(|lists| lists.iter().map(|brokers| brokers.to_vec()).collect());
    let command = CreatePartitions { topic: "t".to_owned(), count, assignments, seed: 0, now_ms: 0 };
    decide(image, &Command::CreatePartitions(command)).map(|decision| decision.records.len())
}

#[test]
fn partitions_are_added_behind_the_others() {
    let mut image = cluster(2);
    run(&mut image, &Command::CreateTopic(topic("t", 2, 2)));
    let command = CreatePartitions { topic: "t".to_owned(), count: 5, ..CreatePartitions::default() };
    let decision = run(&mut image, &Command::CreatePartitions(command));
    assert_eq!(decision.records.len(), 4);
    let grown = image.topic_by_name("t").expect("it was created");
    assert_eq!(grown.partitions.len(), 5);
    assert!(grown.partitions.iter().all(|partition| partition.replicas.len() == 2));
    assert_eq!(grow(&image, 6, Some(&[&[2, 1]])), Ok(2));
}

#[test]
fn a_topic_knows_how_many_partitions_it_had() {
    let mut image = cluster(1);
    run(&mut image, &Command::CreateTopic(topic("t", 2, 1)));
    let mut grow = |count, now_ms| {
        let command = CreatePartitions { topic: "t".to_owned(), count, now_ms, ..CreatePartitions::default() };
        let decision = run(&mut image, &Command::CreatePartitions(command));
        let topic = image.topic_by_name("t").expect("it was created").clone();
        assert_eq!(Image::from_records(0, &image.to_records()).topic_by_name("t"), Some(&topic));
        (decision.records[0].clone(), topic)
    };
    let (record, grown) = grow(3, 100);
    assert_eq!(record, Record::TopicGrew { topic_id: grown.id, partitions: 2, at_ms: 100 });
    let (_, grown) = grow(5, 200);
    let since = |since_ms| grown.counts_since(since_ms).collect::<Vec<_>>();
    assert_eq!((since(100), since(101), since(201)), (vec![3, 2], vec![3], vec![]));
    let last = (6..30).map(|count| grow(count, 300).1).last().expect("it grew");
    assert_eq!(last.counts_since(0).collect::<Vec<_>>(), (13..29).rev().collect::<Vec<_>>(), "the newest");
}

#[test]
fn a_topic_only_grows_and_by_as_many_as_are_assigned() {
    let mut image = cluster(2);
    run(&mut image, &Command::CreateTopic(topic("t", 2, 2)));
    let check = |count, assignments: Option<&[&[i32]]>, code, message: &str| {
        assert_refused(grow(&image, count, assignments), code, message);
    };
    let invalid = ErrorCode::InvalidPartitions;
    check(2, None, invalid, "Topic already has 2 partition(s).");
    check(2, Some(&[]), invalid, "Topic already has 2 partition(s).");
    check(1, None, invalid, "The topic t currently has 2 partition(s); 1 would not be an increase.");
    check(-1, None, invalid, "The topic t currently has 2 partition(s); -1 would not be an increase.");
    check(10_003, None, ErrorCode::PolicyViolation, "Excessively large number of partitions per request.");
    let assignment = ErrorCode::InvalidReplicaAssignment;
    let attempted = |added, given| {
        format!("Attempted to add {added} additional partition(s), but only {given} assignment(s) were specified.")
    };
    check(4, Some(&[&[1, 2]]), assignment, &attempted(2, 1));
    check(3, Some(&[&[1, 2], &[1, 2]]), assignment, &attempted(1, 2));
    check(3, Some(&[]), assignment, &attempted(1, 0));
    check(
        3,
        Some(&[&[1]]),
        assignment,
        "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with previous partitions, which have 2 replica(s).",
    );
    check(
        3,
        Some(&[&[1, 7]]),
        assignment,
        "The manual partition assignment includes broker 7, but no such broker is registered.",
    );
    check(3, Some(&[&[1, 1]]), assignment, "The manual partition assignment includes the broker 1 more than once.");
    check(3, Some(&[&[]]), assignment, "The manual partition assignment includes an empty replica list.");
    let unknown = CreatePartitions { topic: "nope".to_owned(), count: 2, ..CreatePartitions::default() };
    assert_refused(decide(&image, &Command::CreatePartitions(unknown)), ErrorCode::UnknownTopicOrPartition, "");
}

#[test]
fn a_topic_is_deleted_by_name_or_id() {
    let mut image = cluster(1);
    let created = topic("t", 3, 1);
    run(&mut image, &Command::CreateTopic(created.clone()));
    for reference in [TopicReference::Name("t".to_owned()), TopicReference::Id(created.id)] {
        let decision = decide(&image, &Command::DeleteTopic(reference)).expect("it exists");
        assert_eq!(decision.records, [Record::TopicDeleted { topic_id: created.id }]);
        assert_eq!(decision.outcome, Outcome::TopicDeleted { topic_id: created.id, name: "t".to_owned() });
    }
    let unknown_name = Command::DeleteTopic(TopicReference::Name("nope".to_owned()));
    assert_refused(decide(&image, &unknown_name), ErrorCode::UnknownTopicOrPartition, "");
    let unknown_id = Command::DeleteTopic(TopicReference::Id(uuid(4711)));
    assert_refused(decide(&image, &unknown_id), ErrorCode::UnknownTopicId, "");
}

#[test]
fn a_deleted_name_can_come_back_with_another_id() {
    let mut image = cluster(1);
    let created = with_configs("t", &[("retention.ms", Some("5000"))]);
    run(&mut image, &Command::CreateTopic(created));
    run(&mut image, &Command::DeleteTopic(TopicReference::Name("t".to_owned())));
    run(&mut image, &Command::CreateTopic(CreateTopic { id: uuid(99), ..topic("t", 1, 1) }));
    assert_eq!(image.topic_by_name("t").map(|topic| topic.id), Some(uuid(99)));
    let configs = image.configs(&capek_state::cluster::ConfigResource::topic("t"));
    assert!(configs.is_empty(), "the configuration of the old one is not inherited");
}
