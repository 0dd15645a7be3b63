//! Images and what changed between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capek_state::cluster::{
    AlterConfigs, Command, ConfigOperation, ConfigOperationKind, ConfigResource, CreatePartitions, CreateTopic, Delta,
    Image, Partition, Record, TopicReference, decide,
};
use capek_state::config::{Flush, find_topic_config, resolve_with_origin};
use proptest::prelude::*;

use crate::fixtures::{cluster, map, run, topic, uuid};

fn apply(image: &mut Image, records: &[Record]) -> Delta {
    let mut delta = Delta::default();
    records.iter().for_each(|record| image.apply_into(record, &mut delta));
    delta
}

fn set(topic: &str, name: &str, value: &str) -> Command {
    let operation =
        ConfigOperation { name: name.to_owned(), kind: ConfigOperationKind::Set, value: Some(value.to_owned()) };
    Command::AlterConfigs(AlterConfigs { resource: ConfigResource::topic(topic), operations: vec![operation] })
}

fn delete(name: &str) -> Command {
    Command::DeleteTopic(TopicReference::Name(name.to_owned()))
}

#[test]
fn a_created_topic_is_found_by_name_and_by_id() {
    let mut image = cluster(1);
    let before = image.records_applied();
    let command = topic("orders", 3, 1);
    let records = run(&mut image, &Command::CreateTopic(command.clone())).records;
    let by_name = image.topic_by_name("orders").expect("it was created");
    assert_eq!(image.topic(command.id), Some(by_name));
    assert_eq!((by_name.partitions.len(), by_name.replication_factor()), (3, 1));
    assert!(image.partition(command.id, 2).is_some_and(|partition| partition.leader == 1));
    assert!(image.partition(command.id, 3).is_none() && image.partition(command.id, -1).is_none());
    assert_eq!(image.records_applied(), before + records.len() as u64);
    assert_eq!((image.topic_count(), image.partition_count()), (1, 3));
}

#[test]
fn a_delta_names_what_changed() {
    let mut image = cluster(1);
    let command = topic("orders", 2, 1);
    let records = decide(&image, &Command::CreateTopic(command.clone())).expect("it is legal").records;
    let delta = apply(&mut image, &records);
    let expected = Delta {
        topics_created: BTreeSet::from([command.id]),
        partitions_changed: BTreeMap::from([(command.id, BTreeSet::from([0, 1]))]),
        ..Delta::default()
    };
    assert_eq!(delta, expected);

    let records = decide(&image, &set("orders", "retention.ms", "5")).expect("it is legal").records;
    let delta = apply(&mut image, &records);
    let configs_changed = BTreeSet::from([ConfigResource::topic("orders")]);
    assert_eq!(delta, Delta { configs_changed, ..Delta::default() });

    let last = image.topic(command.id).expect("it was created").clone();
    let records = decide(&image, &delete("orders")).expect("it exists").records;
    let delta = apply(&mut image, &records);
    assert_eq!(delta, Delta { topics_deleted: BTreeMap::from([(command.id, last)]), ..Delta::default() });
    assert_eq!((image.topic_count(), image.partition_count()), (0, 0));
    assert!(apply(&mut image, &[]).is_empty());
}

#[test]
fn what_comes_and_goes_within_a_delta_leaves_no_trace() {
    let mut image = cluster(1);
    let start = image.clone();
    let mut records = run(&mut image, &Command::CreateTopic(topic("brief", 2, 1))).records;
    records.extend(run(&mut image, &set("brief", "retention.ms", "5")).records);
    records.extend(run(&mut image, &delete("brief")).records);
    let mut image = start;
    assert!(apply(&mut image, &records).is_empty());
}

#[test]
fn a_name_deleted_and_created_again_is_both_in_the_delta() {
    let mut image = cluster(1);
    let old = topic("t", 1, 1);
    run(&mut image, &Command::CreateTopic(old.clone()));
    let start = image.clone();
    let mut records = run(&mut image, &delete("t")).records;
    records.extend(run(&mut image, &Command::CreateTopic(CreateTopic { id: uuid(77), ..topic("t", 1, 1) })).records);
    let delta = apply(&mut start.clone(), &records);
    assert_eq!(delta.topics_created, BTreeSet::from([uuid(77)]));
    assert_eq!(delta.topics_deleted.keys().collect::<Vec<_>>(), [&old.id]);
}

#[test]
fn a_clone_is_not_touched_by_what_comes_later() {
    let mut image = cluster(1);
    run(&mut image, &Command::CreateTopic(topic("t", 1, 1)));
    let published = image.clone();
    let remembered = format!("{published:?}");
    run(&mut image, &set("t", "retention.ms", "5"));
    let more = CreatePartitions { topic: "t".to_owned(), count: 4, ..CreatePartitions::default() };
    run(&mut image, &Command::CreatePartitions(more));
    run(&mut image, &delete("t"));
    assert_eq!(format!("{published:?}"), remembered);
}

#[test]
fn the_settings_of_a_topic_follow_from_all_layers() {
    let mut image = cluster(1);
    run(&mut image, &Command::CreateTopic(topic("t", 1, 1)));
    let fixed = map(&[("log.retention.hours", "2"), ("capek.flush", "async"), ("message.max.bytes", "1000")]);
    let config = image.topic_config("t", 1, &fixed);
    assert_eq!((config.retention_ms, config.flush, config.max_message_bytes), (7_200_000, Flush::Async, 1000));

    let change = |resource, name: &str, value: &str| Record::ConfigChanged {
        resource,
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    image.apply(&change(ConfigResource::brokers(), "log.retention.ms", "70"));
    assert_eq!(image.topic_config("t", 1, &fixed).retention_ms, 70);
    image.apply(&change(ConfigResource::broker(1), "log.retention.ms", "60"));
    assert_eq!(image.topic_config("t", 1, &fixed).retention_ms, 60);
    assert_eq!(image.topic_config("t", 2, &fixed).retention_ms, 70, "another broker has its own");
    image.apply(&change(ConfigResource::topic("t"), "retention.ms", "50"));
    assert_eq!(image.topic_config("t", 1, &fixed).retention_ms, 50);

    let definition = find_topic_config("retention.ms").expect("it is Kafka's");
    let resolved = image.with_sources(Some("t"), 1, &fixed, |sources| resolve_with_origin(definition, sources));
    let synonyms: Vec<(&str, Option<&str>, i8)> = resolved
        .synonyms
        .iter()
        .map(|synonym| (synonym.name, synonym.value.as_deref(), synonym.source.wire_code()))
        .collect();
    let expected = [
        ("retention.ms", Some("50"), 1),
        ("log.retention.ms", Some("60"), 2),
        ("log.retention.ms", Some("70"), 3),
        ("log.retention.hours", Some("2"), 4),
        ("log.retention.hours", Some("168"), 5),
    ];
    assert_eq!(synonyms, expected);
}

#[test]
fn names_are_listed_from_anywhere() {
    let mut image = cluster(1);
    for name in ["b", "d", "a"] {
        run(&mut image, &Command::CreateTopic(topic(name, 1, 1)));
    }
    assert_eq!(image.topics().map(|topic| &*topic.name).collect::<Vec<_>>(), ["a", "b", "d"]);
    assert_eq!(image.topic_names_from("b").collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!(image.topic_names_from("c").collect::<Vec<_>>(), ["d"]);
}

/// Debug builds on a busy machine must still be far below anything quadratic.
const GENEROUS: Duration = Duration::from_secs(10);

#[test]
#[expect(clippy::disallowed_methods, reason = "the test itself looks at the clock")]
fn ten_thousand_partitions_are_applied_quickly() {
    let started = std::time::Instant::now();
    let mut image = cluster(3);
    run(&mut image, &Command::CreateTopic(topic("wide", 10_000, 3)));
    for number in 0..2_000 {
        let name = format!("narrow-{number}");
        run(&mut image, &Command::CreateTopic(CreateTopic { id: uuid(1_000_000 + number), ..topic(&name, 5, 1) }));
    }
    let published = image.clone();
    for number in 0..2_000 {
        run(&mut image, &delete(&format!("narrow-{number}")));
    }
    assert_eq!((published.partition_count(), image.partition_count()), (20_000, 10_000));
    assert!(started.elapsed() < GENEROUS, "{:?}", started.elapsed());
}

#[test]
fn a_snapshot_holds_whatever_a_record_can_say() {
    let mut image = cluster(3);
    let [orders, gone] = [topic("orders", 3, 3), topic("gone", 1, 1)];
    run(&mut image, &Command::CreateTopic(orders));
    run(&mut image, &Command::CreateTopic(gone));
    run(&mut image, &set("orders", "retention.ms", "5"));
    run(&mut image, &delete("gone"));
    run(&mut image, &Command::AllocateProducerIds { broker: 1 });
    run(&mut image, &Command::SetFeature { name: "on".to_owned(), level: 3 });
    run(&mut image, &Command::SetFeature { name: "taken.back".to_owned(), level: 0 });
    let epoch = image.broker(2).map_or(0, |broker| broker.epoch);
    run(&mut image, &Command::FenceBroker { broker: 2, epoch });
    let epoch = image.broker(3).map_or(0, |broker| broker.epoch);
    run(&mut image, &Command::UnregisterBroker { broker: 3, epoch });
    let restored = Image::from_records(image.records_applied(), &image.to_records());
    assert_eq!(restored, image);
    assert_eq!(restored.feature_level("taken.back"), Some(0));
    let delta = Delta::between(&Image::default(), &image);
    assert!(delta.cluster_created && delta.producer_ids_allocated);
    assert_eq!((delta.topics_created.len(), delta.brokers_changed.len(), delta.features_changed.len()), (1, 2, 2));
    assert_eq!(delta.configs_changed, BTreeSet::from([ConfigResource::topic("orders")]));
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, i32),
    Delete(u8),
    Grow(u8, i32),
    Configure(u8, u8),
    Allocate,
    Fence(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..6, 1i32..4).prop_map(|(name, partitions)| Step::Create(name, partitions)),
        (0u8..6).prop_map(Step::Delete),
        (0u8..6, 1i32..6).prop_map(|(name, count)| Step::Grow(name, count)),
        (0u8..6, 0u8..4).prop_map(|(name, value)| Step::Configure(name, value)),
        Just(Step::Allocate),
        any::<bool>().prop_map(Step::Fence),
    ];
    prop::collection::vec(step, 0..60)
}

fn command(image: &Image, number: usize, step: &Step) -> Command {
    let epoch = image.broker(2).map_or(0, |broker| broker.epoch);
    match step {
        Step::Create(name, partitions) => {
            let fresh = uuid(1000 + number as u64);
            Command::CreateTopic(CreateTopic { id: fresh, ..topic(&format!("t{name}"), *partitions, 1) })
        }
        Step::Delete(name) => delete(&format!("t{name}")),
        Step::Grow(name, count) => {
            let topic = format!("t{name}");
            Command::CreatePartitions(CreatePartitions { topic, count: *count, ..CreatePartitions::default() })
        }
        Step::Configure(name, value) => set(&format!("t{name}"), "retention.ms", &value.to_string()),
        Step::Allocate => Command::AllocateProducerIds { broker: 1 },
        Step::Fence(true) => Command::FenceBroker { broker: 2, epoch },
        Step::Fence(false) => Command::UnfenceBroker { broker: 2, epoch },
    }
}

proptest! {
    #[test]
    fn the_log_replayed_gives_the_same_image(steps in steps(), cut in 0usize..200) {
        let mut image = cluster(2);
        let mut log: Vec<Vec<u8>> = Vec::new();
        let start = image.clone();
        for (number, step) in steps.iter().enumerate() {
            if let Ok(decision) = decide(&image, &command(&image, number, step)) {
                for record in &decision.records {
                    image.apply(record);
                    log.push(record.encode());
                }
            }
        }
        let records: Vec<Record> = log.iter().map(|bytes| Record::decode(bytes).expect("it was encoded")).collect();
        let mut replayed = start.clone();
        apply(&mut replayed, &records);
        prop_assert_eq!(&replayed, &image);

        // And a delta over any part of the log says what differs between its ends.
        let cut = cut.min(records.len());
        let mut before = start;
        apply(&mut before, &records[..cut]);
        let mut after = before.clone();
        let delta = apply(&mut after, &records[cut..]);
        for topic in after.topics() {
            let was = before.topic(topic.id);
            prop_assert_eq!(delta.topics_created.contains(&topic.id), was.is_none());
            let changed = delta.partitions_changed.contains_key(&topic.id);
            prop_assert!(changed || was.is_some_and(|was| was.partitions == topic.partitions));
        }
        for topic in before.topics() {
            prop_assert_eq!(delta.topics_deleted.contains_key(&topic.id), after.topic(topic.id).is_none());
        }
        prop_assert_eq!(after.partition_count(), after.topics().map(|topic| topic.partitions.len()).sum::<usize>());

        // So does one without the log; what changed and changed back it cannot know.
        let between = Delta::between(&before, &after);
        prop_assert_eq!(&between.topics_created, &delta.topics_created);
        prop_assert!(between.topics_deleted.keys().eq(delta.topics_deleted.keys()));
        // A name that was deleted and is there again has lost what was configured for it.
        let is_of_a_lost_topic =
            |name: &str| delta.topics_deleted.values().any(|topic| *topic.name == *name);
        for resource in &between.configs_changed {
            prop_assert!(delta.configs_changed.contains(resource) || is_of_a_lost_topic(&resource.name));
        }
        prop_assert!(between.brokers_changed.is_subset(&delta.brokers_changed));
        for (topic, partitions) in &between.partitions_changed {
            prop_assert!(delta.partitions_changed.get(topic).is_some_and(|noted| partitions.is_subset(noted)));
        }
        prop_assert_eq!(Delta::between(&after, &after), Delta::default());

        // A snapshot is the same image again.
        let restored = Image::from_records(after.records_applied(), &after.to_records());
        prop_assert_eq!(restored, after);
    }
}

#[test]
fn a_replica_is_done_without_where_another_leads_and_nobody_counts_on_it() {
    let partition = |leader, isr: &[i32], elr: &[i32]| Partition {
        replicas: vec![1, 2, 3],
        isr: isr.to_vec(),
        leader,
        leader_epoch: 0,
        partition_epoch: 0,
        dirs: Vec::new(),
        elr: elr.to_vec(),
        last_known_elr: vec![1],
        adding: Vec::new(),
        removing: Vec::new(),
        offline: vec![1],
    };
    assert!(partition(2, &[2, 3], &[]).can_do_without(1));
    assert!(!partition(2, &[1, 2], &[]).can_do_without(1), "it is in sync");
    assert!(!partition(2, &[2], &[1]).can_do_without(1), "it may be elected");
    assert!(!partition(-1, &[], &[]).can_do_without(1), "nobody has what it has");
    assert!(!partition(1, &[1], &[]).can_do_without(1), "it leads");
}
