//! The compose file that introductions show, with the clients that they use: Kafka's tools in the container, kcat outside.

use crate::engine::{Compose, docker, docker_command, logs};
use crate::support::programs::{curl, kcat, output_of, output_with_input, run};

/// What a start says that was not preceded by a clean stop.
const REPLAYED: &str = "journal entries replayed";

struct Seed {
    compose: Compose,
}

impl Seed {
    fn start() -> Seed {
        let compose = Compose::start("compose.seed.yaml", &[9092], &[8080]);
        compose.wait_until_ready("kafka");
        Seed { compose }
    }

    fn kafka(&self) -> String {
        self.compose.kafka(0)
    }

    fn produce_inside(&self, lines: &str) {
        let command = "kafka-console-producer --bootstrap-server kafka:29092 --topic greetings --reader-property parse.key=true \
                       --reader-property key.separator=:";
        let words: Vec<&str> = command.split_whitespace().collect();
        self.compose.exec_with_input("kafka", &words, lines);
    }

    fn produce_outside(&self, lines: &str) {
        let arguments = ["-P", "-b", &self.kafka(), "-t", "greetings", "-K", ":", "-X", "acks=all"];
        output_with_input(kcat(&arguments), lines);
    }

    fn read_outside(&self) -> Vec<String> {
        let arguments = ["-C", "-b", &self.kafka(), "-t", "greetings", "-o", "beginning", "-e", "-q", "-f", "%k:%s\n"];
        lines_of(&output_of(kcat(&arguments)))
    }

    fn container(&self) -> String {
        self.compose.container("kafka")
    }

    fn start_again(&self) {
        docker(&["start", &self.container()]);
        self.compose.wait_until_ready("kafka");
    }
}

fn lines_of(output: &str) -> Vec<String> {
    output.lines().map(str::to_owned).collect()
}

fn consumer_command(count: usize) -> String {
    format!(
        "kafka-console-consumer --bootstrap-server kafka:29092 --topic greetings --from-beginning --max-messages {count} \
         --formatter-property print.key=true --formatter-property key.separator=:"
    )
}

#[test]
fn the_host_the_container_and_its_neighbours_read_what_the_others_wrote() {
    let seed = Seed::start();
    seed.produce_inside("a:from inside\nb:from inside, too\n");
    seed.produce_outside("c:from outside\n");
    let posted = ["-d", "from curl", &format!("{}/v1/topics/greetings?key=d", seed.compose.http(0))].map(str::to_owned);
    output_of(curl(&posted.each_ref().map(String::as_str)));
    let expected = ["a:from inside", "b:from inside, too", "c:from outside", "d:from curl"];
    assert_eq!(seed.read_outside(), expected);
    let command = consumer_command(expected.len());
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(lines_of(&seed.compose.exec("kafka", &words)), expected);
    // By the name that the engine's name server gives.
    assert_eq!(lines_of(&seed.compose.beside(&words, "")), expected);
}

#[test]
fn zookeeper_is_passed_over_with_one_warning() {
    let seed = Seed::start();
    let logs = logs(&seed.container());
    let about_zookeeper: Vec<&str> = logs.lines().filter(|line| line.contains("ooKeeper")).collect();
    assert_eq!(about_zookeeper.len(), 1, "{logs}");
    let warnings = logs.lines().filter(|line| line.contains(" WARN ") && !line.contains("ooKeeper"));
    let others: Vec<&str> = warnings.filter(|line| !line.contains("without authentication")).collect();
    assert_eq!(others, [] as [&str; 0]);
}

#[test]
fn sigterm_stops_in_order_and_the_data_is_there_afterwards() {
    let seed = Seed::start();
    seed.produce_inside("a:before\n");
    docker(&["stop", &seed.container()]);
    let status = docker(&["inspect", "--format", "{{.State.ExitCode}}", &seed.container()]);
    assert_eq!(status.trim(), "0", "{}", logs(&seed.container()));
    seed.start_again();
    assert!(!logs(&seed.container()).contains(REPLAYED));
    seed.produce_outside("b:after\n");
    assert_eq!(seed.read_outside(), ["a:before", "b:after"]);
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    let seed = Seed::start();
    let mut expected = Vec::new();
    for round in 0..3 {
        let record = format!("{round}:confirmed");
        seed.produce_outside(&format!("{record}\n"));
        expected.push(record);
        docker(&["kill", &seed.container()]);
        seed.start_again();
        assert_eq!(seed.read_outside(), expected);
    }
    assert!(logs(&seed.container()).contains(REPLAYED));
}

#[test]
fn a_new_container_goes_on_with_the_volume_of_the_old_one() {
    let seed = Seed::start();
    seed.produce_inside("a:old\n");
    let old = seed.container();
    seed.compose.run(&["down"]);
    seed.compose.run(&["up", "--detach"]);
    seed.compose.wait_until_ready("kafka");
    assert_ne!(seed.container(), old);
    seed.produce_inside("b:new\n");
    assert_eq!(seed.read_outside(), ["a:old", "b:new"]);
}

/// What the health check asks is whether the broker can be used, not whether its process is there.
#[test]
fn a_broker_that_does_not_answer_is_unhealthy() {
    let seed = Seed::start();
    let health = ["exec", &seed.container(), "capek", "health", "--local", "--timeout", "1s"].map(str::to_owned);
    let health = health.each_ref().map(String::as_str);
    assert!(docker(&health).starts_with("ready: "));
    let elsewhere = [&["exec", "--env", "CAPEK_HTTP_LISTENERS=http://0.0.0.0:8079"], &health[1..]].concat();
    let (status, stdout, stderr) = run(docker_command(&elsewhere), "");
    assert_eq!(status.code(), Some(2), "{stdout}{stderr}");
    // Its process is frozen: the connection is accepted by the kernel, nobody answers.
    let signal = |name: &str| docker(&["kill", "--signal", name, &seed.container()]);
    signal("STOP");
    let (status, stdout, stderr) = run(docker_command(&health), "");
    signal("CONT");
    assert_eq!(status.code(), Some(124), "{stdout}{stderr}");
    assert!(docker(&health).starts_with("ready: "));
}
