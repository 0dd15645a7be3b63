//! A partition panics under load: it restarts from disk, producers see at most a retriable error, nothing confirmed is lost.
//!
//! `CAPEK_SOAK_PANICS=1000` is the long version.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use capek_actors::broker::{self, RunningBroker};
use capek_actors::census::Chaos;
use capek_actors::local::LocalClient;
use capek_actors::produce::{Acks, AppendOptions};
use capek_wire::batch;
use capek_wire::error_code::ErrorCode;

use common::{config, one_record};

mod common;

const TOPIC: &str = "panics";
const PATH: &str = "broker/replica-manager/partition:panics-0";
const ALL: AppendOptions = AppendOptions { acks: Acks::All, timeout: Duration::from_secs(5), partition_count: None };
const INFLATED_BYTES_MAX: usize = 1 << 20;

/// Values that were confirmed, by their offset.
type Confirmed = Arc<Mutex<BTreeMap<i64, String>>>;

async fn produce_until(client: LocalClient, name: usize, confirmed: Confirmed, stop: Arc<Mutex<bool>>) {
    let mut count = 0u64;
    while !*stop.lock().expect("no test thread panics") {
        let value = format!("{name}-{count}");
        count += 1;
        let answer = client.produce(TOPIC, 0, one_record(&value), ALL).await;
        match answer.error {
            ErrorCode::None => {
                let before = confirmed.lock().expect("no test thread panics").insert(answer.base_offset, value);
                assert_eq!(before, None, "offset {} was given twice", answer.base_offset);
            }
            error => assert!(error.is_retriable(), "{error} is not retriable"),
        }
        tokio::task::yield_now().await;
    }
}

async fn read_all(client: &LocalClient) -> BTreeMap<i64, String> {
    let shared = client.partition(TOPIC, 0).expect("the partition is online");
    let mut found = BTreeMap::new();
    let mut offset = 0;
    while let Some(read) = client.read(&shared, offset, 1 << 20).await.expect("the log is readable") {
        let mut position = 0;
        while position < read.bytes.len() {
            let header = batch::BatchHeader::parse(&read.bytes[position..]).expect("whole batches");
            let bytes: Bytes = read.bytes.slice(position..position + header.size_bytes());
            for record in batch::records(bytes, INFLATED_BYTES_MAX).expect("a good batch") {
                let record = record.expect("a good record");
                let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
                found.insert(record.offset, value);
            }
            position += header.size_bytes();
        }
        offset = read.next_offset;
    }
    found
}

async fn panic_and_wait(running: &RunningBroker, expected_restarts: u32) {
    let entry = running.shared.census.find(PATH).expect("the partition is in the census");
    assert!(entry.send_chaos(Chaos::Panic));
    for _ in 0..2_000 {
        if entry.restarts.load(Ordering::Relaxed) >= expected_restarts {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the partition was not restarted");
}

#[test]
fn what_was_confirmed_survives_panics_of_its_partition() {
    let panics: u32 = std::env::var("CAPEK_SOAK_PANICS").map_or(5, |count| count.parse().expect("a count"));
    let dir = std::env::temp_dir().join(format!("capek-supervision-{}", std::process::id()));
    actix::System::new().block_on(async {
        let running = broker::start(config(dir.clone())).await.expect("the broker starts");
        let client = LocalClient::new(running.shared.clone());
        client.create_topic(TOPIC).await.expect("the topic is created");
        let confirmed = Confirmed::default();
        let stop = Arc::new(Mutex::new(false));
        let producers: Vec<_> = (0..4)
            .map(|name| actix::spawn(produce_until(client.clone(), name, confirmed.clone(), stop.clone())))
            .collect();
        for panic in 1..=panics {
            tokio::time::sleep(Duration::from_millis(20)).await;
            panic_and_wait(&running, panic).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        *stop.lock().expect("no test thread panics") = true;
        for producer in producers {
            producer.await.expect("a producer ends well");
        }
        let found = read_all(&client).await;
        let confirmed = confirmed.lock().expect("no test thread panics").clone();
        assert!(confirmed.len() > panics as usize, "only {} records were confirmed", confirmed.len());
        for (offset, value) in &confirmed {
            assert_eq!(found.get(offset), Some(value), "offset {offset} was confirmed");
        }
        running.stop().await.expect("a clean stop");
    });
    std::fs::remove_dir_all(&dir).expect("the test may delete its own directory");
}
