//! Programs of other people, each with a deadline. `tests/run` installs them; a missing one is a failure, never a skip.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

/// A record as a client printed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: String,
    pub value: String,
    /// "name=value,name=value", a null value as "null".
    pub headers: String,
}

pub fn kcat(arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(arguments);
    command
}

pub fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments);
    command
}

pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(sources().join("python").join(script)).args(arguments);
    command
}

pub fn schemathesis(arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("schemathesis/bin/schemathesis"));
    command.args(arguments);
    command
}

/// `main_class`: one of tests/clients/java, or one of Kafka's tools.
pub fn java(main_class: &str, arguments: &[&str]) -> Command {
    java_with("libs", main_class, arguments)
}

/// The same programs with the libraries of Kafka 3.9.
pub fn java_3_9(main_class: &str, arguments: &[&str]) -> Command {
    java_with("libs-3.9", main_class, arguments)
}

fn java_with(libraries: &str, main_class: &str, arguments: &[&str]) -> Command {
    let java = installed("java");
    let class_path = format!("{}:{}/*", java.join("classes").display(), java.join(libraries).display());
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &class_path, main_class]);
    command.args(arguments);
    command
}

pub fn franz(arguments: &[&str]) -> Command {
    go("franz", arguments)
}

pub fn go(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("go").join(program));
    command.args(arguments);
    command
}

pub fn node(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node/node_modules"));
    command.arg(sources().join("node").join(script)).args(arguments);
    command
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn installed(path: &str) -> PathBuf {
    let clients = std::env::var_os("CAPEK_TEST_CLIENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"), PathBuf::from);
    let path = clients.join(path);
    assert!(path.exists(), "{} is missing: `tests/run --install` brings the clients", path.display());
    path
}

/// Runs it to its end and demands success; answers its standard output.
pub fn output_of(command: Command) -> String {
    output_with_input(command, "")
}

pub fn output_with_input(command: Command, input: &str) -> String {
    let (status, stdout, stderr) = run(command, input);
    assert!(status.success(), "it ended with {status}\n{stdout}\n{stderr}");
    stdout
}

/// Runs it to its end, whatever that is: status, standard output and standard error.
pub fn run(mut command: Command, input: &str) -> (ExitStatus, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error} (`tests/run` installs it)"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let (out, err) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
            panic!("{name} did not end in time\n{out}\n{err}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = writer.join();
    (status, stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default())
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A program that runs beside the test; its lines come one by one. Dropping it kills it.
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Background {
    pub fn start(mut command: Command) -> Background {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error} (`tests/run` installs it)"));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let stderr = Some(collect(child.stderr.take().expect("it is piped")));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Background { child, lines, stderr }
    }

    pub fn line(&mut self) -> String {
        self.line_until(Instant::now() + DEADLINE).unwrap_or_else(|why| panic!("{why}"))
    }

    /// An error tells what it wrote to its standard error; it does not run any more then.
    pub fn line_until(&mut self, deadline: Instant) -> Result<String, String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(self.give_up("no line in time")),
            Err(RecvTimeoutError::Disconnected) => Err(self.give_up("it ended without the line that was waited for")),
        }
    }

    /// None when there was none in time. A program that has ended is a failure.
    pub fn line_within(&mut self, within: Duration) -> Option<String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let problem = self.give_up("it has ended");
                panic!("{problem}")
            }
        }
    }

    fn give_up(&mut self, problem: &str) -> String {
        let _ = self.child.kill();
        format!("{problem}\n{}", self.errors())
    }

    fn errors(&mut self) -> String {
        self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default()
    }

    /// None when it has ended.
    pub fn next_line(&mut self) -> Option<String> {
        self.next_line_until(Instant::now() + DEADLINE)
    }

    pub fn next_line_until(&mut self, deadline: Instant) -> Option<String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("{}", self.give_up("no line in time")),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// After its last line: what it ended with, and what it wrote to its standard error.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("a child can be waited for");
        (status, self.errors())
    }

    pub fn write_line(&mut self, line: &str) {
        let written = self.child.stdin.as_mut().map(|stdin| writeln!(stdin, "{line}"));
        match written {
            Some(Ok(())) => (),
            Some(Err(error)) => panic!("it does not read its input: {error}\n{}", self.errors()),
            None => panic!("its input is closed"),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As Ctrl-C does.
    pub fn interrupt(&mut self) {
        let sent =
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill(1) is there");
        assert!(sent.success());
    }

    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of "PARTITION OFFSET TIMESTAMP KEY VALUE HEADERS", tab-separated: kcat's, Java's and Go's output.
pub fn parse_tabbed(output: &str) -> Vec<Seen> {
    output.lines().map(parse_tabbed_line).collect()
}

fn parse_tabbed_line(line: &str) -> Seen {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_else(|| panic!("a field is missing: {line:?}")).to_owned();
    Seen {
        partition: next().parse().expect("a partition"),
        offset: next().parse().expect("an offset"),
        timestamp_ms: next().parse().expect("a timestamp"),
        key: next(),
        value: next(),
        headers: next().trim_end_matches(',').replace("=NULL", "=null"),
    }
}

/// The JSON lines of `kafka_client.py consume`.
pub fn parse_json_lines(output: &str) -> Vec<Seen> {
    let records = output.lines().filter(|line| line.contains("\"offset\""));
    records.map(parse_json_line).collect()
}

fn parse_json_line(line: &str) -> Seen {
    let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let headers = record["headers"].as_array().expect("headers are a list").iter().map(|header| {
        let value = header[1].as_str().unwrap_or("null");
        format!("{}={value}", header[0].as_str().expect("a header has a name"))
    });
    Seen {
        partition: record["partition"].as_i64().expect("a partition") as i32,
        offset: record["offset"].as_i64().expect("an offset"),
        timestamp_ms: record["timestamp"].as_i64().expect("a timestamp"),
        key: record["key"].as_str().unwrap_or_default().to_owned(),
        value: record["value"].as_str().unwrap_or_default().to_owned(),
        headers: headers.collect::<Vec<_>>().join(","),
    }
}

/// By place; two records at one place are a failure.
pub fn by_place(records: &[Seen]) -> BTreeMap<(i32, i64), Seen> {
    let placed: BTreeMap<_, _> =
        records.iter().map(|record| ((record.partition, record.offset), record.clone())).collect();
    assert_eq!(placed.len(), records.len(), "a record was seen twice");
    placed
}
