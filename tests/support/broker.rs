//! The real binary: started on free ports in a directory of its own, killed, stopped and started again.
//!
//! `CAPEK_BIN` names another binary with the same arguments (a release build, or a script that runs another broker).

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::frames::{LATEST, RawClient};
use super::{rest, wait_for};

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);

pub struct Broker {
    pub kafka_port: u16,
    pub http_port: u16,
    pub data_dir: PathBuf,
    /// A program that becomes the broker, with its arguments; empty: none.
    pub wrapper: Vec<String>,
    settings: Vec<String>,
    node_id: i32,
    directory: Directory,
    child: Option<Child>,
}

impl Broker {
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// `settings` are "key=value" in Kafka's names.
    pub fn start_with(settings: &[&str]) -> Broker {
        let directory = Directory::new();
        let data_dir = directory.path().join("data");
        Broker::start_in(directory, data_dir, settings)
    }

    /// The data directory may lie elsewhere, on a small file system for instance.
    pub fn start_in(directory: Directory, data_dir: PathBuf, settings: &[&str]) -> Broker {
        let mut broker = Broker::prepare(directory, data_dir, settings);
        broker.start_again();
        broker
    }

    /// It has its ports and does not run yet.
    pub fn prepare(directory: Directory, data_dir: PathBuf, settings: &[&str]) -> Broker {
        Broker {
            kafka_port: free_port(),
            http_port: free_port(),
            data_dir,
            wrapper: Vec::new(),
            settings: settings.iter().map(|setting| setting.to_string()).collect(),
            node_id: 1,
            directory,
            child: None,
        }
    }

    /// On the same ports and the same directory.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_until_it_answers();
    }

    /// A member of a cluster answers only when enough others do: they are started together.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.child = Some(self.command().spawn().expect("the broker's binary can be started (CAPEK_BIN)"));
    }

    pub fn wait_until_it_answers(&mut self) {
        let address = self.kafka();
        wait_for("the broker answers", START_WITHIN, || {
            let child = self.child.as_mut().expect("it was just started");
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("the broker ended while starting: {status}\n{}", self.output());
            }
            RawClient::try_connect(&address)?.try_api_versions()
        });
    }

    /// It was started, and not killed or stopped since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Its HTTP side begins to listen beside the Kafka side.
    pub fn wait_for_http(&self) {
        wait_for("the HTTP listener accepts", START_WITHIN, || TcpStream::connect(self.http_address()).ok());
    }

    /// Runs the binary with this broker's ports and directory until it ends by itself; for what must be refused.
    pub fn run_to_refusal(mut command: Command) -> (ExitStatus, String) {
        let directory = Directory::new();
        let output_path = directory.path().join("output");
        let output = File::create(&output_path).expect("the test's directory is writable");
        command.stdout(output.try_clone().expect("a file can be shared")).stderr(output);
        let mut child = command.spawn().expect("the broker's binary can be started (CAPEK_BIN)");
        let deadline = Instant::now() + START_WITHIN;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it was not refused\n{}", fs::read_to_string(&output_path).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        (status, fs::read_to_string(&output_path).unwrap_or_default())
    }

    /// What starts this broker; a test may change it and run it beside.
    pub fn command(&self) -> Command {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("output"))
            .expect("the test's directory is writable");
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([binary()]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command.args(words).arg("serve").args(["--http", &self.http_address()]);
        if !self.settings.iter().any(|setting| setting.starts_with("listeners=")) {
            command.args(["--kafka", &self.kafka()]);
        }
        command.args(["--node-id", &self.node_id.to_string()]).arg("--data-dir").arg(&self.data_dir);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        // What steers the tests is no configuration of the broker.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAPEK_") || name.starts_with("KAFKA_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file can be shared")).stderr(output);
        command
    }

    pub fn set(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|setting| setting.to_string()).collect();
    }

    pub fn settings(&self) -> &[String] {
        &self.settings
    }

    pub fn set_node_id(&mut self, node_id: i32) {
        self.node_id = node_id;
    }

    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    pub fn kafka(&self) -> String {
        format!("127.0.0.1:{}", self.kafka_port)
    }

    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    pub fn http(&self, path: &str) -> String {
        self.wait_for_http();
        format!("http://{}{path}", self.http_address())
    }

    pub fn client(&self) -> RawClient {
        RawClient::try_connect(&self.kafka()).expect("the broker listens")
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    pub fn create_topic_with(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut client = self.client();
        assert_eq!(client.create_topic(topic, partitions, configs), 0, "creating {topic}");
        self.wait_for_leaders(topic, partitions);
    }

    /// Kafka answers before its leaders know of new partitions.
    pub fn wait_for_leaders(&self, topic: &str, partitions: i32) {
        let mut client = self.client();
        for partition in 0..partitions {
            wait_for("the new partitions have leaders", START_WITHIN, || {
                (client.list_offset(topic, partition, LATEST).0 == 0).then_some(())
            });
        }
    }

    /// So many partitions in all.
    pub fn grow_topic(&self, topic: &str, partitions: i32) {
        let clusters = self.get("/v3/clusters").expect(200);
        let cluster = clusters["data"][0]["cluster_id"].as_str().expect("a cluster has an id");
        let url = self.http(&format!("/v3/clusters/{cluster}/topics/{topic}"));
        rest::call("PATCH", &url, &[rest::JSON], &format!("{{\"partitions_count\":{partitions}}}")).expect(200);
    }

    /// SIGKILL: nothing of the process runs after this.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// A signal by its name: STOP, CONT.
    pub fn signal(&self, name: &str) {
        let id = self.process_id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill(1) is there");
        assert!(sent.success());
    }

    /// SIGTERM, and what it ended with.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs");
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it did not stop within {STOP_WITHIN:?}\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Resident memory now.
    pub fn memory_bytes(&self) -> u64 {
        let id = self.process_id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS has a number");
        kib * 1024
    }

    /// All that it has written to its standard output and error, over all its starts.
    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<&str> = output.lines().rev().take(40).collect();
            eprintln!("--- the broker's last lines (all of it in {})", self.directory.path().display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

pub fn binary() -> PathBuf {
    std::env::var_os("CAPEK_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_capek")), PathBuf::from)
}

/// A directory for one test, removed with it unless it failed.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("broker-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target directory is writable");
        Directory { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Below the kernel's ephemeral range, so that no outgoing connection takes it while the broker is being restarted; of a block
/// that is this process's alone, so that no other test program takes it then either.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = port_block();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS_OF_A_BLOCK;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

const PORTS_OF_A_BLOCK: u16 = 1_000;
const PORT_BLOCKS: u16 = 12;

/// The first port of the block that this process holds, by a lock on a file, as long as it runs.
fn port_block() -> u16 {
    static BLOCK: OnceLock<(u16, Option<File>)> = OnceLock::new();
    let (block, _lock) = BLOCK.get_or_init(|| {
        let directory = std::env::temp_dir().join("capek-test-ports");
        fs::create_dir_all(&directory).expect("the directory of temporary files is writable");
        let mine = (std::process::id() % u32::from(PORT_BLOCKS)) as u16;
        let free = (0..PORT_BLOCKS).map(|step| (mine + step) % PORT_BLOCKS).find_map(|block| {
            let file = File::create(directory.join(block.to_string())).ok()?;
            file.try_lock().ok().map(|()| (block, Some(file)))
        });
        // More programs than blocks: some share one, and take what is free at the moment.
        free.unwrap_or((mine, None))
    });
    20_000 + block * PORTS_OF_A_BLOCK
}
