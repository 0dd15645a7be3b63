//! What `capek dev` is going to start: ids, ports, directories. Everything that can be known to be wrong is said here, before
//! anything runs.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::super::Failure;

/// More than anyone wants on one machine.
pub const BROKERS_MAX: u16 = 9;

/// 9092, 9094, 9096: the port between two may be a second listener's.
const PORT_STEP: u16 = 2;

/// One broker to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevBroker {
    pub id: u16,
    pub kafka_port: u16,
    pub http_port: u16,
    pub peer_port: u16,
    pub data_dir: PathBuf,
}

/// The ports of the first broker.
#[derive(Clone, Copy, Debug)]
pub struct FirstPorts {
    pub kafka: u16,
    pub http: u16,
    pub peer: u16,
}

impl DevBroker {
    /// Each port with what it is for and the flag that moves it.
    fn ports(&self) -> [(u16, &'static str, &'static str); 3] {
        [
            (self.kafka_port, "Kafka", "--kafka-port"),
            (self.http_port, "HTTP", "--http-port"),
            (self.peer_port, "peers", "--peer-port"),
        ]
    }
}

/// The brokers 1 to `count`, each with its own ports and a directory below `data_dir`.
pub fn plan(count: u16, first: FirstPorts, data_dir: &Path) -> Result<Vec<DevBroker>, Failure> {
    if !(1..=BROKERS_MAX).contains(&count) {
        return Err(Failure::usage(format!("--brokers {count}: 1 to {BROKERS_MAX} can be run")));
    }
    let port = |flag: &str, first: u16, index: u16| {
        let too_high = || Failure::usage(format!("{flag} {first}: {count} brokers need ports above 65535"));
        first.checked_add(index * PORT_STEP).ok_or_else(too_high)
    };
    let broker = |index: u16| {
        Ok(DevBroker {
            id: index + 1,
            kafka_port: port("--kafka-port", first.kafka, index)?,
            http_port: port("--http-port", first.http, index)?,
            peer_port: port("--peer-port", first.peer, index)?,
            data_dir: data_dir.join((index + 1).to_string()),
        })
    };
    (0..count).map(broker).collect()
}

/// Refuses ports that two would have to share, and those that someone listens on.
pub fn check_ports(brokers: &[DevBroker]) -> Result<(), Failure> {
    let mut owners: BTreeMap<u16, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for broker in brokers {
        for (port, what, flag) in broker.ports() {
            let owner = format!("{what} of broker {}", broker.id);
            if let Some(other) = owners.get(&port) {
                problems.push(format!("port {port} would be both {other} and {owner}: choose another with {flag}"));
                continue;
            }
            if let Err(error) = listen(port) {
                let why = if error.kind() == ErrorKind::AddrInUse { "is taken".to_owned() } else { error.to_string() };
                problems.push(format!("port {port} ({owner}): {why}: choose another with {flag}"));
            }
            owners.insert(port, owner);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::usage(problems.join("\n"))) }
}

/// As a broker's `localhost` does; a machine without IPv6 is fine.
fn listen(port: u16) -> io::Result<()> {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        match TcpListener::bind((address, port)) {
            Ok(_) => {}
            Err(error) if address.is_ipv6() && error.kind() != ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes what earlier runs left below `data_dir`: directories named by a number that a broker has made. Anything else there
/// stays; a numbered directory of another kind, or one in use, is a reason to remove nothing.
pub fn clean(data_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::usage(format!("{}: {error}", data_dir.display()))),
    };
    let mut old = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_number = name.to_str().is_some_and(|name| name.parse::<u16>().is_ok());
        if is_number && entry.file_type()?.is_dir() {
            old.push(entry.path());
        }
    }
    old.sort();
    for directory in &old {
        check_is_idle_data(directory)?;
    }
    for directory in &old {
        fs::remove_dir_all(directory).map_err(|error| Failure::usage(format!("{}: {error}", directory.display())))?;
    }
    Ok(old)
}

fn check_is_idle_data(directory: &Path) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::usage(format!("--clean: {} {why}", directory.display())));
    if fs::read_dir(directory)?.next().is_none() {
        return Ok(());
    }
    let Ok(lock) = File::open(directory.join(".lock")) else {
        return refused("is not a broker's data directory: remove it yourself, or use another --data-dir");
    };
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => refused("is in use by a running broker"),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: FirstPorts = FirstPorts { kafka: 9092, http: 8080, peer: 9190 };

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("capek-dev-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn each_broker_has_ports_and_a_directory_of_its_own() {
        let brokers = plan(BROKERS_MAX, FIRST, Path::new("data")).unwrap();
        assert_eq!(brokers.len(), usize::from(BROKERS_MAX));
        let first =
            DevBroker { id: 1, kafka_port: 9092, http_port: 8080, peer_port: 9190, data_dir: PathBuf::from("data/1") };
        assert_eq!(brokers[0], first);
        for (index, broker) in brokers.iter().enumerate() {
            assert_eq!(broker.kafka_port, 9092 + 2 * index as u16);
            assert_eq!(broker.data_dir, Path::new("data").join((index + 1).to_string()));
        }
    }

    #[test]
    fn a_number_of_brokers_that_cannot_run_is_refused() {
        for count in [0, BROKERS_MAX + 1, u16::MAX] {
            let failure = plan(count, FIRST, Path::new("data")).unwrap_err();
            assert!(failure.message.starts_with(&format!("--brokers {count}: ")), "{failure}");
        }
        let high = FirstPorts { http: u16::MAX - 3, ..FIRST };
        assert!(plan(2, high, Path::new("data")).is_ok());
        let failure = plan(3, high, Path::new("data")).unwrap_err();
        assert_eq!(failure.message, "--http-port 65532: 3 brokers need ports above 65535");
    }

    #[test]
    fn ports_that_two_would_share_are_refused() {
        let brokers = plan(1, FirstPorts { http: 9092, ..FIRST }, Path::new("data")).unwrap();
        let failure = check_ports(&brokers).unwrap_err();
        let expected =
            "port 9092 would be both Kafka of broker 1 and HTTP of broker 1: choose another with --http-port";
        assert!(failure.message.contains(expected), "{failure}");
    }

    #[test]
    fn a_port_that_is_taken_is_refused_by_its_name() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let brokers = plan(1, FirstPorts { peer: port, ..FIRST }, Path::new("data")).unwrap();
        let failure = check_ports(&brokers).unwrap_err();
        let expected = format!("port {port} (peers of broker 1): is taken: choose another with --peer-port");
        assert!(failure.message.contains(&expected), "{failure}");
    }

    #[test]
    fn clean_removes_what_brokers_left_and_nothing_else() {
        let path = directory("clean");
        for name in ["1", "2", "notes"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("1/.lock"), "").unwrap();
        fs::write(path.join("1/meta.properties"), "").unwrap();
        fs::write(path.join("notes/one"), "").unwrap();
        fs::write(path.join("7"), "a file").unwrap();
        assert_eq!(clean(&path).unwrap(), [path.join("1"), path.join("2")]);
        assert!(!path.join("1").exists() && !path.join("2").exists());
        assert!(path.join("notes/one").exists() && path.join("7").exists());
        assert_eq!(clean(&path.join("nowhere")).unwrap(), [] as [PathBuf; 0]);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn clean_removes_nothing_where_a_directory_is_another_kind_or_in_use() {
        let path = directory("kept");
        for name in ["1", "2"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("1/.lock"), "").unwrap();
        fs::write(path.join("2/thesis.txt"), "").unwrap();
        let failure = clean(&path).unwrap_err();
        assert!(failure.message.contains("2 is not a broker's data directory"), "{failure}");
        fs::remove_file(path.join("2/thesis.txt")).unwrap();
        let lock = File::create(path.join("2/.lock")).unwrap();
        lock.try_lock().unwrap();
        let failure = clean(&path).unwrap_err();
        assert!(failure.message.contains("2 is in use by a running broker"), "{failure}");
        assert!(path.join("1/.lock").exists());
        fs::remove_dir_all(&path).unwrap();
    }
}
