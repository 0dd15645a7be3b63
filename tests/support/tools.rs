//! Kafka's own command-line tools, by the names of their scripts, all in one JVM (tests/clients/java/Tools.java).

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

pub struct Tools {
    jvm: Background,
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
        Tools { jvm: Background::start(java("Tools", &[])), bootstrap }
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
        let call = json!({"tool": class_of(tool), "arguments": arguments, "input": input});
        self.jvm.write_line(&call.to_string());
        let line = self.jvm.line();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{tool}: {error}: {line}"));
        let text = |name: &str| answer[name].as_str().expect("it is a text").to_owned();
        let status = answer["status"].as_i64().expect("it is a number");
        Ended { status: status as i32, stdout: text("stdout"), stderr: text("stderr") }
    }
}

/// The words of each line of a table that begins with these words.
pub fn rows(output: &str, first: &[&str]) -> Vec<Vec<String>> {
    let lines = output.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines
        .filter(|words| words.len() >= first.len() && words.iter().zip(first).all(|(word, wanted)| word == wanted))
        .collect()
}
