//! Compacted topics: real clients write and read them while the cleaner is at work, and while it is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::broker::{Broker, Directory, binary};
use crate::support::programs::{Background, curl, franz, kcat, output_of, output_with_input, python};
use crate::support::tools::output_of_class;
use crate::support::wait_for;

const SOON: &str = "log.cleaner.backoff.ms=50";
const KEYED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "100"),
];
const KEYS: usize = 40;

/// What stands at an offset: key and value, `None` for a tombstone.
type Records = BTreeMap<i64, (String, Option<String>)>;

/// `kafka_client.py keyed`: an idempotent librdkafka producer, values of a kilobyte, tombstones among them.
struct Load {
    producer: Background,
    directory: Directory,
}

impl Load {
    fn start(broker: &Broker, topic: &str) -> Load {
        let directory = Directory::new();
        let confirmed = directory.path().join("confirmed");
        let arguments = ["keyed", &broker.kafka(), topic, &KEYS.to_string(), confirmed.to_str().expect("ASCII")];
        Load { producer: Background::start(python("kafka_client.py", &arguments)), directory }
    }

    fn wait_for_records(&self, count: usize) {
        let before = self.confirmed().len();
        wait_for("the load goes on", Duration::from_secs(60), || {
            (self.confirmed().len() >= before + count).then_some(())
        });
    }

    /// The whole lines of what was confirmed so far.
    fn confirmed(&self) -> Records {
        let text = fs::read_to_string(self.directory.path().join("confirmed")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(record).collect()
    }

    fn stop(mut self) -> Records {
        self.producer.close_input();
        let summary = self.producer.line();
        assert!(summary.contains("\"failed\": 0") && summary.contains("\"waiting\": 0"), "{summary}");
        self.confirmed()
    }
}

/// "OFFSET KEY VALUE", the value "-" for a tombstone.
fn record(line: &str) -> (i64, (String, Option<String>)) {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [offset, key, value] = fields[..] else { panic!("not a record: {line}") };
    let value = (value != "-").then(|| value.to_owned());
    (offset.parse().expect("an offset"), (key.to_owned(), value))
}

/// All that kcat reads from the beginning on.
fn read(broker: &Broker, topic: &str) -> Records {
    let format = "%o\\t%k\\t%S\\t%s\\n";
    let arguments = ["-C", "-b", &broker.kafka(), "-t", topic, "-o", "beginning", "-e", "-q", "-f", format];
    let text = output_of(kcat(&arguments));
    let record = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let value = (fields[2] != "-1").then(|| fields[3].split(':').next().unwrap_or_default().to_owned());
        (fields[0].parse().expect("an offset"), (fields[1].to_owned(), value))
    };
    text.lines().map(record).collect()
}

/// What is found was written there, and the last of each key is found, but for tombstones whose time is over.
fn check(found: &Records, written: &Records) {
    for (offset, record) in found {
        assert_eq!(written.get(offset), Some(record), "at offset {offset}");
    }
    for (key, (offset, value)) in last_of_each(written) {
        let is_found = found.contains_key(&offset);
        assert!(is_found || value.is_none(), "the last value of {key}, {value:?} at {offset}, is gone");
        let later = found.iter().rfind(|(_, record)| record.0 == key);
        assert!(is_found || later.is_none(), "{key} is deleted, but {later:?} is there");
    }
}

fn last_of_each(records: &Records) -> BTreeMap<String, (i64, Option<String>)> {
    records.iter().map(|(offset, (key, value))| (key.clone(), (*offset, value.clone()))).collect()
}

/// The cleaner is through: below the active segment each key is there once.
fn wait_until_compacted(broker: &Broker, topic: &str) -> Records {
    /// More records than a segment of a mebibyte holds.
    const ACTIVE_MAX: usize = 1200;
    wait_for("the topic is compacted", Duration::from_secs(60), || {
        let found = read(broker, topic);
        (found.len() <= ACTIVE_MAX + KEYS + 1).then_some(found)
    })
}

fn logs(broker: &Broker, topic: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(broker.data_dir.join(format!("{topic}-0"))).expect("the partition has a directory");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key_where_it_was() {
    let mut broker = Broker::start_with(&[SOON]);
    broker.create_topic_with("keyed", 1, KEYED);
    let deleted = ["-P", "-b", &broker.kafka(), "-t", "keyed", "-K", ":", "-Z"];
    output_with_input(kcat(&deleted), "deleted:0:\ndeleted:\n");
    let load = Load::start(&broker, "keyed");
    load.wait_for_records(6000);
    let mut written = load.stop();
    written.insert(0, ("deleted".into(), Some("0".into())));
    written.insert(1, ("deleted".into(), None));
    let found = wait_until_compacted(&broker, "keyed");
    check(&found, &written);
    // Others agree: librdkafka of today and franz-go. A clean that comes between two readers is no disagreement.
    let agreed = wait_for("three readers agree", Duration::from_secs(60), || {
        let before = read(&broker, "keyed");
        let drained = output_of(python("kafka_client.py", &["drain", &broker.kafka(), "keyed"]));
        let count = before.len().to_string();
        let franz = output_of(franz(&["consume", &broker.kafka(), "keyed", "earliest", &count]));
        (read(&broker, "keyed") == before).then_some((before.len(), drained.lines().count(), franz.lines().count()))
    });
    assert_eq!((agreed.1, agreed.2), (agreed.0, agreed.0));

    // The first clean gave the tombstone its horizon; one that comes after that takes it away.
    let load = Load::start(&broker, "keyed");
    load.wait_for_records(2500);
    written.extend(load.stop());
    let found = wait_for("the tombstone's time is over", Duration::from_secs(60), || {
        let found = read(&broker, "keyed");
        (!found.values().any(|record| record.0 == "deleted")).then_some(found)
    });
    check(&found, &written);

    let metrics = broker.output();
    assert!(broker.terminate().success(), "{metrics}");
    let checkpoint = fs::read_to_string(broker.data_dir.join("cleaner-offset-checkpoint")).expect("it was cleaned");
    assert!(checkpoint.starts_with("0\n1\nkeyed 0 "), "{checkpoint}");
    let verified = std::process::Command::new(binary())
        .args(["log", "verify"])
        .arg(broker.data_dir.join("keyed-0"))
        .output()
        .expect("it runs");
    assert!(verified.status.success(), "{verified:?}");
    for log in logs(&broker, "keyed") {
        let arguments = ["--deep-iteration", "--files", log.to_str().expect("ASCII")];
        let dump = output_of_class("org.apache.kafka.tools.DumpLogSegments", &arguments);
        assert!(dump.contains("isvalid: true") && !dump.contains("isvalid: false"), "{dump}");
    }
    broker.start_again();
    check(&read(&broker, "keyed"), &written);
}

/// The cleaner is so slow that most kills hit it at work.
#[test]
fn a_compacted_topic_survives_kills_in_the_middle_of_cleaning() {
    let mut broker = Broker::start_with(&[SOON, "log.cleaner.io.max.bytes.per.second=6000000"]);
    broker.create_topic_with("killed", 1, KEYED);
    let load = Load::start(&broker, "killed");
    load.wait_for_records(1500);
    for round in 0..10u64 {
        load.wait_for_records(500);
        std::thread::sleep(Duration::from_millis(round * 77 % 300));
        broker.kill();
        broker.start_again();
    }
    let written = load.stop();
    let found = wait_until_compacted(&broker, "killed");
    check(&found, &written);
    assert!(broker.data_dir.join("cleaner-offset-checkpoint").exists());
}

/// A panic in the cleaner is restarted and takes nothing with it.
#[test]
fn a_cleaner_thread_that_panics_is_started_again() {
    let broker = Broker::start_with(&[SOON, "capek.chaos=true"]);
    broker.create_topic_with("keyed", 1, KEYED);
    let load = Load::start(&broker, "keyed");
    let tree = || output_of(curl(&[&broker.http("/v1/actors?under=broker/log-cleaner")]));
    for round in 1..=3 {
        load.wait_for_records(500);
        let body = r#"{"path":"broker/log-cleaner/thread:0"}"#;
        let url = broker.http("/v1/chaos/panic");
        output_of(curl(&["-X", "POST", "-H", "content-type: application/json", "-d", body, &url]));
        wait_for("the thread is started again", Duration::from_secs(20), || {
            tree().contains(&format!("\"restarts\":{round}")).then_some(())
        });
    }
    load.wait_for_records(2500);
    let written = load.stop();
    check(&wait_until_compacted(&broker, "keyed"), &written);
    let tree = tree();
    assert!(tree.contains("broker/log-cleaner/thread:0") && tree.contains("\"restarts\":3"), "{tree}");
}
