//! Kafka's tools and ours by the same names, run with the same arguments against the same broker. Kafka's run one after
//! the other in one JVM (`ToolDriver.java`).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::broker::{Broker, Directory, binary};
use super::programs::{java, run};

/// What a tool did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Kafka's own tools.
pub struct KafkaTools {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

const CLASSES: [(&str, &str); 9] = [
    ("kafka-acls", "org.apache.kafka.tools.AclCommand"),
    ("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
    ("kafka-configs", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
];

impl KafkaTools {
    pub fn start() -> KafkaTools {
        let mut command = java("ToolDriver", &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("java is there (`tests/run` installs it)");
        let requests = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        KafkaTools { child, requests, answers }
    }

    pub fn run(&mut self, tool: &str, arguments: &[String], input: &str) -> Ended {
        let class = CLASSES.iter().find(|(name, _)| *name == tool).map(|(_, class)| *class).expect("a known tool");
        let escape = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n");
        let fields = [class, input].into_iter().chain(arguments.iter().map(String::as_str)).map(escape);
        let request = fields.collect::<Vec<_>>().join("\u{1f}") + "\n";
        self.requests.write_all(request.as_bytes()).expect("the driver reads");
        let mut header = String::new();
        self.answers.read_line(&mut header).expect("the driver answers");
        let numbers: Vec<usize> = header.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [status, out, err] = numbers[..] else { panic!("the driver ended during {tool} {arguments:?}") };
        Ended { status: status as i32, stdout: self.text(out), stderr: self.text(err) }
    }

    fn text(&mut self, bytes: usize) -> String {
        let mut text = vec![0; bytes];
        self.answers.read_exact(&mut text).expect("the driver sends what it says");
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for KafkaTools {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our binary under the tools' names.
pub struct OurTools {
    directory: Directory,
}

impl OurTools {
    pub fn install() -> OurTools {
        let directory = Directory::new();
        let mut command = Command::new(binary());
        command.args(["tool", "install"]).arg(directory.path());
        let (status, stdout, stderr) = run(command, "");
        assert!(status.success(), "{stdout}{stderr}");
        OurTools { directory }
    }

    pub fn command(&self, tool: &str) -> Command {
        Command::new(self.directory.path().join(tool))
    }

    pub fn run(&self, tool: &str, arguments: &[String], input: &str) -> Ended {
        let mut command = self.command(tool);
        command.args(arguments);
        let (status, stdout, stderr) = run(command, input);
        Ended { status: status.code().unwrap_or(-1), stdout, stderr }
    }
}

/// What `@` stands for on each side: words that occur nowhere else.
pub const SIDES: [&str; 2] = ["sidea", "sideb"];

/// Runs both, each on names of its own where an argument holds `@`, and demands the same status and standard output.
pub struct Compared<'a> {
    pub broker: &'a Broker,
    pub kafka: KafkaTools,
    pub ours: OurTools,
}

impl Compared<'_> {
    pub fn new(broker: &Broker) -> Compared<'_> {
        Compared { broker, kafka: KafkaTools::start(), ours: OurTools::install() }
    }

    /// `line` is a tool without `kafka-` and its arguments; the broker is added.
    pub fn same(&mut self, line: &str) -> Ended {
        self.same_with(line, "")
    }

    pub fn same_with(&mut self, line: &str, input: &str) -> Ended {
        let [theirs, ours] = SIDES.map(|side| {
            let mut words = line.split(' ').map(|word| word.replace('@', side));
            let tool = format!("kafka-{}", words.next().expect("a line begins with a tool"));
            let mut arguments = vec!["--bootstrap-server".to_owned(), self.broker.kafka()];
            arguments.extend(words);
            let ended = match side {
                side if side == SIDES[0] => self.kafka.run(&tool, &arguments, input),
                _ => self.ours.run(&tool, &arguments, input),
            };
            let stdout = normal(&ended.stdout);
            Ended { stdout, ..ended }
        });
        let same = theirs.status == ours.status && theirs.stdout == ours.stdout;
        assert!(
            same,
            "{line}\n--- Kafka's: {}\n{}{}\n--- ours: {}\n{}{}",
            theirs.status, theirs.stdout, theirs.stderr, ours.status, ours.stdout, ours.stderr
        );
        ours
    }
}

/// Without what differs from run to run: the sides' names, ids, times, the order of lines and of configs, and traces.
fn normal(stdout: &str) -> String {
    let mut lines: Vec<String> = stdout
        .replace(SIDES[0], "@")
        .replace(SIDES[1], "@")
        .lines()
        .filter(|line| !line.starts_with("\tat ") && !line.starts_with("Caused by: ") && !line.starts_with("java."))
        .map(normal_line)
        .collect();
    lines.sort();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn normal_line(line: &str) -> String {
    let fields = line.split('\t').map(|field| match field.split_once(':') {
        Some((name @ ("TopicId" | "CreateTime"), _)) => format!("{name}: *"),
        Some(("Configs", configs)) => {
            let mut configs: Vec<&str> = configs.trim().split(',').collect();
            configs.sort_unstable();
            format!("Configs: {}", configs.join(","))
        }
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join("\t")
}
