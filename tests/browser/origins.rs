//! A real browser's idea of origins: pages from elsewhere read and write when they are named, and get nothing when they are not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::json;

use crate::restarts::READERS;
use crate::support::broker::Broker;
use crate::webdriver::Browser;

const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn pages_from_elsewhere_read_and_write_only_when_they_are_named() {
    let port = serve_empty_pages();
    let named = format!("http://127.0.0.1:{port}");
    let broker = Broker::start_with(&[&format!("capek.http.allowed.origins={named}")]);
    broker.create_topic("pages", 1);
    broker.produce_json("pages", 0, &[json!({ "n": 0 })]);
    let browser = Browser::start();
    // A type and a header that browsers ask about first.
    let write = "fetch(`${arguments[0]}/v1/topics/pages?partition=0`, {method: 'POST', body: '{\"n\":1}', \
                 headers: {'Content-Type': 'application/json', 'Idempotency-Key': document.URL}})\
                 .then(answer => window.written = answer.status, () => window.written = 'refused')";
    let script = format!("{READERS}; {write}; read(arguments[0], 'pages')");
    let arguments = [json!(broker.http(""))];

    browser.open(&named);
    browser.run(&script, &arguments);
    browser.wait_for("events.seen.length == 2 && sockets.seen.length == 2", WITHIN);
    assert_eq!(browser.wait_for("window.written", WITHIN), json!(200));

    // The same page by another name is another origin.
    browser.open(&format!("http://localhost:{port}"));
    browser.run(&script, &arguments);
    assert_eq!(browser.wait_for("window.written", WITHIN), json!("refused"));
    browser.wait_for("events.isClosed", WITHIN);
    let seen = browser.run("return [events.seen.length, events.opened, sockets.seen.length, sockets.opened]", &[]);
    assert_eq!(seen, json!([0, 0, 0, 0]));
    assert_eq!(
        broker.get("/topics/pages/partitions/0/offsets").expect(200)["end_offset"],
        json!(2),
        "nothing was stored"
    );
}

/// Until the test program ends.
fn serve_empty_pages() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(WITHIN));
                let _ = stream.read(&mut [0; 4096]);
                let page = "<!doctype html><title>elsewhere</title>";
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length";
                let _ = write!(stream, "{head}: {}\r\n\r\n{page}", page.len());
            });
        }
    });
    port
}
