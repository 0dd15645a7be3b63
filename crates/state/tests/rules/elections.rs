//! Who leads when brokers go and come back. Below, a line tells a partition: `leader@leader-epoch.partition-epoch of …`.

use capek_state::cluster::{
    Command, ConfigResource, ElectLeaders, ElectionKind, Image, Outcome, PartitionName, Record, decide,
    elections_by_file, preferred_leaders_to_return,
};
use capek_wire::ErrorCode;

use crate::brokers::{
    epoch, fence, in_sync, line, line_of, placed, register, restart, set, set_on_t, shut_down, three, unfence,
};
use crate::fixtures::{cluster, run};

const ALL: &[i32] = &[1, 2, 3];

#[test]
fn what_a_fenced_broker_led_is_led_by_the_next_replica_in_sync() {
    let mut image = three(&[ALL, &[2, 1, 3], &[2, 3]]);
    let decision = fence(&mut image, 1);
    assert_eq!(line_of(&image, 0), "2@1.1 of 1,2,3, in sync 2,3");
    assert_eq!(line_of(&image, 1), "2@0.1 of 2,1,3, in sync 2,3");
    assert_eq!(line_of(&image, 2), "2@0.0 of 2,3, in sync 2,3");
    assert_eq!(decision.records.len(), 3, "what it has nothing to do with is not touched");
}

#[test]
fn who_left_a_small_in_sync_set_is_eligible() {
    let mut image = three(&[ALL]);
    fence(&mut image, 3);
    assert_eq!(line(&image), "1@0.1 of 1,2,3, in sync 1,2", "two are enough: 3 may miss what they commit");
    fence(&mut image, 2);
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1, eligible 2");
    fence(&mut image, 1);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2");
}

#[test]
fn a_leaderless_partition_waits_for_one_that_holds_everything() {
    let mut image = three(&[ALL]);
    [3, 2, 1].into_iter().for_each(|broker| drop(fence(&mut image, broker)));
    assert_eq!(unfence(&mut image, 3).records.len(), 1, "3 may miss something: it leads nothing");
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2");
    unfence(&mut image, 2);
    assert_eq!(line(&image), "2@2.4 of 1,2,3, in sync 2, eligible 1");
    unfence(&mut image, 1);
    assert_eq!(line(&image), "2@2.4 of 1,2,3, in sync 2, eligible 1", "it catches up first");
    assert_eq!(in_sync(&mut image, &[2, 1]), Ok(()));
    assert_eq!(line(&image), "2@2.5 of 1,2,3, in sync 1,2");
}

#[test]
fn one_of_two_brokers_goes_on_alone_and_the_other_is_not_eligible() {
    let mut image = three(&[&[1, 2]]);
    fence(&mut image, 1);
    assert_eq!(line(&image), "2@1.1 of 1,2, in sync 2", "of two replicas one is enough: 1 misses what comes now");
    fence(&mut image, 2);
    assert_eq!(line(&image), "-1@2.2 of 1,2, in sync , eligible 2");
    unfence(&mut image, 1);
    assert_eq!(line(&image), "-1@2.2 of 1,2, in sync , eligible 2");
}

#[test]
fn a_new_process_of_a_broker_begins_as_if_it_had_been_fenced() {
    let mut image = three(&[ALL]);
    let old_epoch = epoch(&image, 1);
    let command = restart(&image, 1);
    let decision = register(&mut image, command);
    let expected = image.records_applied() as i64 - decision.records.len() as i64;
    assert_eq!(decision.outcome, Outcome::BrokerRegistered { epoch: expected });
    assert!(expected > old_epoch);
    assert_eq!(epoch(&image, 1), expected);
    assert_eq!(line(&image), "2@1.1 of 1,2,3, in sync 2,3");
    unfence(&mut image, 1);
    assert_eq!(line(&image), "2@1.1 of 1,2,3, in sync 2,3");
}

#[test]
fn a_broker_that_restarts_alone_keeps_what_only_it_has() {
    let mut image = three(&[ALL, &[1]]);
    fence(&mut image, 3);
    fence(&mut image, 2);
    let command = restart(&image, 1);
    register(&mut image, command);
    assert_eq!(line_of(&image, 0), "-1@1.3 of 1,2,3, in sync , eligible 1,2");
    assert_eq!(line_of(&image, 1), "-1@1.1 of 1, in sync , eligible 1");
    unfence(&mut image, 1);
    assert_eq!(line_of(&image, 0), "1@2.4 of 1,2,3, in sync 1, eligible 2");
    assert_eq!(line_of(&image, 1), "1@2.2 of 1, in sync 1");
}

#[test]
fn a_broker_by_itself_restarts_with_one_record() {
    let mut image = placed(cluster(1), &[&[1], &[1]]);
    let command = capek_state::cluster::RegisterBroker { fenced: false, ..restart(&image, 1) };
    let decision = register(&mut image, command);
    assert!(matches!(decision.records[..], [Record::BrokerRegistered(_)]), "{:?}", decision.records);
    assert_eq!(line(&image), "1@0.0 of 1, in sync 1");
}

#[test]
fn an_unclean_restart_costs_the_seats_of_topics_that_are_not_synced() {
    let mut image = three(&[ALL]);
    fence(&mut image, 3);
    fence(&mut image, 2);
    let synced = image.clone();
    set_on_t(&mut image, "capek.flush", "async");
    let mut unclean = restart(&image, 1);
    unclean.unclean = true;
    register(&mut image, unclean.clone());
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 2, last known 1");
    unfence(&mut image, 1);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 2, last known 1", "it may have lost something");
    unfence(&mut image, 2);
    assert_eq!(line(&image), "2@2.4 of 1,2,3, in sync 2, last known 1");
    assert_eq!(in_sync(&mut image, &[1, 2]), Ok(()));
    assert_eq!(line(&image), "2@2.5 of 1,2,3, in sync 1,2", "it caught up");

    let mut image = synced;
    register(&mut image, unclean);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2", "what was acknowledged is on the disk");
}

#[test]
fn a_damaged_log_costs_its_seat_and_no_other() {
    let mut image = three(&[ALL, ALL]);
    [3, 2, 1].into_iter().for_each(|broker| drop(fence(&mut image, broker)));
    let mut damaged = restart(&image, 1);
    damaged.damaged = vec![(crate::brokers::id_of_t(&image), 1)];
    register(&mut image, damaged);
    unfence(&mut image, 1);
    assert_eq!(line_of(&image, 0), "1@2.4 of 1,2,3, in sync 1, eligible 2");
    assert_eq!(line_of(&image, 1), "-1@1.4 of 1,2,3, in sync , eligible 2, last known 1");
}

#[test]
fn a_broker_with_another_disk_has_no_seats() {
    let mut image = cluster(3);
    let disk = capek_wire::ids::Uuid([7; 16]);
    let with_disk = |image: &capek_state::cluster::Image, disk| {
        let command = restart(image, 1);
        capek_state::cluster::RegisterBroker { dirs: vec![disk], ..command }
    };
    let command = with_disk(&image, disk);
    register(&mut image, command);
    unfence(&mut image, 1);
    let mut image = placed(image, &[ALL]);
    [3, 2, 1].into_iter().for_each(|broker| drop(fence(&mut image, broker)));
    let mut same = image.clone();
    let command = with_disk(&same, disk);
    register(&mut same, command);
    assert_eq!(line(&same), "-1@1.3 of 1,2,3, in sync , eligible 1,2");
    let command = with_disk(&image, capek_wire::ids::Uuid([8; 16]));
    register(&mut image, command);
    assert_eq!(line(&image), "-1@1.4 of 1,2,3, in sync , eligible 2, last known 1");
}

#[test]
fn an_unregistered_broker_comes_back_as_a_stranger() {
    let mut image = three(&[ALL, &[1]]);
    let epoch = image.broker(1).expect("it is registered").epoch;
    run(&mut image, &Command::UnregisterBroker { broker: 1, epoch });
    assert_eq!(line_of(&image, 0), "2@1.1 of 1,2,3, in sync 2,3");
    assert_eq!(line_of(&image, 1), "-1@1.1 of 1, in sync , eligible 1");
    let command = restart(&image, 1);
    register(&mut image, command);
    assert_eq!(line_of(&image, 1), "-1@1.2 of 1, in sync , last known 1");
    unfence(&mut image, 1);
    assert_eq!(line_of(&image, 1), "1@2.3 of 1, in sync 1", "there is no other copy to wait for");
}

#[test]
fn a_broker_that_shuts_down_hands_over_what_others_can_lead() {
    let mut image = three(&[ALL, &[2, 1, 3], &[1]]);
    assert_eq!(shut_down(&mut image, 1), Outcome::Done);
    assert!(image.broker(1).is_some_and(|broker| broker.in_controlled_shutdown && !broker.fenced));
    assert_eq!(line_of(&image, 0), "2@1.1 of 1,2,3, in sync 2,3");
    assert_eq!(line_of(&image, 1), "2@0.1 of 2,1,3, in sync 2,3");
    assert_eq!(line_of(&image, 2), "1@0.0 of 1, in sync 1", "nobody else has it: it leads until it is gone");
    let again = image.clone();
    assert_eq!(shut_down(&mut image, 1), Outcome::Done);
    assert_eq!(image, again);
    fence(&mut image, 1);
    assert_eq!(line_of(&image, 2), "-1@1.1 of 1, in sync , eligible 1");
    let command = restart(&image, 1);
    register(&mut image, command);
    unfence(&mut image, 1);
    assert!(image.broker(1).is_some_and(|broker| broker.is_active()));
    assert_eq!(line_of(&image, 2), "1@2.2 of 1, in sync 1");
}

#[test]
fn a_broker_that_shuts_down_waits_for_one_that_catches_up() {
    let mut image = three(&[ALL]);
    fence(&mut image, 3);
    fence(&mut image, 2);
    unfence(&mut image, 3);
    assert_eq!(shut_down(&mut image, 1), Outcome::StillLeading { count: 1 });
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1, eligible 2");
    let refusal = in_sync(&mut image, &[1, 3]).expect_err("it does not lead any more");
    assert_eq!(refusal.code, ErrorCode::NewLeaderElected);
    assert_eq!(line(&image), "3@1.3 of 1,2,3, in sync 1,3");
    assert_eq!(shut_down(&mut image, 1), Outcome::Done);
    assert_eq!(line(&image), "3@1.4 of 1,2,3, in sync 3, eligible 1");
}

#[test]
fn a_broker_that_shuts_down_gets_nothing_new() {
    let mut image = three(&[ALL]);
    shut_down(&mut image, 3);
    shut_down(&mut image, 2);
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1, eligible 2");
    fence(&mut image, 1);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2");
    let image = placed(cluster(2), &[&[1]]);
    let mut next = image.clone();
    shut_down(&mut next, 2);
    run(&mut next, &Command::CreateTopic(crate::fixtures::topic("u", 4, 1)));
    let topic = next.topic_by_name("u").expect("it was created");
    assert!(topic.partitions.iter().all(|partition| partition.leader == 1), "{topic:?}");
}

/// For one broker, which is refused today.
fn set_by_older_version(image: &mut Image, name: &str, value: &str) {
    let (resource, name, value) = (ConfigResource::broker(1), name.to_owned(), Some(value.to_owned()));
    image.apply(&Record::ConfigChanged { resource, name, value });
}

#[test]
fn an_unclean_election_has_to_be_allowed_or_asked_for() {
    let mut image = three(&[ALL]);
    [3, 2, 1].into_iter().for_each(|broker| drop(fence(&mut image, broker)));
    unfence(&mut image, 3);
    let mut asked = image.clone();
    let partitions = vec![PartitionName { topic: "t".to_owned(), partition: 0 }];
    run(&mut asked, &Command::ElectLeaders(ElectLeaders { kind: ElectionKind::Unclean, partitions }));
    assert_eq!(line(&asked), "3@2.4 of 1,2,3, in sync 3");
    let mut allowed = image.clone();
    set_on_t(&mut allowed, "unclean.leader.election.enable", "true");
    assert_eq!(line(&allowed), "3@2.4 of 1,2,3, in sync 3");
    let mut allowed_for_all = image.clone();
    set(&mut allowed_for_all, ConfigResource::brokers(), "unclean.leader.election.enable", "true");
    assert_eq!(line(&allowed_for_all), "3@2.4 of 1,2,3, in sync 3");
    set_by_older_version(&mut image, "unclean.leader.election.enable", "true");
    fence(&mut image, 3);
    unfence(&mut image, 3);
    assert!(line(&image).starts_with("-1@"), "one broker does not decide it: {}", line(&image));
}

#[test]
fn an_unclean_election_takes_the_one_that_knew_the_most() {
    let mut image = three(&[ALL]);
    set_on_t(&mut image, "capek.flush", "async");
    [1, 3, 2].into_iter().for_each(|broker| drop(fence(&mut image, broker)));
    assert_eq!(line(&image), "-1@2.3 of 1,2,3, in sync , eligible 2,3");
    for broker in [2, 3] {
        let mut unclean = restart(&image, broker);
        unclean.unclean = true;
        register(&mut image, unclean);
    }
    assert_eq!(line(&image), "-1@2.5 of 1,2,3, in sync , last known 2,3");
    [1, 3].into_iter().for_each(|broker| drop(unfence(&mut image, broker)));
    set_on_t(&mut image, "unclean.leader.election.enable", "true");
    assert_eq!(line(&image), "3@3.6 of 1,2,3, in sync 3", "1 went first");
}

#[test]
fn nobody_is_eligible_any_more_when_fewer_in_sync_are_enough() {
    let mut image = three(&[ALL]);
    fence(&mut image, 3);
    fence(&mut image, 2);
    let mut for_all = image.clone();
    set_on_t(&mut image, "min.insync.replicas", "1");
    assert_eq!(line(&image), "1@0.3 of 1,2,3, in sync 1", "from now on 1 commits alone");
    set(&mut for_all, ConfigResource::brokers(), "min.insync.replicas", "1");
    assert_eq!(line(&for_all), "1@0.3 of 1,2,3, in sync 1");
    set_on_t(&mut image, "min.insync.replicas", "3");
    assert_eq!(line(&image), "1@0.3 of 1,2,3, in sync 1", "what 2 missed it still misses");
}

#[test]
fn leaders_go_back_to_where_they_were_placed_once_in_sync() {
    let mut image = three(&[ALL, &[2, 3, 1], &[1, 3, 2]]);
    assert_eq!(preferred_leaders_to_return(&image), None);
    fence(&mut image, 1);
    assert_eq!(preferred_leaders_to_return(&image), None, "it is fenced");
    unfence(&mut image, 1);
    assert_eq!(preferred_leaders_to_return(&image), None, "it has to catch up");
    assert_eq!(in_sync(&mut image, &[2, 3, 1]), Ok(()));
    let command = preferred_leaders_to_return(&image).expect("it is in sync");
    let partitions = vec![PartitionName { topic: "t".to_owned(), partition: 0 }];
    assert_eq!(command, Command::ElectLeaders(ElectLeaders { kind: ElectionKind::Preferred, partitions }));
    run(&mut image, &command);
    assert_eq!(line(&image), "1@2.3 of 1,2,3, in sync 1,2,3");
    assert_eq!(preferred_leaders_to_return(&image), None);
}

#[test]
fn the_epoch_of_an_earlier_life_decides_nothing() {
    let mut image = three(&[ALL]);
    let broker = 1;
    let stale = epoch(&image, broker);
    let command = restart(&image, broker);
    register(&mut image, command);
    let commands = [
        Command::FenceBroker { broker, epoch: stale },
        Command::UnfenceBroker { broker, epoch: stale },
        Command::ControlledShutdown { broker, epoch: stale },
        Command::ReplicasFailed { broker, broker_epoch: stale, partitions: vec![] },
        Command::ReplicasBack { broker, broker_epoch: stale, partitions: vec![] },
    ];
    for command in commands {
        let code = decide(&image, &command).map_err(|refusal| refusal.code);
        assert_eq!(code, Err(ErrorCode::StaleBrokerEpoch), "{command:?}");
    }
}

#[test]
fn what_one_broker_has_in_its_file_decides_no_election() {
    let mut image = three(&[ALL]);
    let names = ["min.insync.replicas", "unclean.leader.election.enable", "log.retention.ms"];
    let file = crate::fixtures::map(&[(names[0], "3"), (names[1], "true"), (names[2], "7")]);
    let config = image.topic_config("t", 1, &file);
    assert_eq!((config.min_insync_replicas_for(3), config.unclean_leader_election, config.retention_ms), (2, false, 7));
    set_by_older_version(&mut image, "min.insync.replicas", "3");
    assert_eq!(image.topic_config("t", 1, &file).min_insync_replicas_for(3), 2);

    let command = elections_by_file(&file).expect("it says something");
    run(&mut image, &command);
    let config = image.topic_config("t", 2, &Default::default());
    assert_eq!((config.min_insync_replicas_for(3), config.unclean_leader_election), (3, true));
    assert_eq!(elections_by_file(&crate::fixtures::map(&[(names[2], "7")])), None);
}

/// Whatever is quadratic in the image would make this test take minutes.
#[test]
fn a_broker_with_ten_thousand_replicas_is_fenced_by_a_record_for_each() {
    let mut wide = cluster(3);
    run(&mut wide, &Command::CreateTopic(crate::fixtures::topic("wide", 10_000, 3)));
    let mut narrow = cluster(3);
    for number in 0..5_000 {
        let name = format!("narrow-{number}");
        let id = crate::fixtures::uuid(1_000_000 + number);
        let command = crate::fixtures::topic(&name, 2, 3);
        run(&mut narrow, &Command::CreateTopic(capek_state::cluster::CreateTopic { id, ..command }));
    }
    for mut image in [wide, narrow] {
        let command = Command::FenceBroker { broker: 1, epoch: epoch(&image, 1) };
        let published = image.clone();
        let decision = decide(&image, &command).expect("it is legal");
        crate::fixtures::apply(&mut image, &decision.records);
        assert_eq!(decision.records.len(), 10_001);
        assert_ne!(published, image);
    }
}
