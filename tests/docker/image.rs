//! What the image holds and what it does by itself.

use crate::engine::{Container, docker, docker_command, image, logs, wait_until_healthy, wait_until_ready};
use crate::support::programs::run;

#[test]
fn every_tool_is_there_by_each_of_its_names() {
    let container = Container::start(&[], &[]);
    let tools = docker(&["exec", &container.name, "capek", "tool", "list"]);
    assert!(tools.lines().count() >= 11, "{tools}");
    for tool in tools.lines() {
        for name in [tool.to_owned(), format!("{tool}.sh"), format!("/opt/kafka/bin/{tool}.sh")] {
            let version = docker(&["exec", &container.name, &name, "--version"]);
            assert!(version.contains(env!("CARGO_PKG_VERSION")), "{name}: {version}");
        }
    }
}

#[test]
fn a_tool_is_run_without_a_broker_in_its_container() {
    let arguments = ["run", "--rm", image(), "kafka-topics", "--bootstrap-server", "localhost:1", "--list"];
    let (status, stdout, stderr) = run(docker_command(&arguments), "");
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert!((stdout + &stderr).contains("localhost:1"));
}

#[test]
fn it_becomes_healthy_and_nothing_runs_as_root() {
    let container = Container::start(&[], &[]);
    wait_until_healthy(&container.name);
    let processes = docker(&["top", &container.name, "-eo", "pid,uid,gid,args"]);
    let lines: Vec<Vec<&str>> = processes.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert!(!lines.is_empty() && lines.iter().all(|words| words[1..3] == ["1000", "1000"]), "{processes}");
    let mounts =
        docker(&["inspect", "--format", "{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}", &container.name]);
    assert_eq!(mounts.trim(), "volume /var/lib/kafka/data");
}

/// Without a word about listeners it can be used through a published port; any word replaces the default as a whole.
#[test]
fn the_default_listeners_are_for_the_host_and_give_way() {
    let effective = |options: &[&str]| {
        let arguments = [&["run", "--rm"], options, &[image(), "capek", "config", "print"]].concat();
        let table = docker(&arguments);
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("=")).collect::<Vec<_>>()
    };
    let has = |lines: &[String], line: &str| lines.iter().any(|one| one == line);
    let default = effective(&[]);
    assert!(has(&default, "advertised.listeners=PLAINTEXT://localhost:9092"), "{default:?}");
    assert!(has(&default, "log.dirs=/var/lib/kafka/data"), "{default:?}");
    let given = effective(&["--env", "KAFKA_CFG_LISTENERS=PLAINTEXT://:9093", "--env", "KAFKA_LOG_DIRS=/elsewhere"]);
    assert!(has(&given, "listeners=PLAINTEXT://:9093") && has(&given, "log.dirs=/elsewhere"), "{given:?}");
    assert!(!given.iter().any(|line| line.starts_with("advertised.listeners")), "{given:?}");
}

#[test]
fn a_command_written_for_other_images_starts_the_broker() {
    for command in ["/etc/confluent/docker/run", "/etc/kafka/docker/run"] {
        let container = Container::start(&[], &[command]);
        wait_until_ready(&container.name);
        docker(&["stop", &container.name]);
        let status = docker(&["inspect", "--format", "{{.State.ExitCode}}", &container.name]);
        assert_eq!(status.trim(), "0", "{}", logs(&container.name));
    }
}
