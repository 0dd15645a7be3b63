//! Pages go on where they were when the broker was away, killed or stopped: nothing is missing, nothing comes twice.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{curl, run};
use crate::support::wait_for;
use crate::webdriver::Browser;

pub const READERS: &str = include_str!("readers.js");
/// An event source waits two seconds before it comes back, on a machine that does other things too.
const READ_WITHIN: Duration = Duration::from_secs(30);
const PARTITIONS: usize = 2;
const RECORDS_OF_A_REQUEST: usize = 50;

#[test]
fn event_sources_and_websockets_of_a_page_resume_across_restarts() {
    let mut broker = Broker::start();
    broker.create_topic("counted", PARTITIONS as i32);
    let browser = Browser::start();
    browser.open(&broker.http("/docs"));
    browser.run(&format!("{READERS}; read(location.origin, 'counted')"), &[]);
    let is_enough = AtomicBool::new(false);
    let url = broker.http("/v1/topics/counted");
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&is_enough, &url));
        let _ends_also_by_a_panic = SetOnDrop(&is_enough);
        wait_for_readers(&browser, 500, 1);
        broker.kill();
        broker.start_again();
        let seen = wait_for_readers(&browser, 1_000, 2);
        assert!(broker.terminate().success(), "{}", broker.output());
        broker.start_again();
        wait_for_readers(&browser, seen + 500, 3);
        is_enough.store(true, Ordering::Release);
        writer.join().expect("all was written")
    });
    wait_for_readers(&browser, written, 3);
    for reader in ["events", "sockets"] {
        let reader_state = browser.run(&format!("return {reader}"), &[]);
        assert_eq!(reader_state["gaps"], json!(0), "{reader}");
        check_seen(reader, &reader_state["seen"], written);
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Counts in records, to the partitions in turn, also while the broker is away: with a key each request is stored once.
fn write_until(is_enough: &AtomicBool, url: &str) -> usize {
    let mut request = 0;
    while !is_enough.load(Ordering::Acquire) {
        let first = request * RECORDS_OF_A_REQUEST;
        let body: String = (first..first + RECORDS_OF_A_REQUEST).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let key = format!("Idempotency-Key: {request}");
        let url = format!("{url}?partition={}", request % PARTITIONS);
        let headers = ["-H", "Content-Type: application/x-ndjson", "-H", &key];
        let arguments = [&headers[..], &["--fail", "--data-binary", &body, &url]].concat();
        wait_for("the request is stored", READ_WITHIN, || run(curl(&arguments), "").0.success().then_some(()));
        request += 1;
    }
    request * RECORDS_OF_A_REQUEST
}

/// Until both have seen so many records and were opened so often; answers what the slower one has.
fn wait_for_readers(browser: &Browser, count: usize, opened: usize) -> usize {
    let state =
        |reader: &str| format!("{{seen: {reader}.seen.length, opened: {reader}.opened, isClosed: {reader}.isClosed}}");
    let script = format!("return [{}, {}]", state("events"), state("sockets"));
    let mut last = Value::Null;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the page has read on", READ_WITHIN, || {
            last = browser.run(&script, &[]);
            let number = |index: usize, name: &str| last[index][name].as_u64().unwrap_or(0) as usize;
            let is_done = (0..2).all(|index| number(index, "seen") >= count && number(index, "opened") >= opened);
            is_done.then(|| number(0, "seen").min(number(1, "seen")))
        })
    }));
    seen.unwrap_or_else(|_| panic!("{count} records and {opened} connections are due: {last}"))
}

/// Each number once, those of a partition in their order at offsets that count from zero.
#[track_caller]
fn check_seen(reader: &str, seen: &Value, written: usize) {
    let seen: Vec<[i64; 3]> = serde_json::from_value(seen.clone()).expect("partition, offset and number of each");
    for partition in 0..PARTITIONS {
        let here = seen.iter().filter(|[of, ..]| *of == partition as i64);
        let expected = (0..written).filter(|n| n / RECORDS_OF_A_REQUEST % PARTITIONS == partition);
        let expected: Vec<_> = expected.enumerate().map(|(offset, n)| (offset as i64, n as i64)).collect();
        let found: Vec<_> = here.map(|[_, offset, n]| (*offset, *n)).collect();
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert_eq!(differs, None, "{reader}, partition {partition}: found and expected");
        assert_eq!(found.len(), expected.len(), "{reader}, partition {partition}");
    }
}

/// `docs/http.md` says what to paste into a browser's console.
#[test]
fn what_the_guide_says_of_a_browser_works_there() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md")).expect("it is there");
    let (_, script) = page.split_once("```js\n").expect("the guide has something for a browser");
    let (script, rest) = script.split_once("```").expect("it has an end");
    let (_, printed) = rest.split_once("```text\n").expect("the guide says what it prints");
    let (printed, _) = printed.split_once("\n```").expect("it has an end");
    let broker = Broker::start();
    broker.create_topic("greetings", 1);
    let browser = Browser::start();
    browser.open(&broker.http("/docs"));
    browser
        .run(&format!("window.printed = []; console.log = (...words) => printed.push(words.join(' ')); {script}"), &[]);
    run(curl(&["--fail", "-d", "hello, world", &broker.http("/v1/topics/greetings?key=me")]), "");
    assert_eq!(browser.wait_for("printed[0]", READ_WITHIN), json!(printed));
}
