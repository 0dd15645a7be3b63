//! The quorum: one image on all brokers, whoever of them dies.

use std::fs;
use std::time::Instant;

use crate::cluster::{Cluster, HEALED_WITHIN, TOPIC_ALREADY_EXISTS};
use crate::support::broker::{Broker, Directory, free_port};
use crate::support::frames::RawClient;
use crate::support::wait_for;

const NONE: i16 = 0;
const REQUEST_TIMED_OUT: i16 = 7;
const NOT_CONTROLLER: i16 = 41;

fn knows(cluster: &Cluster, id: i32, topic: &str) -> bool {
    cluster.topics_of(id).is_some_and(|topics| topics.iter().any(|known| known == topic))
}

fn wait_until_all_know(cluster: &Cluster, topic: &str) {
    wait_for("every broker knows the topic", HEALED_WITHIN, || {
        let knows = |id| knows(cluster, id, topic);
        cluster.running().into_iter().all(knows).then_some(())
    });
}

#[test]
fn a_topic_created_on_any_broker_is_known_to_all() {
    let cluster = Cluster::with_usual_times();
    for id in cluster.ids() {
        let topic = format!("made-on-{id}");
        assert_eq!(cluster.client(id).create_topic(&topic, 2, &[]), NONE);
        // Who answers has it itself.
        assert!(knows(&cluster, id, &topic));
        wait_until_all_know(&cluster, &topic);
    }
    assert_eq!(cluster.broker(1).client().create_topic("made-on-3", 1, &[]), TOPIC_ALREADY_EXISTS);
}

#[test]
fn metadata_can_be_changed_after_the_controller_was_killed() {
    let mut cluster = Cluster::with_usual_times();
    let controller = cluster.controller();
    let other = cluster.others(&[controller])[0];
    cluster.kill(controller);
    let killed = Instant::now();
    let broker = cluster.broker(other);
    wait_for("a topic is created", HEALED_WITHIN, || {
        let error = broker.client().try_create_topic("after", 1, &[]);
        assert!(matches!(error, Some(NONE | REQUEST_TIMED_OUT | NOT_CONTROLLER | TOPIC_ALREADY_EXISTS)), "{error:?}");
        matches!(error, Some(NONE | TOPIC_ALREADY_EXISTS)).then_some(())
    });
    println!("metadata could be changed {:?} after the controller was killed", killed.elapsed());
    wait_until_all_know(&cluster, "after");

    // Who was away finds out what it has missed.
    cluster.broker_mut(controller).spawn();
    cluster.wait_until_settled();
    wait_until_all_know(&cluster, "after");
}

#[test]
fn metadata_survives_the_death_of_all() {
    let mut cluster = Cluster::with_usual_times();
    for number in 0..5 {
        let id = 1 + number % 3;
        assert_eq!(cluster.client(id).create_topic(&format!("kept-{number}"), 1, &[]), NONE);
    }
    cluster.ids().into_iter().for_each(|id| cluster.kill(id));
    cluster.ids().into_iter().for_each(|id| cluster.broker_mut(id).spawn());
    cluster.wait_until_settled();
    for number in 0..5 {
        wait_until_all_know(&cluster, &format!("kept-{number}"));
    }
    assert_eq!(cluster.broker(3).client().create_topic("new", 1, &[]), NONE);
}

#[test]
fn a_minority_refuses_changes_with_a_retriable_error_and_serves_what_it_knows() {
    let mut cluster = Cluster::with_usual_times();
    assert_eq!(cluster.broker(1).client().create_topic("known", 1, &[]), NONE);
    wait_until_all_know(&cluster, "known");
    cluster.kill(2);
    cluster.kill(3);
    let error = cluster.broker(1).client().create_topic("refused", 1, &[]);
    assert!([REQUEST_TIMED_OUT, NOT_CONTROLLER].contains(&error), "{error}");
    assert!(knows(&cluster, 1, "known"));
    cluster.broker_mut(2).spawn();
    cluster.wait_until_settled();
    wait_for("a topic is created", HEALED_WITHIN, || {
        (cluster.broker(1).client().create_topic("allowed", 1, &[]) == NONE).then_some(())
    });
}

#[test]
fn a_killed_broker_is_left_out_at_once() {
    // Its session would not end within this test.
    let mut cluster = Cluster::start_with(3, &["broker.session.timeout.ms=600000"]);
    let controller = cluster.controller();
    let victim = (1..=3).find(|id| *id != controller).expect("there are three");
    cluster.kill(victim);
    let rest: Vec<i32> = (1..=3).filter(|id| *id != victim).collect();
    wait_for("the others know", HEALED_WITHIN, || {
        let view = cluster.view_of(controller, "")?;
        (view.brokers == rest).then_some(())
    });
}

#[test]
fn a_stopped_broker_has_left_before_it_ends() {
    let mut cluster = Cluster::with_usual_times();
    let status = cluster.broker_mut(2).terminate();
    assert!(status.success(), "{status}");
    let view = cluster.view_of(1, "").expect("it answers");
    assert_eq!(view.brokers, [1, 3]);
    cluster.broker_mut(2).spawn();
    cluster.wait_until_settled();
}

/// A client that no more hears of a broker leaves it at once, before it has taken its partitions elsewhere.
#[test]
fn clients_hear_who_leads_next_before_a_broker_is_named_no_more() {
    let mut cluster = Cluster::with_usual_times();
    cluster.create_topic("moved", 3);
    cluster.kill(2);
    wait_for("it is out of the cluster", HEALED_WITHIN, || (cluster.view_of(1, "")?.brokers == [1, 3]).then_some(()));
    let view = cluster.view_of(1, "moved").expect("it answers");
    assert_eq!(view.named, [1, 2, 3]);
    assert!(view.partitions.values().all(|partition| [1, 3].contains(&partition.leader)), "{:?}", view.partitions);
    assert!(view.partitions.values().all(|partition| !partition.in_sync.contains(&2)), "{:?}", view.partitions);
    wait_for("it is named no more", HEALED_WITHIN, || (cluster.view_of(1, "")?.named == [1, 3]).then_some(()));
    cluster.broker_mut(2).spawn();
    cluster.wait_until_settled();
    assert_eq!(cluster.view_of(1, "").expect("it answers").named, [1, 2, 3]);
}

#[test]
fn a_replaced_disk_is_refused_with_the_way_out() {
    let mut cluster = Cluster::with_usual_times();
    cluster.kill(3);
    fs::remove_dir_all(&cluster.broker(3).data_dir).expect("nobody uses it");
    let (status, output) = Broker::run_to_refusal(cluster.broker(3).command());
    assert!(!status.success());
    assert!(output.contains("has no metadata log") && output.contains("capek cluster remove 3"), "{output}");
}

#[test]
fn a_broker_of_another_cluster_is_refused() {
    let mut cluster = Cluster::with_usual_times();
    let mut strangers = Cluster::with_usual_times();
    strangers.kill(3);
    cluster.kill(3);
    // The disk of the one in the place of the other.
    let foreign = strangers.broker(3).data_dir.clone();
    let own = cluster.broker(3).data_dir.clone();
    fs::remove_dir_all(&own).expect("nobody uses it");
    fs::rename(foreign, &own).expect("both are below one directory");
    cluster.broker_mut(3).spawn();
    wait_for("the others do not let it in", HEALED_WITHIN, || {
        cluster.broker(3).output().contains("it belongs to the cluster").then_some(())
    });
    wait_for("it is left out", HEALED_WITHIN, || (cluster.view_of(1, "")?.brokers == [1, 2]).then_some(()));
}

#[test]
fn a_broker_that_was_by_itself_does_not_become_a_member_unasked() {
    let mut alone = Broker::start();
    alone.terminate();
    let peers = format!("capek.cluster.peers=1@127.0.0.1:{},2@127.0.0.1:{}", free_port(), free_port());
    alone.set(&[&peers]);
    let (status, output) = Broker::run_to_refusal(alone.command());
    assert!(!status.success());
    assert!(output.contains("holds the metadata of a broker by itself"), "{output}");
}

#[test]
fn a_broker_waits_for_the_others_and_says_for_whom() {
    let directory = Directory::new();
    let data_dir = directory.path().join("data");
    let (first, second) = (free_port(), free_port());
    let peers = format!("capek.cluster.peers=1@127.0.0.1:{first},2@127.0.0.1:{second}");
    let mut broker = Broker::prepare(directory, data_dir, &[&peers]);
    broker.spawn();
    let expected = format!("waiting for broker 2 at 127.0.0.1:{second}");
    wait_for("it says whom it waits for", HEALED_WITHIN, || broker.output().contains(&expected).then_some(()));
    assert!(RawClient::try_connect(&broker.kafka()).and_then(|mut client| client.try_api_versions()).is_none());
}
