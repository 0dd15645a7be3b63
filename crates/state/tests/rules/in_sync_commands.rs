//! What brokers tell of their replicas: who is in sync, which logs are offline.

use capek_state::cluster::{AlterPartition, AlterPartitions, Command, Image, decide};
use capek_wire::ErrorCode;
use capek_wire::ids::Uuid;

use crate::brokers::{
    epoch, fence, id_of_t, in_sync, line, line_of, proposal, propose, register, restart, shut_down, three, unfence,
};
use crate::fixtures::{apply, run};

const ALL: &[i32] = &[1, 2, 3];

#[test]
fn the_in_sync_set_that_the_leader_proposes_is_recorded_without_another_leader_epoch() {
    let mut image = three(&[ALL]);
    assert_eq!(in_sync(&mut image, &[1, 2]), Ok(()));
    assert_eq!(line(&image), "1@0.1 of 1,2,3, in sync 1,2");
    assert_eq!(in_sync(&mut image, &[1]), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1, eligible 2");
    assert_eq!(in_sync(&mut image, &[3, 1]), Ok(()));
    assert_eq!(line(&image), "1@0.3 of 1,2,3, in sync 1,3", "the order is that of the replicas");
}

#[track_caller]
fn refused(image: &Image, broker: i32, wanted: AlterPartition, code: ErrorCode) {
    let (records, outcomes) = propose(image, broker, vec![wanted]);
    assert_eq!(records, []);
    assert_eq!(outcomes[0].as_ref().map_err(|refusal| refusal.code), Err(code));
}

#[test]
fn proposals_are_refused_with_kafkas_codes() {
    let mut image = three(&[ALL, &[1, 2]]);
    in_sync(&mut image, &[1, 2]).expect("it is legal");
    fence(&mut image, 1);
    assert_eq!(line(&image), "2@1.2 of 1,2,3, in sync 2, eligible 1");
    let fine = proposal(&image, 0, &[2, 3]);
    let other_topic = AlterPartition { topic_id: Uuid([9; 16]), ..fine.clone() };
    refused(&image, 2, other_topic, ErrorCode::UnknownTopicId);
    refused(&image, 2, AlterPartition { partition: 7, ..fine.clone() }, ErrorCode::UnknownTopicOrPartition);
    refused(&image, 2, AlterPartition { leader_epoch: 2, ..fine.clone() }, ErrorCode::NotController);
    refused(&image, 2, AlterPartition { partition_epoch: 3, ..fine.clone() }, ErrorCode::NotController);
    refused(&image, 2, AlterPartition { leader_epoch: 0, ..fine.clone() }, ErrorCode::FencedLeaderEpoch);
    refused(&image, 3, fine.clone(), ErrorCode::InvalidRequest);
    refused(&image, 2, AlterPartition { partition_epoch: 1, ..fine.clone() }, ErrorCode::InvalidUpdateVersion);
    refused(&image, 2, proposal(&image, 0, &[3]), ErrorCode::InvalidRequest);
    refused(&image, 2, proposal(&image, 0, &[2, 2]), ErrorCode::InvalidRequest);
    refused(&image, 2, proposal(&image, 1, &[2, 3]), ErrorCode::InvalidRequest);
    refused(&image, 2, proposal(&image, 0, &[2, 1]), ErrorCode::IneligibleReplica);
    let early = AlterPartition { isr: vec![(2, epoch(&image, 2)), (3, epoch(&image, 3) - 1)], ..fine.clone() };
    refused(&image, 2, early, ErrorCode::IneligibleReplica);
    assert_eq!(propose(&image, 2, vec![fine]).1, [Ok(())]);
}

#[test]
fn who_shuts_down_does_not_join() {
    let mut image = three(&[ALL]);
    shut_down(&mut image, 3);
    refused(&image, 1, proposal(&image, 0, ALL), ErrorCode::IneligibleReplica);
}

#[test]
fn a_broker_of_an_earlier_life_proposes_nothing() {
    let mut image = three(&[ALL]);
    let broker_epoch = epoch(&image, 1);
    let partitions = vec![proposal(&image, 0, &[1, 2])];
    let command = restart(&image, 1);
    register(&mut image, command);
    let command = Command::AlterPartitions(AlterPartitions { broker: 1, broker_epoch, partitions });
    assert_eq!(decide(&image, &command).map_err(|refusal| refusal.code), Err(ErrorCode::StaleBrokerEpoch));
}

#[test]
fn proposals_are_judged_one_by_one_and_each_partition_once() {
    let mut image = three(&[ALL, ALL]);
    let twice = vec![proposal(&image, 0, &[1, 2]), proposal(&image, 0, &[1, 3]), proposal(&image, 1, &[1, 3])];
    let (records, outcomes) = propose(&image, 1, twice);
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_err(|refusal| refusal.code)).collect();
    assert_eq!(codes, [Ok(&()), Err(ErrorCode::InvalidUpdateVersion), Ok(&())]);
    apply(&mut image, &records);
    assert_eq!(line_of(&image, 0), "1@0.1 of 1,2,3, in sync 1,2");
    assert_eq!(line_of(&image, 1), "1@0.1 of 1,2,3, in sync 1,3");
}

#[test]
fn who_proposes_the_set_that_is_makes_void_what_was_proposed_before() {
    let mut image = three(&[ALL]);
    assert_eq!(in_sync(&mut image, &[1, 2]), Ok(()));
    let on_its_way = proposal(&image, 0, ALL);
    assert_eq!(in_sync(&mut image, &[2, 1]), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1,2");
    refused(&image, 1, on_its_way, ErrorCode::InvalidUpdateVersion);
}

fn failed(image: &mut Image, broker: i32, partitions: &[i32]) {
    let topic_id = id_of_t(image);
    let partitions = partitions.iter().map(|index| (topic_id, *index)).collect();
    let broker_epoch = epoch(image, broker);
    run(image, &Command::ReplicasFailed { broker, broker_epoch, partitions });
}

fn back(image: &mut Image, broker: i32, partitions: &[i32]) {
    let topic_id = id_of_t(image);
    let partitions = partitions.iter().map(|index| (topic_id, *index)).collect();
    let broker_epoch = epoch(image, broker);
    run(image, &Command::ReplicasBack { broker, broker_epoch, partitions });
}

#[test]
fn a_replica_whose_log_is_offline_leads_nothing_until_it_is_back() {
    let mut image = three(&[ALL, ALL]);
    failed(&mut image, 1, &[0, 7]);
    assert_eq!(line_of(&image, 0), "2@1.1 of 1,2,3, in sync 2,3, offline 1");
    assert_eq!(line_of(&image, 1), "1@0.0 of 1,2,3, in sync 1,2,3");
    refused(&image, 2, proposal(&image, 0, ALL), ErrorCode::IneligibleReplica);
    back(&mut image, 1, &[0]);
    assert_eq!(line_of(&image, 0), "2@1.2 of 1,2,3, in sync 2,3");
    assert_eq!(in_sync(&mut image, ALL), Ok(()));
}

#[test]
fn the_last_replica_is_eligible_when_its_log_is_back() {
    let mut image = three(&[ALL]);
    fence(&mut image, 3);
    fence(&mut image, 2);
    failed(&mut image, 1, &[0]);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2, offline 1");
    let twice = image.clone();
    failed(&mut image, 1, &[0]);
    assert_eq!(image, twice);
    unfence(&mut image, 3);
    assert_eq!(line(&image), "-1@1.3 of 1,2,3, in sync , eligible 1,2, offline 1");
    back(&mut image, 1, &[0]);
    assert_eq!(line(&image), "1@2.4 of 1,2,3, in sync 1, eligible 2");
}

#[test]
fn a_restart_opens_logs_anew() {
    let mut image = three(&[ALL]);
    failed(&mut image, 3, &[0]);
    assert_eq!(line(&image), "1@0.1 of 1,2,3, in sync 1,2, offline 3");
    let command = restart(&image, 3);
    register(&mut image, command);
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1,2");
}
