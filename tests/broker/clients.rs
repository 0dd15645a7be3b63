//! Kafka clients of four families read back what each of them wrote: every codec, headers that repeat, from the beginning, an
//! offset, a timestamp and the end.

use std::collections::BTreeMap;

use crate::support::broker::Broker;
use crate::support::programs::{
    Background, Seen, by_place, franz, java, kcat, output_of, output_with_input, parse_json_lines, parse_tabbed, python,
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const RECORDS: usize = 20;
/// What every producing program stamps on its first record; each further one is a second later.
const FIRST_TIMESTAMP_MS: i64 = 1_700_000_000_000;
const TABBED: &str = "%p\\t%o\\t%T\\t%k\\t%s\\t%h\\n";

/// Debian's kcat is librdkafka 2.0.2, which misreads a tagged field that is written at its default.
#[test]
fn kcat_of_debian_lists_a_fresh_broker() {
    let broker = Broker::start();
    let listing = output_of(kcat(&["-L", "-b", &broker.kafka()]));
    assert!(listing.contains(&format!("broker 1 at 127.0.0.1:{}", broker.kafka_port)), "{listing}");
    broker.create_topic("orders", 3);
    let listing = output_of(kcat(&["-L", "-b", &broker.kafka()]));
    assert!(listing.contains("topic \"orders\" with 3 partitions:"), "{listing}");
}

#[test]
fn kcat_reads_back_what_it_wrote_with_every_codec() {
    let broker = Broker::start();
    broker.create_topic("kcat", 3);
    let input: String = (0..RECORDS).map(|index| format!("key-{index}:value-{index}\n")).collect();
    for codec in CODECS {
        let headers = ["-H", "trace=1", "-H", "trace=again", "-H", "null"];
        let arguments = ["-P", "-b", &broker.kafka(), "-t", "kcat", "-K", ":", "-z", codec, "-X", "acks=all"];
        output_with_input(kcat(&[&arguments[..], &headers[..]].concat()), &input);
    }
    let seen = kcat_consume(&broker, "kcat", "beginning");
    assert_eq!(seen.len(), RECORDS * CODECS.len());
    by_place(&seen);
    for record in &seen {
        assert_eq!(record.headers, "trace=1,trace=again,null=null");
    }
    for index in 0..RECORDS {
        let times = seen.iter().filter(|record| record.key == format!("key-{index}")).count();
        assert_eq!(times, CODECS.len(), "key-{index} with every codec");
    }
}

#[test]
fn librdkafka_reads_what_librdkafka_wrote() {
    check_round_trip(librdkafka_produce, librdkafka_consume);
}

#[test]
fn java_reads_what_java_wrote() {
    check_round_trip(java_produce, java_consume);
}

#[test]
fn franz_go_reads_what_franz_go_wrote() {
    check_round_trip(franz_produce, franz_consume);
}

/// Whatever the producer, all consumers see the same records in the same places.
#[test]
fn every_client_reads_what_any_other_wrote() {
    let broker = Broker::start();
    let producers: [(&str, Produce); 3] =
        [("rdkafka", librdkafka_produce), ("java", java_produce), ("franz", franz_produce)];
    for (topic, produce) in producers {
        broker.create_topic(topic, 2);
        for codec in CODECS {
            produce(&broker, topic, codec);
        }
        let count = RECORDS * CODECS.len();
        let by_kcat = by_place(&kcat_consume(&broker, topic, "beginning"));
        assert_eq!(by_kcat.len(), count);
        assert_eq!(by_kcat, by_place(&librdkafka_consume(&broker, topic, "earliest", count)), "librdkafka of {topic}");
        assert_eq!(by_kcat, by_place(&java_consume(&broker, topic, "earliest", count)), "java of {topic}");
        assert_eq!(by_kcat, by_place(&franz_consume(&broker, topic, "earliest", count)), "franz-go of {topic}");
    }
}

#[test]
fn kcat_reads_from_an_offset_a_timestamp_and_the_tail() {
    let broker = Broker::start();
    broker.create_topic("places", 1);
    librdkafka_produce(&broker, "places", "zstd");
    let offsets =
        |from: &str| -> Vec<i64> { kcat_consume(&broker, "places", from).iter().map(|record| record.offset).collect() };
    assert_eq!(offsets("15"), [15, 16, 17, 18, 19]);
    assert_eq!(offsets("-3"), [17, 18, 19]);
    assert_eq!(offsets(&format!("s@{}", FIRST_TIMESTAMP_MS + 16_500)), [17, 18, 19]);
    assert!(offsets("end").is_empty());
}

#[test]
fn a_consumer_at_the_end_sees_only_what_comes_after() {
    let broker = Broker::start();
    broker.create_topic("tail", 2);
    librdkafka_produce(&broker, "tail", "lz4");
    let count = RECORDS.to_string();
    let mut consumer =
        Background::start(python("kafka_client.py", &["consume", &broker.kafka(), "tail", "latest", &count]));
    assert!(consumer.line().contains("ready"));
    franz_produce(&broker, "tail", "snappy");
    let lines: Vec<String> = (0..RECORDS).map(|_| consumer.line()).collect();
    let mut keys: Vec<String> = parse_json_lines(&lines.join("\n")).into_iter().map(|record| record.key).collect();
    keys.sort();
    let mut expected: Vec<String> = (0..RECORDS).map(|index| format!("key-{index}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
}

/// Clients that ask for metadata of an unknown topic make it, with `num.partitions`.
#[test]
fn producing_to_an_unknown_topic_creates_it() {
    let broker = Broker::start_with(&["num.partitions=4"]);
    librdkafka_produce(&broker, "made-by-use", "none");
    assert_eq!(kcat_consume(&broker, "made-by-use", "beginning").len(), RECORDS);
    let listing = output_of(kcat(&["-L", "-b", &broker.kafka(), "-t", "made-by-use"]));
    assert!(listing.contains("topic \"made-by-use\" with 4 partitions:"), "{listing}");
}

type Produce = fn(&Broker, &str, &str);
type Consume = fn(&Broker, &str, &str, usize) -> Vec<Seen>;

/// Every codec into one topic, then from the beginning, from an offset and from a timestamp.
fn check_round_trip(produce: Produce, consume: Consume) {
    let broker = Broker::start();
    broker.create_topic("round-trip", 1);
    for codec in CODECS {
        produce(&broker, "round-trip", codec);
    }
    let count = RECORDS * CODECS.len();
    let all = by_place(&consume(&broker, "round-trip", "earliest", count));
    assert_eq!(all.len(), count);
    for ((_, offset), record) in &all {
        check_record(record, (*offset as usize) % RECORDS);
    }
    let offset_start = count as i64 - 7;
    let tail = by_place(&consume(&broker, "round-trip", &format!("offset:{offset_start}"), 7));
    assert_eq!(tail, all.range((0, offset_start)..).map(|(place, record)| (*place, record.clone())).collect());
    // The first record at or after the time, and all that follows it.
    let first = RECORDS - 5;
    let timestamp_ms = FIRST_TIMESTAMP_MS + first as i64 * 1000 - 500;
    let later = by_place(&consume(&broker, "round-trip", &format!("timestamp:{timestamp_ms}"), count - first));
    let expected: BTreeMap<_, _> =
        all.range((0, first as i64)..).map(|(place, record)| (*place, record.clone())).collect();
    assert_eq!(later, expected);
}

fn check_record(record: &Seen, index: usize) {
    assert_eq!(record.key, format!("key-{index}"));
    assert_eq!(record.value, format!("value-{index}-{}", "x".repeat(100)));
    assert_eq!(record.timestamp_ms, FIRST_TIMESTAMP_MS + index as i64 * 1000);
    assert!(record.headers.starts_with(&format!("trace={index},trace=again,")), "{}", record.headers);
    assert!(record.headers.ends_with("null=null"), "{}", record.headers);
}

fn librdkafka_produce(broker: &Broker, topic: &str, codec: &str) {
    let confirmed =
        output_of(python("kafka_client.py", &["produce", &broker.kafka(), topic, &RECORDS.to_string(), codec]));
    assert_eq!(confirmed.lines().count(), RECORDS);
}

fn java_produce(broker: &Broker, topic: &str, codec: &str) {
    let confirmed = output_of(java("KafkaClient", &["produce", &broker.kafka(), topic, &RECORDS.to_string(), codec]));
    assert_eq!(confirmed.lines().count(), RECORDS);
}

fn franz_produce(broker: &Broker, topic: &str, codec: &str) {
    let confirmed = output_of(franz(&["produce", &broker.kafka(), topic, &RECORDS.to_string(), codec]));
    assert_eq!(confirmed.lines().count(), RECORDS);
}

fn librdkafka_consume(broker: &Broker, topic: &str, from: &str, count: usize) -> Vec<Seen> {
    let arguments = ["consume", &broker.kafka(), topic, from, &count.to_string()];
    parse_json_lines(&output_of(python("kafka_client.py", &arguments)))
}

fn java_consume(broker: &Broker, topic: &str, from: &str, count: usize) -> Vec<Seen> {
    let arguments = ["consume", &broker.kafka(), topic, from, &count.to_string()];
    parse_tabbed(&output_of(java("KafkaClient", &arguments)))
}

fn franz_consume(broker: &Broker, topic: &str, from: &str, count: usize) -> Vec<Seen> {
    let arguments = ["consume", &broker.kafka(), topic, from, &count.to_string()];
    parse_tabbed(&output_of(franz(&arguments)))
}

fn kcat_consume(broker: &Broker, topic: &str, from: &str) -> Vec<Seen> {
    let arguments = ["-C", "-q", "-e", "-b", &broker.kafka(), "-t", topic, "-o", from, "-f", TABBED];
    parse_tabbed(&output_of(kcat(&[&arguments[..], &["-X", "check.crcs=true"]].concat())))
}
