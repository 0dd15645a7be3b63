//! Groups by our tools: the same as Kafka's, and our own commands.

use std::process::Command;
use std::time::Duration;

use crate::support::broker::{Broker, binary};
use crate::support::compared_tools::Compared;
use crate::support::programs::{Background, output_of, output_with_input, run};
use crate::support::wait_for;

#[test]
fn kafka_consumer_groups_by_our_binary_is_kafkas() {
    let broker = Broker::start();
    broker.create_topic("read", 3);
    let mut both = Compared::new(&broker);
    output_with_input(capek(&broker, &["produce", "read", "-p", "0"]), "a\nb\nc\nd\ne\n");
    // Each side's group is made by its own console consumer.
    both.same("console-consumer --topic read --group @-g1 --from-beginning --max-messages 3");
    both.same("console-consumer --topic read --group @-g1 --timeout-ms 3000");
    let file = broker.data_dir.with_file_name("offsets.csv");
    std::fs::write(&file, "\"read\",0,1\n").expect("the test's directory is writable");
    let from_file = format!("consumer-groups --reset-offsets --group @-g1 --from-file {} --dry-run", file.display());
    for line in [
        "consumer-groups --describe --group @-g1",
        "consumer-groups --describe --group @-g1 --members",
        "consumer-groups --describe --group @-g1 --state",
        "consumer-groups --describe --group @-g1 --state --verbose",
        "consumer-groups --describe --group @-g1 --offsets",
        "consumer-groups --describe --group @-no",
        "consumer-groups --describe --group @-no --members",
        "consumer-groups --describe",
        "consumer-groups --reset-offsets --group @-g1 --topic read --to-earliest",
        "consumer-groups --reset-offsets --group @-g1 --topic read --to-earliest --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read --to-latest --dry-run --export",
        "consumer-groups --reset-offsets --group @-g1 --group @-g9 --topic read:0 --to-latest --dry-run --export",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --to-offset 4 --execute",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --shift-by -2 --execute",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --shift-by -200 --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --to-offset 99 --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --all-topics --to-current --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --by-duration PT1H --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --to-datetime 2020-01-01T00:00:00.000 --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read:0 --to-datetime 2099-01-01T00:00:00.000 --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read --to-datetime nope --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read --by-duration nope --dry-run",
        &from_file,
        "consumer-groups --reset-offsets --group @-g1 --from-file nowhere --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic nope --to-earliest --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read:7 --to-earliest --dry-run",
        "consumer-groups --reset-offsets --group @-g1 --topic read",
        "consumer-groups --reset-offsets --group @-g1 --to-earliest",
        "consumer-groups --reset-offsets --to-earliest --topic read",
        "consumer-groups --reset-offsets --group @-g1 --topic read --to-earliest --dry-run --execute",
        "consumer-groups --reset-offsets --group @-g9 --topic read --to-earliest --execute",
        "consumer-groups --describe --group @-g9",
        "consumer-groups --delete-offsets --group @-g9 --topic read",
        "consumer-groups --delete-offsets --group @-g1 --topic read:0 --topic nope",
        "consumer-groups --delete-offsets --group @-no --topic read",
        "consumer-groups --delete-offsets --group @-g9",
        "consumer-groups --delete --group @-no",
        "consumer-groups --delete --group @-no --group @-g1",
        "consumer-groups --delete",
        "consumer-groups --delete --group g --topic read",
        "consumer-groups --list --state bogus",
        "consumer-groups --validate-regex a.*",
        "consumer-groups --bogus",
    ] {
        both.same(line);
    }
    both.same("consumer-groups --list --state --type");
}

#[test]
fn kafka_tools_see_our_member_as_ours_do() {
    let broker = Broker::start();
    broker.create_topic("live", 3);
    let mut both = Compared::new(&broker);
    let mut member = both.ours.command("kafka-console-consumer");
    member.args(["--bootstrap-server", &broker.kafka(), "--topic", "live", "--group", "live", "--from-beginning"]);
    let mut member = Background::start(member);
    output_with_input(capek(&broker, &["produce", "live"]), "hello\n");
    assert_eq!(member.line(), "hello");
    for line in [
        "consumer-groups --describe --group live --members --verbose",
        "consumer-groups --describe --group live --state",
        "consumer-groups --reset-offsets --group live --topic live --to-earliest --execute",
        "consumer-groups --delete --group live",
        "consumer-groups --delete-offsets --group live --topic live",
        "consumer-groups --list --state stable",
    ] {
        let ended = both.same(line);
        assert!(!ended.stdout.is_empty(), "{line}");
    }
}

#[test]
fn members_of_a_group_share_the_partitions_and_a_leaver_gives_up_its_own() {
    let broker = Broker::start();
    broker.create_topic("shared", 4);
    let consume = || Background::start(capek(&broker, &["consume", "shared", "-g", "team", "-f", "%p\\n"]));
    let holds = || -> Vec<usize> {
        let output = output_of(capek(&broker, &["group", "members", "team", "-o", "json"]));
        let members: serde_json::Value = serde_json::from_str(&output).expect("it is JSON");
        let members = members.as_array().expect("a list").iter();
        let mut held: Vec<usize> = members.map(|one| one["partitions"].as_array().map_or(0, Vec::len)).collect();
        held.sort_unstable();
        held
    };
    let _first = consume();
    wait_for("one member has all", Duration::from_secs(30), || (holds_or_none(&broker, &holds) == [4]).then_some(()));
    let mut second = consume();
    wait_for("two members share", Duration::from_secs(30), || (holds() == [2, 2]).then_some(()));
    second.interrupt();
    while second.next_line().is_some() {}
    wait_for("the first has all again", Duration::from_secs(15), || (holds() == [4]).then_some(()));
}

/// The group is not there before its first member is.
fn holds_or_none(broker: &Broker, holds: &dyn Fn() -> Vec<usize>) -> Vec<usize> {
    let (status, ..) = run(capek(broker, &["group", "describe", "team"]), "");
    if status.success() { holds() } else { Vec::new() }
}

#[test]
fn a_group_goes_on_where_it_stopped_and_a_reset_takes_it_back() {
    let broker = Broker::start();
    broker.create_topic("resumed", 1);
    let lines: String = (0..10).map(|index| format!("r{index}\n")).collect();
    output_with_input(capek(&broker, &["produce", "resumed"]), &lines);
    let read = |count: &str| output_of(capek(&broker, &["consume", "resumed", "-g", "g", "-n", count]));
    assert_eq!(read("3"), "r0\nr1\nr2\n");
    assert_eq!(read("2"), "r3\nr4\n");
    let plan = output_of(capek(&broker, &["group", "reset-offsets", "g", "--to", "1", "-t", "resumed", "-o", "csv"]));
    assert!(plan.contains("resumed,0,5,1,9"), "{plan}");
    assert_eq!(read("1"), "r5\n", "a plan changes nothing");
    output_of(capek(&broker, &["group", "reset-offsets", "g", "--to", "1", "-t", "resumed", "--execute"]));
    assert_eq!(read("1"), "r1\n");
    output_of(capek(&broker, &["group", "reset-offsets", "other", "--like", "g", "--execute"]));
    assert_eq!(output_of(capek(&broker, &["consume", "resumed", "-g", "other", "-n", "1"])), "r2\n");
    assert_eq!(output_of(capek(&broker, &["group", "list", "-o", "name"])), "g\nother\n");
    output_of(capek(&broker, &["group", "delete", "g", "other", "--yes"]));
    assert_eq!(output_of(capek(&broker, &["group", "list", "-o", "name"])), "");
    let (status, _, error) = run(capek(&broker, &["group", "describe", "g"]), "");
    assert_eq!(status.code(), Some(4), "{error}");
}

#[test]
fn consume_prints_only_what_the_expression_wants() {
    let broker = Broker::start();
    broker.create_topic("filtered", 1);
    let lines: String = (0..10).map(|index| format!("k{index}|{{\"n\":{index},\"name\":\"n{index}\"}}\n")).collect();
    output_with_input(capek(&broker, &["produce", "filtered", "-K", "|"]), &lines);
    let keys = |expression: &str| {
        output_of(capek(&broker, &["consume", "filtered", "-e", "-f", "%k ", "--where", expression]))
    };
    assert_eq!(keys("value.n >= 7 && !(key == \"k8\")"), "k7 k9 ");
    assert_eq!(keys("offset < 2 || value.name =~ \"^n[5]$\""), "k0 k1 k5 ");
    let (status, _, error) = run(capek(&broker, &["consume", "filtered", "--where", "key == "]), "");
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("position 8"), "{error}");
}

fn capek(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["-b", &broker.kafka()]);
    command
}
