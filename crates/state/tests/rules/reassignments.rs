//! Replicas move to other brokers: the new ones are in sync before the old ones go.

use capek_state::Refusal;
use capek_state::cluster::{Command, Image, Outcome, PartitionName, Reassignment, decide};
use capek_wire::ErrorCode;

use crate::brokers::{fence, in_sync, line, placed, set_on_t, shut_down, unfence};
use crate::fixtures::{apply, assert_refused, cluster};

/// Of partition 0; None takes it back.
fn reassign(image: &mut Image, target: Option<&[i32]>) -> Result<(), Refusal> {
    let name = PartitionName { topic: "t".to_owned(), partition: 0 };
    let reassignments = vec![Reassignment { name, replicas: target.map(<[i32]>::to_vec) }];
    let command = Command::ReassignPartitions { reassignments, may_change_replication_factor: true };
    let decision = decide(image, &command).expect("partitions are judged one by one");
    apply(image, &decision.records);
    match decision.outcome {
        Outcome::Each(mut outcomes) => outcomes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn five(replicas: &[i32]) -> Image {
    placed(cluster(5), &[replicas])
}

#[test]
fn a_move_is_complete_when_the_new_replicas_are_in_sync() {
    let mut image = five(&[1, 2]);
    assert_eq!(reassign(&mut image, Some(&[3, 4])), Ok(()));
    assert_eq!(line(&image), "1@0.1 of 3,4,1,2, in sync 1,2, adding 3,4, removing 1,2");
    assert_eq!(image.reassigning().map(|(topic, index, _)| (&*topic.name, index)).collect::<Vec<_>>(), [("t", 0)]);
    assert_eq!(in_sync(&mut image, &[1, 2, 3]), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 3,4,1,2, in sync 3,1,2, adding 3,4, removing 1,2");
    let refusal = in_sync(&mut image, &[1, 2, 3, 4]).expect_err("the leader has no replica any more");
    assert_eq!(refusal.code, ErrorCode::NewLeaderElected);
    assert_eq!(line(&image), "3@1.3 of 3,4, in sync 3,4");
    assert_eq!(image.reassigning().count(), 0);
}

#[test]
fn a_leader_that_stays_gets_another_epoch_when_a_replica_goes() {
    let mut image = five(&[1, 2]);
    assert_eq!(reassign(&mut image, Some(&[1, 3])), Ok(()));
    assert_eq!(line(&image), "1@0.1 of 1,3,2, in sync 1,2, adding 3, removing 2");
    assert_eq!(in_sync(&mut image, &[1, 2, 3]), Ok(()));
    assert_eq!(line(&image), "1@1.2 of 1,3, in sync 1,3");
}

#[test]
fn fewer_replicas_are_a_matter_of_one_decision() {
    let mut image = five(&[1, 2, 3]);
    assert_eq!(reassign(&mut image, Some(&[2, 3])), Ok(()));
    assert_eq!(line(&image), "2@1.1 of 2,3, in sync 2,3");
}

#[test]
fn more_replicas_are_added_one_after_the_other() {
    let mut image = five(&[1]);
    assert_eq!(reassign(&mut image, Some(&[1, 2, 3])), Ok(()));
    assert_eq!(line(&image), "1@0.1 of 1,2,3, in sync 1, adding 2,3");
    assert_eq!(in_sync(&mut image, &[1, 3]), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1,3, adding 2,3");
    assert_eq!(in_sync(&mut image, &[1, 2, 3]), Ok(()));
    assert_eq!(line(&image), "1@0.3 of 1,2,3, in sync 1,2,3");
}

#[test]
fn a_move_never_takes_a_partition_below_what_acks_all_needs() {
    let mut image = five(&[1, 2, 3]);
    set_on_t(&mut image, "min.insync.replicas", "2");
    fence(&mut image, 2);
    assert_eq!(reassign(&mut image, Some(&[1, 2])), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 1,2,3, in sync 1,3, removing 3");
    unfence(&mut image, 2);
    assert_eq!(in_sync(&mut image, &[1, 2, 3]), Ok(()));
    assert_eq!(line(&image), "1@1.3 of 1,2, in sync 1,2");
}

#[test]
fn the_only_ones_that_hold_the_data_are_not_removed() {
    let mut image = five(&[1, 2]);
    fence(&mut image, 2);
    assert_eq!(reassign(&mut image, Some(&[2])), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 2,1, in sync 1, removing 1");
    unfence(&mut image, 2);
    assert_eq!(in_sync(&mut image, &[1, 2]).map_err(|refusal| refusal.code), Err(ErrorCode::NewLeaderElected));
    assert_eq!(line(&image), "2@1.3 of 2, in sync 2");
}

#[test]
fn a_move_waits_for_a_replica_that_can_lead() {
    let mut image = five(&[1, 2]);
    shut_down(&mut image, 1);
    assert_eq!(line(&image), "2@1.1 of 1,2, in sync 2");
    assert_eq!(reassign(&mut image, Some(&[1])), Ok(()));
    assert_eq!(line(&image), "2@1.2 of 1,2, in sync 2, removing 2");
}

#[test]
fn a_move_can_be_taken_back() {
    let mut image = five(&[1, 2]);
    assert_refused(reassign(&mut image, None), ErrorCode::NoReassignmentInProgress, "");
    assert_eq!(reassign(&mut image, Some(&[3, 4])), Ok(()));
    assert_eq!(in_sync(&mut image, &[1, 2, 3]), Ok(()));
    assert_eq!(reassign(&mut image, None), Ok(()));
    assert_eq!(line(&image), "1@1.3 of 1,2, in sync 1,2");
    assert_refused(reassign(&mut image, None), ErrorCode::NoReassignmentInProgress, "");
}

#[test]
fn a_move_whose_old_replicas_have_lost_track_cannot_be_taken_back() {
    let mut image = five(&[1]);
    assert_eq!(reassign(&mut image, Some(&[2, 3])), Ok(()));
    assert_eq!(in_sync(&mut image, &[1, 2]), Ok(()));
    fence(&mut image, 1);
    assert_eq!(line(&image), "2@1.3 of 2,3,1, in sync 2, eligible 1, adding 2,3, removing 1");
    let mut eligible = image.clone();
    assert_eq!(reassign(&mut eligible, None), Ok(()));
    assert_eq!(line(&eligible), "-1@2.4 of 1, in sync , eligible 1", "1 has everything, and comes back");
    set_on_t(&mut image, "min.insync.replicas", "1");
    assert_eq!(line(&image), "2@1.4 of 2,3,1, in sync 2, adding 2,3, removing 1");
    let message = "Unable to revert partition assignment for t:0 because it would require an unclean leader election.";
    assert_refused(reassign(&mut image, None), ErrorCode::InvalidReplicaAssignment, message);
}

#[test]
fn a_move_can_be_replaced_by_another() {
    let mut image = five(&[1, 2]);
    assert_eq!(reassign(&mut image, Some(&[3, 4])), Ok(()));
    assert_eq!(reassign(&mut image, Some(&[3, 5])), Ok(()));
    assert_eq!(line(&image), "1@0.2 of 3,5,4,1,2, in sync 1,2, adding 3,5, removing 4,1,2");
    assert_eq!(reassign(&mut image, Some(&[1, 2])), Ok(()));
    assert_eq!(line(&image), "1@1.3 of 1,2, in sync 1,2");
}

#[test]
fn the_factor_that_must_stay_is_that_from_before_the_move() {
    let mut image = five(&[1, 2]);
    assert_eq!(reassign(&mut image, Some(&[3, 4])), Ok(()));
    let name = PartitionName { topic: "t".to_owned(), partition: 0 };
    let with = |replicas: &[i32]| {
        let reassignments = vec![Reassignment { name: name.clone(), replicas: Some(replicas.to_vec()) }];
        let command = Command::ReassignPartitions { reassignments, may_change_replication_factor: false };
        decide(&image, &command).expect("partitions are judged one by one").outcome
    };
    assert_eq!(with(&[4, 5]), Outcome::Each(vec![Ok(())]));
    let message = "The replication factor is changed from 2 to 4";
    let refusal = Refusal::new(ErrorCode::InvalidReplicationFactor, message);
    assert_eq!(with(&[2, 3, 4, 5]), Outcome::Each(vec![Err(refusal)]));
}
