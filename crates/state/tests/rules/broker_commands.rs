//! Brokers, producer ids, features.

use capek_state::cluster::{
    Command, Endpoint, Image, Outcome, PRODUCER_ID_BLOCK, ProducerIdBlock, Record, RegisterBroker, decide,
};
use capek_wire::ErrorCode;

use crate::fixtures::{assert_refused, cluster, run, uuid};

fn registration(incarnation: u64) -> RegisterBroker {
    let endpoint =
        Endpoint { name: "PLAINTEXT".to_owned(), protocol: "PLAINTEXT".to_owned(), host: "a".to_owned(), port: 9092 };
    RegisterBroker {
        broker: 1,
        incarnation: uuid(incarnation),
        listeners: vec![endpoint],
        rack: Some("r".to_owned()),
        ..RegisterBroker::default()
    }
}

fn epoch_of(image: &mut Image, command: RegisterBroker) -> i64 {
    match run(image, &Command::RegisterBroker(command)).outcome {
        Outcome::BrokerRegistered { epoch } => epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_created_once() {
    let mut image = Image::default();
    let command = Command::CreateCluster { cluster_id: "abc".to_owned() };
    run(&mut image, &command);
    assert_eq!(image.cluster_id(), Some("abc"));
    let message = "the cluster exists and has the id abc";
    assert_refused(decide(&image, &command), ErrorCode::InvalidRequest, message);
}

#[test]
fn a_registration_has_the_place_of_its_record_as_epoch() {
    let mut image = cluster(0);
    let first = epoch_of(&mut image, registration(1));
    assert_eq!(first, 1);
    let broker = image.broker(1).expect("it is registered");
    assert_eq!((broker.epoch, broker.rack.as_deref(), broker.fenced), (1, Some("r"), false));
    assert_eq!(broker.endpoint("PLAINTEXT").map(|endpoint| endpoint.port), Some(9092));
    assert!(broker.endpoint("OTHER").is_none());
}

#[test]
fn a_retried_registration_keeps_its_epoch() {
    let mut image = cluster(0);
    let first = epoch_of(&mut image, registration(1));
    let before = image.clone();
    assert_eq!(epoch_of(&mut image, registration(1)), first);
    assert_eq!(image, before, "nothing is recorded twice");
    let moved = RegisterBroker { rack: None, ..registration(1) };
    assert!(epoch_of(&mut image, moved) > first, "something changed: a new life");
}

#[test]
fn a_second_process_with_the_same_id_waits_until_the_first_is_gone() {
    let mut image = cluster(0);
    let first = epoch_of(&mut image, registration(1));
    let other = Command::RegisterBroker(registration(2));
    let code = decide(&image, &other).map_err(|refusal| refusal.code);
    assert_eq!(code, Err(ErrorCode::DuplicateBrokerRegistration));
    let certain = RegisterBroker { previous_is_gone: true, ..registration(2) };
    assert!(decide(&image, &Command::RegisterBroker(certain)).is_ok());
    run(&mut image, &Command::FenceBroker { broker: 1, epoch: first });
    assert!(epoch_of(&mut image, registration(2)) > first);
}

/// It was on its way while its process ended and the next one registered.
#[test]
fn a_registration_that_comes_late_takes_nobodys_place() {
    let mut image = cluster(0);
    let sure = |incarnation, previous_epoch| RegisterBroker {
        previous_is_gone: true,
        previous_epoch: Some(previous_epoch),
        ..registration(incarnation)
    };
    let first = epoch_of(&mut image, sure(1, -1));
    let second = epoch_of(&mut image, sure(3, first));
    for late in [sure(2, first), sure(2, -1), sure(1, -1)] {
        let refused = decide(&image, &Command::RegisterBroker(late)).map_err(|refusal| refusal.code);
        assert_eq!(refused, Err(ErrorCode::StaleBrokerEpoch));
    }
    assert_eq!(epoch_of(&mut image, sure(3, first)), second, "a retry of what is recorded");
    assert!(epoch_of(&mut image, sure(4, second)) > second);
}

#[test]
fn fencing_is_for_the_current_life() {
    let mut image = cluster(1);
    let epoch = image.broker(1).expect("it is registered").epoch;
    let stale = Command::FenceBroker { broker: 1, epoch: epoch - 1 };
    assert_eq!(decide(&image, &stale).map_err(|refusal| refusal.code), Err(ErrorCode::StaleBrokerEpoch));
    run(&mut image, &Command::FenceBroker { broker: 1, epoch });
    assert!(image.broker(1).is_some_and(|broker| broker.fenced));
    let again = decide(&image, &Command::FenceBroker { broker: 1, epoch }).expect("it is no error");
    assert_eq!(again.records, []);
    run(&mut image, &Command::UnfenceBroker { broker: 1, epoch });
    assert!(image.broker(1).is_some_and(|broker| !broker.fenced));
    let unknown = Command::UnfenceBroker { broker: 9, epoch };
    assert_eq!(decide(&image, &unknown).map_err(|refusal| refusal.code), Err(ErrorCode::BrokerIdNotRegistered));
}

#[test]
fn an_unregistered_broker_is_gone() {
    let mut image = cluster(2);
    let epoch = image.broker(1).expect("it is registered").epoch;
    let late = decide(&image, &Command::UnregisterBroker { broker: 1, epoch: epoch - 1 });
    assert_eq!(late.map_err(|refusal| refusal.code), Err(ErrorCode::StaleBrokerEpoch), "another life was meant");
    run(&mut image, &Command::UnregisterBroker { broker: 1, epoch });
    assert_eq!(image.brokers().map(|broker| broker.id).collect::<Vec<_>>(), [2]);
    let again = decide(&image, &Command::UnregisterBroker { broker: 1, epoch });
    assert_eq!(again.map_err(|refusal| refusal.code), Err(ErrorCode::BrokerIdNotRegistered));
}

#[test]
fn producer_ids_never_repeat() {
    let mut image = cluster(2);
    let mut next = 0;
    for broker in [1, 2, 1, 1] {
        let decision = run(&mut image, &Command::AllocateProducerIds { broker });
        let block = ProducerIdBlock { first: next, count: PRODUCER_ID_BLOCK };
        assert_eq!(decision.outcome, Outcome::ProducerIds(block));
        next += i64::from(PRODUCER_ID_BLOCK);
        assert_eq!(decision.records, [Record::ProducerIdsAllocated { next }]);
    }
    assert_eq!(image.next_producer_id(), 4000);
    let stranger = decide(&image, &Command::AllocateProducerIds { broker: 7 });
    assert_eq!(stranger.map_err(|refusal| refusal.code), Err(ErrorCode::BrokerIdNotRegistered));
}

#[test]
#[should_panic(expected = "producer ids must never repeat")]
fn a_log_that_takes_producer_ids_back_is_damaged() {
    let mut image = cluster(1);
    image.apply(&Record::ProducerIdsAllocated { next: 1000 });
    image.apply(&Record::ProducerIdsAllocated { next: 0 });
}

#[test]
fn features_have_levels_and_zero_is_none() {
    let mut image = cluster(1);
    run(&mut image, &Command::SetFeature { name: "metadata.version".to_owned(), level: 30 });
    assert_eq!(image.features().collect::<Vec<_>>(), [("metadata.version", 30)]);
    run(&mut image, &Command::SetFeature { name: "metadata.version".to_owned(), level: 0 });
    assert_eq!(image.features().count(), 0);
    assert_eq!((image.feature_level("metadata.version"), image.feature_level("group.version")), (Some(0), None));
}
