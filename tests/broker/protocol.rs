//! What no well-behaved client shows: pipelined requests, a repeated idempotent batch, corrupt batches, acks=0. By hand-made frames.

use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::frames::{
    API_VERSIONS, FETCH, Fields, LATEST, METADATA, NO_SEQUENCE, PRODUCE, Sequence, batch, count_records, fetch_body,
    produce_body, produced,
};

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_REQUIRED_ACKS: i16 = 21;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_RECORD: i16 = 87;

/// Produce, metadata and versions in one write, fifty times over: the answers come in the order of the questions, and the
/// appends of a partition in it too.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start();
    broker.create_topic("pipeline", 2);
    let mut client = broker.client();
    let mut expected = Vec::new();
    for round in 0..50 {
        let value = format!("{round}");
        for partition in 0..2 {
            let body = produce_body(-1, "pipeline", partition, &batch(&[value.as_bytes()], NO_SEQUENCE));
            expected.push((client.send(PRODUCE, 7, body), true));
        }
        expected.push((client.send(METADATA, 1, Fields::default().i32(-1)), false));
        expected.push((client.send(API_VERSIONS, 0, Fields::default()), false));
    }
    let mut base_offsets = Vec::new();
    for (correlation_id, is_produce) in expected {
        let (answered, mut answer) = client.receive();
        assert_eq!(answered, correlation_id);
        if is_produce {
            let produced = produced(&mut answer);
            assert_eq!(produced.error, 0);
            base_offsets.push(produced.base_offset);
        }
    }
    let in_order: Vec<i64> = (0..50).flat_map(|offset| [offset, offset]).collect();
    assert_eq!(base_offsets, in_order, "each partition keeps the order of the requests");
}

/// A waiting fetch holds back the answers behind it, as on Kafka, and a produce elsewhere wakes it.
#[test]
fn a_waiting_fetch_is_woken_by_a_produce() {
    let broker = Broker::start();
    broker.create_topic("long-poll", 1);
    let mut consumer = broker.client();
    consumer.send(FETCH, 4, fetch_body("long-poll", 0, 0, 10_000));
    let later = consumer.send(API_VERSIONS, 0, Fields::default());
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    assert_eq!(broker.client().produce("long-poll", 0, &batch(&[b"wake"], NO_SEQUENCE)).error, 0);
    consumer.receive();
    assert_eq!(consumer.receive().0, later);
    assert!(started.elapsed() < Duration::from_secs(3), "woken, not timed out: {:?}", started.elapsed());
}

#[test]
fn a_repeated_idempotent_batch_gets_the_same_offset_and_is_stored_once() {
    let mut broker = Broker::start();
    broker.create_topic("idempotent", 1);
    let (producer_id, producer_epoch) = broker.client().init_producer_id();
    let at = |base_sequence| Sequence { producer_id, producer_epoch, base_sequence };
    let first = batch(&[b"a", b"b"], at(0));
    let second = batch(&[b"c"], at(2));
    let produce = |broker: &Broker, batch: &[u8]| broker.client().produce("idempotent", 0, batch);
    assert_eq!((produce(&broker, &first).error, produce(&broker, &second).base_offset), (0, 2));
    assert_eq!(produce(&broker, &first).base_offset, 0);
    assert_eq!(produce(&broker, &second).base_offset, 2);
    assert_eq!(produce(&broker, &batch(&[b"gap"], at(9))).error, OUT_OF_ORDER_SEQUENCE_NUMBER);

    broker.kill();
    broker.start_again();
    assert_eq!(produce(&broker, &second).base_offset, 2, "after a crash as well");
    assert_eq!(produce(&broker, &batch(&[b"d"], at(3))).base_offset, 3);
    let older = Sequence { producer_epoch: producer_epoch - 1, ..at(4) };
    assert_eq!(produce(&broker, &batch(&[b"old epoch"], older)).error, INVALID_PRODUCER_EPOCH);
    let (error, high_watermark, batches) = broker.client().fetch("idempotent", 0, 0);
    assert_eq!((error, high_watermark), (0, 4));
    assert_eq!(count_records(&batches), (4, 4));
}

/// Kafka takes whatever comes first. But the first batch may be on its way still, and the client would take it for stored.
#[test]
fn a_producer_that_is_new_to_a_partition_begins_at_zero_there() {
    let mut broker = Broker::start();
    broker.create_topic("new", 2);
    let (producer_id, producer_epoch) = broker.client().init_producer_id();
    let produce = |broker: &Broker, partition, base_sequence| {
        let sequence = Sequence { producer_id, producer_epoch, base_sequence };
        broker.client().produce("new", partition, &batch(&[b"a"], sequence)).error
    };
    assert_eq!(produce(&broker, 0, 1), OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!([produce(&broker, 0, 0), produce(&broker, 0, 1)], [0, 0]);
    broker.create_topic("new-too", 1);
    assert_eq!(broker.client().init_producer_id().0 / 1000, producer_id / 1000 + 1, "the older block is not used on");

    broker.kill();
    broker.start_again();
    assert_eq!(produce(&broker, 1, 7), 0, "it may have been forgotten");
}

/// The librdkafka and Java clients would see their records twice if an id came back after a restart.
#[test]
fn producer_ids_never_repeat() {
    let mut broker = Broker::start();
    let mut ids: Vec<i64> = (0..20).map(|_| broker.client().init_producer_id().0).collect();
    broker.kill();
    broker.start_again();
    ids.extend((0..20).map(|_| broker.client().init_producer_id().0));
    broker.terminate();
    broker.start_again();
    ids.extend((0..20).map(|_| broker.client().init_producer_id().0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 60);
}

#[test]
fn a_bad_batch_is_refused_and_nothing_is_appended() {
    let broker = Broker::start();
    broker.create_topic("bad", 1);
    let good = batch(&[b"value"], NO_SEQUENCE);
    let mut client = broker.client();
    let mut check = |batch: &[u8], error: i16| assert_eq!(client.produce("bad", 0, batch).error, error);
    let changed = |at: usize, value: u8| {
        let mut batch = good.clone();
        batch[at] = value;
        batch
    };
    check(&changed(good.len() - 1, 0xff), CORRUPT_MESSAGE);
    check(&changed(17, good[17] ^ 1), CORRUPT_MESSAGE);
    check(&changed(7, 1), INVALID_RECORD); // a base offset that is not zero
    check(&[good.clone(), good.clone()].concat(), INVALID_RECORD); // two batches for a partition
    check(&changed(16, 1), INVALID_RECORD); // an old magic
    check(&batch(&[&[b'x'; 2 << 20]], NO_SEQUENCE), MESSAGE_TOO_LARGE);
    check(&batch(&[b"a"], Sequence { producer_id: 7, producer_epoch: 0, base_sequence: -2 }), INVALID_RECORD);
    assert_eq!(client.list_offset("bad", 0, LATEST), (0, 0));
    assert_eq!(client.produce("bad", 0, &good).base_offset, 0);
}

#[test]
fn requests_for_what_is_not_there_get_kafkas_error_codes() {
    let broker = Broker::start();
    broker.create_topic("here", 1);
    let mut client = broker.client();
    let good = batch(&[b"value"], NO_SEQUENCE);
    assert_eq!(client.produce("elsewhere", 0, &good).error, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(client.produce("here", 1, &good).error, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(client.fetch("elsewhere", 0, 0).0, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(client.create_topic("here", 1, &[]), TOPIC_ALREADY_EXISTS);
    assert_eq!(client.create_topic("../escape", 1, &[]), INVALID_TOPIC_EXCEPTION);
    let mut answer = client.call(PRODUCE, 7, produce_body(2, "here", 0, &good));
    assert_eq!(produced(&mut answer).error, INVALID_REQUIRED_ACKS);
}

/// As with Kafka, the last of them counts, and one answer comes.
#[test]
fn a_partition_that_a_request_names_twice_is_answered_once() {
    let broker = Broker::start();
    broker.create_topic("twice", 2);
    let mut client = broker.client();
    let (first, second, other) =
        (batch(&[b"a"], NO_SEQUENCE), batch(&[b"b", b"c"], NO_SEQUENCE), batch(&[b"d"], NO_SEQUENCE));
    let body = Fields::default().i16(-1).i16(-1).i32(10_000).i32(2);
    let body = body.string("twice").i32(1).i32(0).bytes(&first);
    let body = body.string("twice").i32(2).i32(1).bytes(&other).i32(0).bytes(&second);
    let mut answer = client.call(PRODUCE, 7, body);
    let (topics, _name, partitions) = (answer.i32(), answer.string(), answer.i32());
    assert_eq!((topics, partitions), (1, 2));
    for index in [1, 0] {
        assert_eq!((answer.i32(), answer.i16(), answer.i64()), (index, 0, 0));
        let (_append_time_ms, _start_offset) = (answer.i64(), answer.i64());
    }
    assert_eq!((client.list_offset("twice", 0, LATEST), client.list_offset("twice", 1, LATEST)), ((0, 2), (0, 1)));

    let body = Fields::default().i32(-1).i32(0).i32(1).i32(8 << 20).i8(0).i32(1).string("twice").i32(2);
    let mut answer = client.call(FETCH, 4, body.i32(0).i64(0).i32(8 << 20).i32(0).i64(2).i32(8 << 20));
    let (_throttle_ms, topics, _name, partitions) = (answer.i32(), answer.i32(), answer.string(), answer.i32());
    assert_eq!((topics, partitions), (1, 1));
    let (index, error, high_watermark, _last_stable) = (answer.i32(), answer.i16(), answer.i64(), answer.i64());
    assert_eq!((index, error, high_watermark), (0, 0, 2));
    let aborted = answer.i32().max(0);
    assert_eq!((aborted, answer.bytes().len()), (0, 0), "it is read from where the last wish says");
}

/// The state of coordinators that are not there yet: made as an ordinary topic it would be wrong for them, and stay so.
#[test]
fn internal_topics_without_a_coordinator_are_not_created_on_first_use() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut created = |name: &str| {
        let mut answer = client.call(METADATA, 4, Fields::default().i32(1).string(name).i8(1));
        let _throttle_ms = answer.i32();
        for _ in 0..answer.i32() {
            let (_id, _host, _port, _rack) = (answer.i32(), answer.string(), answer.i32(), answer.string());
        }
        let (_cluster_id, _controller_id) = (answer.string(), answer.i32());
        let (topics, error, _name, _is_internal) = (answer.i32(), answer.i16(), answer.string(), answer.i8());
        assert_eq!(topics, 1);
        (error, answer.i32())
    };
    for name in ["__transaction_state", "__share_group_state", "__cluster_metadata"] {
        // A topic that is being made is unknown the first time.
        for _ in 0..2 {
            assert_eq!(created(name), (UNKNOWN_TOPIC_OR_PARTITION, 0), "{name}");
        }
    }
    crate::support::wait_for("an ordinary topic", Duration::from_secs(10), || {
        (created("ordinary") == (0, 1)).then_some(())
    });
}

/// KIP-511: a client of tomorrow is told, in the oldest form, what this broker speaks.
#[test]
fn api_versions_of_a_later_version_is_answered_in_the_oldest_form() {
    let broker = Broker::start();
    let mut client = broker.client();
    // An empty tag section of the header, then the name and version of the client in their compact form.
    let mut answer = client.call(API_VERSIONS, 99, Fields::default().raw(&[0, 2, b'x', 2, b'1', 0]));
    assert_eq!(answer.i16(), UNSUPPORTED_VERSION);
    let count = answer.i32();
    let keys: Vec<(i16, i16, i16)> = (0..count).map(|_| (answer.i16(), answer.i16(), answer.i16())).collect();
    assert!(keys.contains(&(API_VERSIONS, 0, 4)), "{keys:?}");
}

/// What old librdkafka looks for before it uses a feature.
#[test]
fn the_version_ranges_that_old_clients_need_are_advertised() {
    let broker = Broker::start();
    let mut answer = broker.client().call(API_VERSIONS, 0, Fields::default());
    assert_eq!(answer.i16(), 0);
    let count = answer.i32();
    let ranges: Vec<(i16, i16, i16)> = (0..count).map(|_| (answer.i16(), answer.i16(), answer.i16())).collect();
    for (key, version) in [(0, 0), (0, 7), (0, 13), (1, 4), (1, 10), (1, 18), (2, 1), (3, 0), (3, 13), (18, 0), (22, 0)]
    {
        let found = ranges.iter().any(|(api, low, high)| *api == key && (*low..=*high).contains(&version));
        assert!(found, "api {key} version {version} is not in {ranges:?}");
    }
}

#[test]
fn acks_zero_is_stored_and_not_answered() {
    let broker = Broker::start();
    broker.create_topic("fire-and-forget", 1);
    let mut client = broker.client();
    for _ in 0..10 {
        client.send(PRODUCE, 7, produce_body(0, "fire-and-forget", 0, &batch(&[b"x"], NO_SEQUENCE)));
    }
    let next = client.send(API_VERSIONS, 0, Fields::default());
    assert_eq!(client.receive().0, next, "the first answer is the one to the request that has one");
    crate::support::wait_for("ten records", Duration::from_secs(5), || {
        (client.list_offset("fire-and-forget", 0, LATEST) == (0, 10)).then_some(())
    });
}
