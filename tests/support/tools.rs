//! Kafka's own command-line tools, by the names of their scripts or by their classes, many in one JVM (tests/clients/java/Tools.java):
//! most of what a tool needs is the time that a JVM needs to start.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::broker::Broker;
use super::programs::{Background, java};

const CLASSES: [(&str, &str); 18] = [
    ("kafka-acls", "org.apache.kafka.tools.AclCommand"),
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
    ("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
    ("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
    ("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("connect-standalone", "org.apache.kafka.connect.cli.ConnectStandalone"),
];

pub fn class_of(tool: &str) -> &'static str {
    let found = CLASSES.iter().find(|(name, _)| *name == tool);
    found.unwrap_or_else(|| panic!("{tool} is not in the list")).1
}

/// Those that no test uses just now.
static IDLE: Mutex<Vec<Background>> = Mutex::new(Vec::new());

/// One that a test has to itself. It goes on to another test when every tool in it has ended well: one that has failed may have
/// left clients behind, which go on talking.
struct Jvm {
    process: Option<Background>,
    is_sound: bool,
}

impl Jvm {
    fn take() -> Jvm {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Jvm { process: Some(idle.unwrap_or_else(|| Background::start(java("Tools", &[])))), is_sound: true }
    }

    fn run(&mut self, class: &str, arguments: &[&str], input: &str) -> Ended {
        let sound = std::mem::replace(&mut self.is_sound, false);
        let process = self.process.as_mut().expect("it is there until it is dropped");
        process.write_line(&json!({"tool": class, "arguments": arguments, "input": input}).to_string());
        let line = process.line();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{class}: {error}: {line}"));
        let text = |name: &str| answer[name].as_str().expect("it is a text").to_owned();
        let status = answer["status"].as_i64().expect("it is a number") as i32;
        self.is_sound = sound && status == 0;
        Ended { status, stdout: text("stdout"), stderr: text("stderr") }
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        if self.is_sound {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.process.take());
        }
    }
}

/// Runs a tool to its end, whatever that is.
pub fn run_class(class: &str, arguments: &[&str]) -> Ended {
    Jvm::take().run(class, arguments, "")
}

/// Demands success; answers what it wrote to its standard output.
pub fn output_of_class(class: &str, arguments: &[&str]) -> String {
    let ended = run_class(class, arguments);
    assert_eq!(ended.status, 0, "{class} {arguments:?}\n{}", ended.output());
    ended.stdout
}

/// Several tools, of one test and for one broker.
pub struct Tools {
    jvm: Jvm,
    bootstrap: String,
}

/// What a tool did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The tools are not of one mind about what belongs where.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Tools {
    pub fn start(broker: &Broker) -> Tools {
        Tools::start_at(broker.kafka())
    }

    /// Of several brokers.
    pub fn start_at(bootstrap: String) -> Tools {
        Tools { jvm: Jvm::take(), bootstrap }
    }

    /// Demands success; answers what it wrote.
    pub fn ok(&mut self, tool: &str, arguments: &[&str]) -> String {
        self.ok_with_input(tool, arguments, "")
    }

    pub fn ok_with_input(&mut self, tool: &str, arguments: &[&str], input: &str) -> String {
        let ended = self.run(tool, arguments, input);
        assert_eq!(ended.status, 0, "{tool} {arguments:?}\n{}", ended.output());
        ended.output()
    }

    pub fn run(&mut self, tool: &str, arguments: &[&str], input: &str) -> Ended {
        let arguments = [&["--bootstrap-server", &self.bootstrap], arguments].concat();
        self.jvm.run(class_of(tool), &arguments, input)
    }
}

/// The words of each line of a table that begins with these words.
pub fn rows(output: &str, first: &[&str]) -> Vec<Vec<String>> {
    let lines = output.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines
        .filter(|words| words.len() >= first.len() && words.iter().zip(first).all(|(word, wanted)| word == wanted))
        .collect()
}
