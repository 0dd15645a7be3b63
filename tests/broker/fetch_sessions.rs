//! Fetch sessions (KIP-227) on the real binary: by hand-made frames, which Kafka 4.3 answers alike, and by Java's consumer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::frames::{FETCH, Fields, NO_SEQUENCE, RawClient, batch, count_records};
use crate::support::programs::{Background, java, parse_tabbed};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;

/// One Fetch request of version 7 and what it asks of topic `t`.
#[derive(Clone, Copy)]
struct Fetch<'a> {
    session_id: i32,
    epoch: i32,
    /// (partition, offset)
    wanted: &'a [(i32, i64)],
    forgotten: &'a [i32],
    wait_ms: i32,
    min_bytes: i32,
}

const FULL: Fetch<'_> = Fetch { session_id: 0, epoch: 0, wanted: &[], forgotten: &[], wait_ms: 0, min_bytes: 1 };

/// (partition, error, high watermark, records)
type Told = (i32, i16, i64, i64);

fn fetch(client: &mut RawClient, fetch: Fetch<'_>) -> (i16, i32, Vec<Told>) {
    let mut body = Fields::default().i32(-1).i32(fetch.wait_ms).i32(fetch.min_bytes).i32(1 << 20).i8(0);
    body = body.i32(fetch.session_id).i32(fetch.epoch);
    body = body.i32(i32::from(!fetch.wanted.is_empty()));
    if !fetch.wanted.is_empty() {
        body = body.string("t").i32(fetch.wanted.len() as i32);
        for (partition, offset) in fetch.wanted {
            body = body.i32(*partition).i64(*offset).i64(-1).i32(1 << 20);
        }
    }
    body = body.i32(i32::from(!fetch.forgotten.is_empty()));
    if !fetch.forgotten.is_empty() {
        body = body.string("t").i32(fetch.forgotten.len() as i32);
        body = fetch.forgotten.iter().fold(body, |body, partition| body.i32(*partition));
    }
    let mut answer = client.call(FETCH, 7, body);
    let (_throttle_ms, error, session_id) = (answer.i32(), answer.i16(), answer.i32());
    let mut told = Vec::new();
    for _ in 0..answer.i32() {
        assert_eq!(answer.string(), "t");
        for _ in 0..answer.i32() {
            let (partition, error, high_watermark) = (answer.i32(), answer.i16(), answer.i64());
            let (_last_stable, _log_start) = (answer.i64(), answer.i64());
            assert!(answer.i32() <= 0, "no transactions are aborted");
            told.push((partition, error, high_watermark, count_records(&answer.bytes()).0));
        }
    }
    (error, session_id, told)
}

fn produce(broker: &Broker, partition: i32, values: &[&[u8]]) {
    assert_eq!(broker.client().produce("t", partition, &batch(values, NO_SEQUENCE)).error, 0);
}

#[test]
fn a_session_tells_only_what_changed() {
    let broker = Broker::start();
    broker.create_topic("t", 3);
    let mut client = broker.client();
    let (error, id, told) = fetch(&mut client, Fetch { wanted: &[(0, 0), (1, 0), (2, 0)], ..FULL });
    assert_eq!((error, told), (0, vec![(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0)]));
    assert!(id > 0);
    let next = |epoch| Fetch { session_id: id, epoch, wait_ms: 100, ..FULL };

    let started = Instant::now();
    assert_eq!(fetch(&mut client, next(1)), (0, id, vec![]));
    assert!(started.elapsed() >= Duration::from_millis(100), "there is nothing to tell: it waits");

    produce(&broker, 1, &[b"a", b"b"]);
    assert_eq!(fetch(&mut client, next(2)), (0, id, vec![(1, 0, 2, 2)]));
    produce(&broker, 0, &[b"c"]);
    produce(&broker, 2, &[b"d"]);
    // Partition 1 goes on behind what it gave; it was served, so it comes last from now on.
    let wanted = [(1, 2)];
    let told = fetch(&mut client, Fetch { wanted: &wanted, ..next(3) });
    assert_eq!(told, (0, id, vec![(0, 0, 1, 1), (2, 0, 1, 1)]));
    produce(&broker, 1, &[b"e"]);
    let wanted = [(0, 1), (2, 1)];
    let told = fetch(&mut client, Fetch { wanted: &wanted, forgotten: &[2], ..next(4) });
    assert_eq!(told, (0, id, vec![(1, 0, 3, 1)]));

    let wanted = [(1, 99), (7, 0)];
    let told = fetch(&mut client, Fetch { wanted: &wanted, ..next(5) });
    let failed = vec![(1, OFFSET_OUT_OF_RANGE, -1, 0), (7, UNKNOWN_TOPIC_OR_PARTITION, -1, 0)];
    assert_eq!(told, (0, id, failed.clone()));
    assert_eq!(fetch(&mut client, next(6)), (0, id, failed), "an error is told until it is over");
}

#[test]
fn a_session_is_used_in_order_and_from_any_connection() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let mut client = broker.client();
    let (_, id, _) = fetch(&mut client, Fetch { wanted: &[(0, 0)], ..FULL });
    let next = |epoch| Fetch { session_id: id, epoch, ..FULL };
    assert_eq!(fetch(&mut client, next(2)), (INVALID_FETCH_SESSION_EPOCH, 0, vec![]));
    assert_eq!(fetch(&mut client, next(1)), (0, id, vec![]));
    assert_eq!(fetch(&mut client, next(1)), (INVALID_FETCH_SESSION_EPOCH, 0, vec![]));
    drop(client);
    let mut client = broker.client();
    assert_eq!(fetch(&mut client, next(2)), (0, id, vec![]));
    assert_eq!(fetch(&mut client, Fetch { forgotten: &[0], ..next(3) }), (0, 0, vec![]), "a session of nothing ends");
    assert_eq!(fetch(&mut client, next(4)), (FETCH_SESSION_ID_NOT_FOUND, 0, vec![]));
}

#[test]
fn a_full_fetch_ends_the_session_that_it_names() {
    let broker = Broker::start_with(&["max.incremental.fetch.session.cache.slots=1"]);
    broker.create_topic("t", 1);
    let mut client = broker.client();
    let wanted = [(0, 0)];
    let begin = |session_id| Fetch { session_id, wanted: &wanted, ..FULL };
    let (_, first, _) = fetch(&mut client, begin(0));
    assert_eq!(fetch(&mut client, begin(0)).1, 0, "there is room for one");
    let (_, second, _) = fetch(&mut client, begin(first));
    assert!(second > 0 && second != first);
    assert_eq!(fetch(&mut client, Fetch { session_id: first, epoch: 1, ..FULL }).0, FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(fetch(&mut client, Fetch { epoch: -1, ..begin(second) }), (0, 0, vec![(0, 0, 0, 0)]));
    assert_eq!(fetch(&mut client, Fetch { session_id: second, epoch: 1, ..FULL }).0, FETCH_SESSION_ID_NOT_FOUND);
}

/// A read ends with its segment: to wait for more bytes would be to wait in vain.
#[test]
fn a_fetch_in_an_older_segment_does_not_wait() {
    let broker = Broker::start();
    broker.create_topic_with("t", 1, &[("segment.bytes", "1048576")]);
    let value = vec![b'x'; 600_000];
    broker.client().try_api_versions().expect("the broker answers");
    let mut client = broker.client();
    client.try_api_versions().expect("the first request of a connection is a small one");
    for _ in 0..3 {
        assert_eq!(client.produce("t", 0, &batch(&[&value], NO_SEQUENCE)).error, 0);
    }
    let started = Instant::now();
    let (error, _, told) =
        fetch(&mut client, Fetch { wanted: &[(0, 0)], wait_ms: 5000, min_bytes: 1 << 30, epoch: -1, ..FULL });
    assert_eq!((error, told.len()), (0, 1));
    assert!(told[0].3 >= 1, "{told:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// Java says in its debug log what kind of answer it got.
#[test]
fn java_reads_a_hundred_partitions_through_one_session() {
    let broker = Broker::start();
    broker.create_topic("hundred", 100);
    let log = broker.data_dir.with_file_name("java.log");
    let logging = broker.data_dir.with_file_name("log4j2.properties");
    let lines = [
        "appender.file.type = File",
        "appender.file.name = FILE",
        &format!("appender.file.fileName = {}", log.display()),
        "appender.file.layout.type = PatternLayout",
        "appender.file.layout.pattern = %p %m%n",
        "rootLogger.level = warn",
        "rootLogger.appenderRef.file.ref = FILE",
        "logger.sessions.name = org.apache.kafka.clients.FetchSessionHandler",
        "logger.sessions.level = debug",
    ];
    std::fs::write(&logging, lines.join("\n")).expect("the test's directory is writable");
    let mut command = java("KafkaClient", &["consume", &broker.kafka(), "hundred", "earliest", "300"]);
    command.env("JAVA_TOOL_OPTIONS", format!("-Dlog4j2.configurationFile={}", logging.display()));
    let mut consumer = Background::start(command);
    let mut seen = BTreeSet::new();
    let mut client = broker.client();
    for round in 0..3 {
        for partition in 0..100 {
            let value = format!("{partition}-{round}");
            assert_eq!(client.produce("hundred", partition, &batch(&[value.as_bytes()], NO_SEQUENCE)).error, 0);
        }
        let lines: Vec<String> = (0..100).map(|_| consumer.line()).collect();
        seen.extend(parse_tabbed(&lines.join("\n")).into_iter().map(|record| record.value));
    }
    assert_eq!(seen.len(), 300);
    assert_eq!(consumer.next_line(), None, "it ends when it has seen them all");
    let log = std::fs::read_to_string(log).expect("Java writes its log");
    assert!(log.contains("sent an incremental fetch response"), "{log}");
    for complaint in ["was unable to process", "invalid", "WARN", "ERROR"] {
        assert!(!log.contains(complaint), "{complaint}: {log}");
    }
}
