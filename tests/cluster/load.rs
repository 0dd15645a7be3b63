//! The load of `cluster_load.py` on a topic, and the judgement of its history.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::checker::{History, Verdict};
use crate::cluster::Cluster;
use crate::support::broker::Directory;
use crate::support::programs::{Background, output_of, python};
use crate::support::wait_for;

pub const PARTITIONS: i32 = 3;
/// More than any fault here takes to heal.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// Fewer show nothing.
const ACKED_MIN: usize = 500;

pub struct Load {
    program: Background,
    topic: String,
    directory: Directory,
    /// How far the history was read, and the confirmations up to there.
    read: Cell<(u64, usize)>,
}

impl Load {
    /// Makes the topic, too.
    pub fn start(cluster: &Cluster, topic: &str) -> Load {
        Load::start_with(cluster, topic, &[])
    }

    /// With this many bytes more in each value.
    pub fn start_padded(cluster: &Cluster, topic: &str, padding: usize) -> Load {
        Load::start_with(cluster, topic, &[&padding.to_string()])
    }

    fn start_with(cluster: &Cluster, topic: &str, more: &[&str]) -> Load {
        cluster.create_topic(topic, PARTITIONS);
        let directory = Directory::new();
        let history = directory.path().join("history");
        File::create(&history).expect("the test's directory is writable");
        let history = history.to_str().expect("the path is ASCII");
        let arguments: [&str; 4] = [&cluster.bootstrap(), topic, &PARTITIONS.to_string(), history];
        let arguments = [&arguments[..], more].concat();
        let program = Background::start(python("cluster_load.py", &arguments));
        Load { program, topic: topic.to_owned(), directory, read: Cell::default() }
    }

    /// Until some more records are confirmed.
    pub fn wait_for_progress(&self) {
        const MORE: usize = 100;
        let before = self.acked();
        wait_for("the load goes on", GOES_ON_WITHIN, || (self.acked() > before + MORE).then_some(()));
    }

    fn acked(&self) -> usize {
        let (mut place, mut acked) = self.read.get();
        let mut file = BufReader::new(File::open(self.history()).expect("it was made"));
        file.seek(SeekFrom::Start(place)).expect("it only grows");
        let mut line = String::new();
        while file.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            place += line.len() as u64;
            acked += usize::from(line.starts_with('A'));
            line.clear();
        }
        self.read.set((place, acked));
        acked
    }

    fn history(&self) -> PathBuf {
        self.directory.path().join("history")
    }

    /// Ends the load, reads everything back with a new consumer and demands that every promise was kept.
    pub fn stop_and_check(mut self, cluster: &Cluster, cell: &str) -> Verdict {
        self.program.close_input();
        let summary = self.program.line();
        cluster.wait_until_in_sync(&self.topic, PARTITIONS);
        let drained = output_of(python("kafka_client.py", &["drain", &cluster.bootstrap(), &self.topic]));
        let history = std::fs::read_to_string(self.history()).expect("it was written");
        let verdict = History::parse(&history).check(&drained);
        println!(
            "{cell}: acked {}, found {}, unknown {}, longest silence {} ms; {summary}",
            verdict.acked, verdict.found, verdict.unknown, verdict.longest_silence_ms
        );
        record(cell, &verdict);
        assert!(summary.contains("\"failed\": 0") && summary.contains("\"waiting\": 0"), "{summary}");
        assert!(summary.contains("\"whole\": true"), "{summary}");
        verdict.assert_sound();
        assert!(verdict.acked >= ACKED_MIN, "only {} were confirmed: that shows nothing", verdict.acked);
        verdict
    }
}

/// A line for whoever sums up many runs (`tests/faults`).
fn record(cell: &str, verdict: &Verdict) {
    let Some(path) = std::env::var_os("CAPEK_FAULT_FIGURES") else { return };
    let mut file = File::options().create(true).append(true).open(path).expect("the figures can be written");
    let broken = verdict.broken().iter().map(|(_, broken)| broken.len()).sum::<usize>();
    writeln!(
        file,
        "{cell}\t{}\t{}\t{}\t{}\t{}\t{broken}\t{}",
        verdict.acked,
        verdict.found,
        verdict.lost.len(),
        verdict.doubled.len(),
        verdict.unknown,
        verdict.longest_silence_ms
    )
    .expect("the figures can be written");
}

/// How often a fault is repeated in one test; `CAPEK_FAULT_ROUNDS` says otherwise.
pub fn rounds(default: usize) -> usize {
    std::env::var("CAPEK_FAULT_ROUNDS").map_or(default, |rounds| rounds.parse().expect("a number of rounds"))
}
