//! What somebody sees who has just started it: the banner's lines, the command line, several listeners.

use std::process::Command;
use std::time::Duration;

use crate::support::broker::{Broker, binary, free_port};
use crate::support::programs::{kcat, output_of, output_with_input, run};
use crate::support::wait_for;

/// They are run as they stand, in the order in which they stand.
#[test]
fn the_three_lines_of_the_banner_work() {
    let broker = Broker::start();
    broker.wait_for_http();
    // It listens a moment before it says so.
    let lines = wait_for("the banner has three lines to try", Duration::from_secs(10), || {
        let output = broker.output();
        let tried = output.lines().skip_while(|line| *line != "Try it:").skip(1);
        let lines: Vec<String> = tried.map(|line| line.trim().to_owned()).take(3).collect();
        (lines.len() == 3 && output.ends_with('\n')).then_some(lines)
    });
    for line in lines {
        // A stream does not end by itself.
        let mut command = Command::new("timeout");
        command.args(["--preserve-status", "3", "sh", "-c", &line]);
        let (_, stdout, stderr) = run(command, "");
        let is_answered = stdout.contains("offset") || stdout.contains("hello, world");
        assert!(is_answered, "{line}\n{stdout}\n{stderr}");
    }
}

#[test]
fn the_command_line_makes_topics_and_moves_records() {
    let broker = Broker::start();
    capek(&broker, &["topic", "create", "orders", "-p", "3"], "");
    assert!(capek(&broker, &["topic", "list"], "").contains("orders"));
    assert!(capek(&broker, &["topic", "describe", "orders"], "").contains("orders"));
    capek(&broker, &["produce", "orders", "-K", ":", "-H", "trace=1"], "k1:one\nk2:two\nk3:three\n");
    let mut values: Vec<String> =
        capek(&broker, &["consume", "orders", "-o", "earliest", "-e"], "").lines().map(str::to_owned).collect();
    values.sort();
    assert_eq!(values, ["one", "three", "two"]);
    let seen = output_of(kcat(&["-C", "-q", "-e", "-b", &broker.kafka(), "-t", "orders", "-f", "%k=%s %h\\n"]));
    assert!(seen.contains("k1=one trace=1"), "{seen}");
    capek(&broker, &["topic", "delete", "orders", "--yes"], "");
    assert!(!capek(&broker, &["topic", "list"], "").contains("orders"));
}

#[test]
fn the_command_line_tells_what_went_wrong_by_its_exit_code() {
    let broker = Broker::start();
    let code = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments);
        run(command, "").0.code()
    };
    assert_eq!(code(&["topic", "frobnicate"]), Some(1), "usage");
    assert_eq!(code(&["topic", "list", "-b", "127.0.0.1:1"]), Some(2), "no connection");
    assert_eq!(code(&["topic", "describe", "nowhere", "-b", &broker.kafka()]), Some(4), "not found");
    assert_eq!(code(&["topic", "list", "-b", &broker.kafka()]), Some(0));
}

#[test]
fn the_bench_reads_back_and_verifies_what_it_wrote() {
    let broker = Broker::start();
    let records = ["--records", "20000", "--record-size", "100"];
    capek(&broker, &[&["bench", "produce", "--idempotent", "--verify", "--json"], &records[..]].concat(), "");
    let result = capek(&broker, &["bench", "consume", "--deep", "--expect", "20000", "--json"], "");
    let result: serde_json::Value = serde_json::from_str(&result).expect("--json prints one JSON object");
    assert_eq!(result["records"], 20000, "{result}");
}

/// Each answers with its own advertised address, or clients behind one of them would be sent astray.
#[test]
fn each_listener_advertises_itself() {
    let mut broker = Broker::start();
    broker.terminate();
    let (inside, outside) = (broker.kafka_port, free_port());
    broker.set(&[
        &format!("listeners=INSIDE://127.0.0.1:{inside},OUTSIDE://127.0.0.1:{outside}"),
        &format!("advertised.listeners=INSIDE://127.0.0.1:{inside},OUTSIDE://localhost:{outside}"),
        "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "inter.broker.listener.name=INSIDE",
    ]);
    broker.start_again();
    let listing = output_of(kcat(&["-L", "-b", &format!("127.0.0.1:{inside}")]));
    assert!(listing.contains(&format!("broker 1 at 127.0.0.1:{inside}")), "{listing}");
    let listing = output_of(kcat(&["-L", "-b", &format!("127.0.0.1:{outside}")]));
    assert!(listing.contains(&format!("broker 1 at localhost:{outside}")), "{listing}");
}

fn capek(broker: &Broker, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).env("CAPEK_BOOTSTRAP", broker.kafka());
    output_with_input(command, input)
}
