//! What a history of `cluster_load.py` and a reading of everything afterwards say of the cluster, by the names of Jepsen's
//! Kafka workload. Every value is written once; all of it takes linear time.

use std::collections::{BTreeMap, BTreeSet};

type Place = (i32, i64);

/// The offset of a record that a client takes for stored without having been told where.
const NOWHERE: &str = "-";

#[derive(Debug, Default)]
pub struct History {
    sent: Vec<Sent>,
    reads: Vec<(Place, String)>,
    ends: Vec<End>,
    reader_errors: Vec<String>,
}

#[derive(Debug)]
struct Sent {
    value: String,
    partition: i32,
    at: u64,
    answered: Option<u64>,
    is_confirmed: bool,
    /// A client that concludes from a later answer that a batch is there (its own answer was lost) does not say where.
    offset: Option<i64>,
}

#[derive(Debug)]
struct End {
    asked: u64,
    answered: u64,
    partition: i32,
    offset: i64,
}

/// Every list holds what broke that promise, in words.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sent: usize,
    pub acked: usize,
    pub found: usize,
    /// Sent, and nobody was told what became of it.
    pub unknown: usize,
    /// Between two confirmations of one partition.
    pub longest_silence_ms: u64,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub inconsistent_offsets: Vec<String>,
    pub skipped_reads: Vec<String>,
    pub disordered_sends: Vec<String>,
    pub ends_that_went_back: Vec<String>,
    pub reader_errors: Vec<String>,
}

impl History {
    pub fn parse(text: &str) -> History {
        let mut history = History::default();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (kind, at) = (words.next().expect("a kind"), words.next().expect("a time"));
            let at = number(at) as u64;
            let mut next = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
            match kind {
                "S" => {
                    let (value, partition) = (next().to_owned(), number(next()) as i32);
                    index.insert(value.clone(), history.sent.len());
                    history.sent.push(Sent { value, partition, at, answered: None, is_confirmed: false, offset: None });
                }
                "A" | "E" => {
                    let sent = &mut history.sent[index[next()]];
                    assert_eq!(sent.answered, None, "one answer for each record: {line}");
                    sent.answered = Some(at);
                    if kind == "A" {
                        assert_eq!(sent.partition, number(next()) as i32, "it went where it was sent: {line}");
                        sent.is_confirmed = true;
                        sent.offset = Some(next()).filter(|offset| *offset != NOWHERE).map(number);
                    }
                }
                "R" => history.reads.push(((number(next()) as i32, number(next())), next().to_owned())),
                "H" => {
                    let (asked, partition, offset) = (number(next()) as u64, number(next()) as i32, number(next()));
                    history.ends.push(End { asked, answered: at, partition, offset });
                }
                "X" => history.reader_errors.push(line.to_owned()),
                _ => panic!("no such event: {line}"),
            }
        }
        history
    }

    /// `drained`: "PARTITION OFFSET VALUE" for everything that the topic holds after the faults are healed.
    pub fn check(mut self, drained: &str) -> Verdict {
        let drained = drained.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            ((number(words[0]) as i32, number(words[1])), words[2].split(':').next().unwrap_or_default().to_owned())
        });
        let drained: BTreeMap<Place, String> = drained.collect();
        let nowhere = self.find_those_without_place(&drained);
        let mut verdict = Verdict {
            sent: self.sent.len(),
            acked: self.sent.iter().filter(|sent| sent.is_confirmed).count(),
            unknown: self.sent.iter().filter(|sent| !sent.is_confirmed).count(),
            lost: nowhere,
            longest_silence_ms: self.longest_silence_ms(),
            skipped_reads: self.skipped_reads(),
            disordered_sends: [self.disordered_by_time(), self.disordered_by_producer()].concat(),
            ends_that_went_back: self.ends_that_went_back(),
            ..Verdict::default()
        };
        self.compare(&drained, &mut verdict);
        verdict.reader_errors = self.reader_errors;
        verdict
    }

    /// What was confirmed without an offset is where it is found; answers what is not.
    fn find_those_without_place(&mut self, drained: &BTreeMap<Place, String>) -> Vec<String> {
        let places: BTreeMap<&str, Place> = drained.iter().map(|(place, value)| (&**value, *place)).collect();
        let mut lost = Vec::new();
        for sent in self.sent.iter_mut().filter(|sent| sent.is_confirmed && sent.offset.is_none()) {
            match places.get(&*sent.value) {
                Some((partition, offset)) if *partition == sent.partition => sent.offset = Some(*offset),
                _ => lost.push(format!("{} somewhere in partition {}", sent.value, sent.partition)),
            }
        }
        lost
    }

    /// Every value at most once, one value at each place whoever saw it, every confirmed value where it was confirmed.
    fn compare(&self, drained: &BTreeMap<Place, String>, verdict: &mut Verdict) {
        let mut values: BTreeMap<&str, Place> = BTreeMap::new();
        for (place, value) in drained {
            if let Some(earlier) = values.insert(value, *place) {
                verdict.doubled.push(format!("{value} is at {earlier:?} and at {place:?}"));
            }
        }
        for sent in &self.sent {
            let Some(offset) = sent.offset else { continue };
            match drained.get(&(sent.partition, offset)) {
                Some(value) if *value == sent.value => verdict.found += 1,
                Some(other) => {
                    let text = format!("{} was confirmed at {offset} of {}", sent.value, sent.partition);
                    verdict.inconsistent_offsets.push(format!("{text}, where {other} is"));
                }
                None => (),
            }
            if !values.contains_key(&*sent.value) {
                verdict.lost.push(format!("{} at {offset} of partition {}", sent.value, sent.partition));
            }
        }
        for (place, value) in &self.reads {
            match drained.get(place) {
                Some(later) if later == value => (),
                later => verdict.inconsistent_offsets.push(format!("at {place:?} {value} was read, later {later:?}")),
            }
        }
        let known: BTreeSet<&str> = self.sent.iter().map(|sent| &*sent.value).collect();
        let invented = values.keys().filter(|value| !known.contains(*value));
        verdict.inconsistent_offsets.extend(invented.map(|value| format!("{value} was never sent")));
    }

    /// Of any partition.
    fn longest_silence_ms(&self) -> u64 {
        let silences = self.by_partition().into_values().flat_map(|sends| {
            let mut times: Vec<u64> = sends.into_iter().map(|(sent, _)| answer_of(sent)).collect();
            times.sort_unstable();
            times.windows(2).map(|pair| pair[1] - pair[0]).max()
        });
        silences.max().unwrap_or_default() / 1_000_000
    }

    /// The one reader never seeks: the offsets of a partition come one after the other.
    fn skipped_reads(&self) -> Vec<String> {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        let mut broken = Vec::new();
        for ((partition, offset), _) in &self.reads {
            let expected = last.insert(*partition, *offset).map_or(0, |last| last + 1);
            if *offset != expected {
                broken.push(format!("partition {partition}: {offset} was read where {expected} was due"));
            }
        }
        broken
    }

    /// Confirmed before the other was sent: it has the lower offset.
    fn disordered_by_time(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for sends in self.by_partition().values() {
            let mut answered: Vec<(u64, i64)> = sends.iter().map(|(sent, offset)| (answer_of(sent), *offset)).collect();
            answered.sort_unstable();
            let mut sends = sends.clone();
            sends.sort_by_key(|(sent, _)| sent.at);
            let (mut next, mut highest) = (0, -1);
            for (sent, offset) in sends {
                while answered.get(next).is_some_and(|(at, _)| *at < sent.at) {
                    highest = highest.max(answered[next].1);
                    next += 1;
                }
                if offset <= highest {
                    broken.push(format!("{} got {offset} after {highest} was confirmed", sent.value));
                }
            }
        }
        broken
    }

    /// One idempotent producer's records of a partition stand in the order in which they were sent.
    fn disordered_by_producer(&self) -> Vec<String> {
        let mut last: BTreeMap<(i32, &str), i64> = BTreeMap::new();
        let mut broken = Vec::new();
        for sent in &self.sent {
            let Some(offset) = sent.offset else { continue };
            let producer = sent.value.trim_end_matches(|digit: char| digit.is_ascii_digit());
            let before = last.insert((sent.partition, producer), offset);
            if before.is_some_and(|before| before >= offset) {
                broken.push(format!("{} got {offset} after {before:?}", sent.value));
            }
        }
        broken
    }

    fn by_partition(&self) -> BTreeMap<i32, Vec<(&Sent, i64)>> {
        let mut all: BTreeMap<i32, Vec<(&Sent, i64)>> = BTreeMap::new();
        for sent in &self.sent {
            if let Some(offset) = sent.offset {
                all.entry(sent.partition).or_default().push((sent, offset));
            }
        }
        all
    }

    /// What was the end, or was read, stays below the end for whoever asks later.
    fn ends_that_went_back(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut highest: BTreeMap<i32, (u64, i64)> = BTreeMap::new();
        for end in &self.ends {
            let (answered, offset) = highest.get(&end.partition).copied().unwrap_or_default();
            if end.asked > answered && end.offset < offset {
                broken.push(format!("partition {}: {} after {offset}", end.partition, end.offset));
            }
            if end.offset >= offset {
                highest.insert(end.partition, (end.answered, end.offset));
            }
        }
        broken
    }
}

impl Verdict {
    pub fn broken(&self) -> Vec<(&'static str, &[String])> {
        let all: [(&'static str, &[String]); 7] = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("inconsistent offsets", &self.inconsistent_offsets),
            ("skipped reads", &self.skipped_reads),
            ("disordered sends", &self.disordered_sends),
            ("ends that went back", &self.ends_that_went_back),
            ("errors of the reader", &self.reader_errors),
        ];
        all.into_iter().filter(|(_, broken)| !broken.is_empty()).collect()
    }

    /// In a few lines, however much is broken.
    pub fn assert_sound(&self) {
        let broken: Vec<String> = self.broken().iter().map(|(name, all)| describe(name, all)).collect();
        assert!(broken.is_empty(), "acked {}, found {}\n{}", self.acked, self.found, broken.join("\n"));
        assert_eq!(self.acked, self.found);
    }
}

fn describe(name: &str, all: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    format!("{} {name}: {}", all.len(), first.join("; "))
}

fn answer_of(sent: &Sent) -> u64 {
    sent.answered.expect("what has an offset was answered")
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}
