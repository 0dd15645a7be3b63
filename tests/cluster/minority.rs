//! Too few: of the voters, or of the replicas that are in sync. Writes are refused so that a client tries again, and whatever
//! was confirmed is still read.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, HEALED_WITHIN, SESSION, try_create_topic};
use crate::support::frames::{LATEST, NO_SEQUENCE, PRODUCE, Produced, RawClient, batch, produce_body, produced};
use crate::support::rest::{Answer, call};
use crate::support::wait_for;

pub const NOT_ENOUGH_REPLICAS: i16 = 19;
/// LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, the same after the append,
/// NOT_CONTROLLER.
const RETRIABLE: [i16; 6] = [5, 6, 7, 19, 20, 41];

#[test]
fn a_minority_refuses_writes_and_serves_reads_of_what_was_confirmed() {
    let mut cluster = Cluster::start();
    cluster.create_topic("alone", 1);
    let leader = cluster.leader("alone", 0);
    let mut client = cluster.client(leader);
    produce_until_confirmed(&cluster, "alone", b"confirmed");
    for id in cluster.others(&[leader]) {
        cluster.kill(id);
    }
    let refused = produce_soon(&mut client, "alone").error;
    assert!(RETRIABLE.contains(&refused), "{refused}");
    assert_reads(&mut client, "alone", b"confirmed");
    assert_eq!(client.list_offset("alone", 0, LATEST), (0, 1), "what was refused is not seen");
    let undecided = try_create_topic(&mut client, "undecided", 1, 1, &[]).expect("it answers");
    assert!(RETRIABLE.contains(&undecided), "{undecided}");

    cluster.start_all();
    cluster.wait_until_in_sync("alone", 1);
    produce_until_confirmed(&cluster, "alone", b"again");
    assert_reads(&mut cluster.client(cluster.leader("alone", 0)), "alone", b"confirmed");
}

/// Whoever shares load among brokers is told to leave this one out, and why; an election is no reason.
#[test]
fn a_broker_without_a_quorum_is_not_ready_and_says_why() {
    let mut cluster = Cluster::start();
    for id in cluster.ids() {
        assert_eq!(ready(&cluster, id, "/readyz").status, 200, "broker {id}");
    }
    let controller = cluster.controller();
    let survivor = cluster.others(&[controller])[0];
    cluster.kill(controller);
    // On a machine that is slow an election may take longer than a broker minds.
    let (began, mut unready_for) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < SESSION * 2 {
        let asked = Instant::now();
        let told = ready(&cluster, survivor, "/readyz");
        unready_for += if told.status == 200 { Duration::ZERO } else { asked.elapsed() };
    }
    assert!(unready_for < SESSION, "another is elected, and it is not ready for {unready_for:?}");
    cluster.start_again(controller);
    cluster.wait_until_settled();

    // The controller stays without the others in one case, and another broker in the next: each notices in its own way.
    for stays in [cluster.controller(), cluster.others(&[cluster.controller()])[0]] {
        for id in cluster.others(&[stays]) {
            cluster.kill(id);
        }
        let told = wait_for("it is not ready", NOTICED_WITHIN, || {
            let told = ready(&cluster, stays, "/readyz");
            (told.status == 503).then_some(told)
        });
        assert_eq!(told.body["status"], "unready", "{}", told.text);
        let reasons = told.body["reasons"].as_array().expect("there are reasons");
        let reasons: Vec<&str> = reasons.iter().filter_map(|reason| reason.as_str()).collect();
        assert!(reasons.iter().any(|reason| reason.contains("controller")), "{reasons:?}");
        for path in ["/actuator/health", "/status/ready"] {
            assert_eq!(ready(&cluster, stays, path).status, 503, "{path}");
        }
        assert_eq!(ready(&cluster, stays, "/healthz").status, 200, "it lives");
        cluster.start_all();
        wait_for("all are ready again", HEALED_WITHIN, || {
            cluster.ids().into_iter().all(|id| ready(&cluster, id, "/readyz").status == 200).then_some(())
        });
    }
}

/// Longer than an election, and the time for which a broker does not mind.
const NOTICED_WITHIN: Duration = Duration::from_secs(12);

fn ready(cluster: &Cluster, id: i32, path: &str) -> Answer {
    call("GET", &cluster.broker(id).http(path), &[], "")
}

/// The voters are enough here: it is the replicas that are not.
#[test]
fn a_leader_without_enough_replicas_in_sync_says_so_until_one_is_back() {
    let mut cluster = Cluster::start_with(5, &[]);
    cluster.create_topic("two", 1);
    let view = cluster.view("two").expect("brokers answer").partitions.remove(&0).expect("it has one partition");
    produce_until_confirmed(&cluster, "two", b"confirmed");
    let followers: Vec<i32> = view.replicas.iter().copied().filter(|id| *id != view.leader).collect();
    for id in &followers {
        cluster.kill(*id);
    }
    let mut client = cluster.client(view.leader);
    wait_for("the leader knows that it is alone", HEALED_WITHIN, || {
        let refused = produce_soon(&mut client, "two").error;
        assert!(RETRIABLE.contains(&refused), "{refused}");
        (refused == NOT_ENOUGH_REPLICAS).then_some(())
    });
    assert_reads(&mut client, "two", b"confirmed");
    cluster.start_again(followers[0]);
    produce_until_confirmed(&cluster, "two", b"again");
}

#[test]
fn topics_made_through_any_broker_are_seen_through_all() {
    let cluster = Cluster::start();
    for id in cluster.ids() {
        let topic = format!("through-{id}");
        cluster.create_topic_at(id, &topic, (3, 3), &[]);
        cluster.wait_until_in_sync(&topic, 3);
    }
    let views: Vec<_> = cluster.ids().into_iter().map(|id| cluster.view_of(id, "through-2")).collect();
    assert!(views.iter().all(|view| view.is_some() && *view == views[0]), "{views:?}");
}

fn produce_until_confirmed(cluster: &Cluster, topic: &str, value: &[u8]) -> Produced {
    const PATIENCE: Duration = Duration::from_secs(20);
    wait_for("a write is confirmed", PATIENCE, || {
        let produced = cluster.client(cluster.leader(topic, 0)).produce(topic, 0, &batch(&[value], NO_SEQUENCE));
        assert!(produced.error == 0 || RETRIABLE.contains(&produced.error), "{produced:?}");
        (produced.error == 0).then_some(produced)
    })
}

/// With a short `timeout.ms`: whoever waits for what cannot come is told so after that.
fn produce_soon(client: &mut RawClient, topic: &str) -> Produced {
    const TIMEOUT_MS: i32 = 1_000;
    let mut body = produce_body(-1, topic, 0, &batch(&[b"too few"], NO_SEQUENCE));
    body.0[4..8].copy_from_slice(&TIMEOUT_MS.to_be_bytes());
    produced(&mut client.call(PRODUCE, 7, body))
}

/// The first record.
fn assert_reads(client: &mut RawClient, topic: &str, value: &[u8]) {
    let (error, high_watermark, records) = client.fetch(topic, 0, 0);
    assert_eq!(error, 0);
    assert!(high_watermark >= 1, "{high_watermark}");
    assert!(records.windows(value.len()).any(|window| window == value), "{records:?}");
}
