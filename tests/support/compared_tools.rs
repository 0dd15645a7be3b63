//! Kafka's tools and ours by the same names, run with the same arguments against the same broker.

use std::process::Command;

use super::broker::{Broker, Directory, binary};
use super::programs::run;
use super::tools::{Ended, Tools};

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

    pub fn run(&self, tool: &str, broker: &Broker, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(tool);
        command.args(["--bootstrap-server", &broker.kafka()]).args(arguments);
        let (status, stdout, stderr) = run(command, input);
        Ended { status: status.code().unwrap_or(-1), stdout, stderr }
    }
}

/// What `@` stands for on each side: words that occur nowhere else.
pub const SIDES: [&str; 2] = ["sidea", "sideb"];

/// Runs both, each on names of its own where an argument holds `@`, and demands the same status and standard output.
pub struct Compared<'a> {
    pub broker: &'a Broker,
    pub kafka: Tools,
    pub ours: OurTools,
}

impl Compared<'_> {
    pub fn new(broker: &Broker) -> Compared<'_> {
        Compared { broker, kafka: Tools::start(broker), ours: OurTools::install() }
    }

    /// `line` is a tool without `kafka-` and its arguments; the broker is added.
    pub fn same(&mut self, line: &str) -> Ended {
        self.same_with(line, "")
    }

    pub fn same_with(&mut self, line: &str, input: &str) -> Ended {
        let [theirs, ours] = SIDES.map(|side| {
            let mut words = line.split(' ').map(|word| word.replace('@', side));
            let tool = format!("kafka-{}", words.next().expect("a line begins with a tool"));
            let arguments: Vec<String> = words.collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ended = match side {
                side if side == SIDES[0] => self.kafka.run(&tool, &arguments, input),
                _ => self.ours.run(&tool, self.broker, &arguments, input),
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
