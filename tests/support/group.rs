//! A program of other people's that holds members of a group, led by commands and watched by its events (their list stands in
//! tests/clients/python/scenario.py), and what must hold of the events whatever the client:
//!
//! * no partition has two owners at a time;
//! * a member reads a partition that it holds, without gaps, from where the group had committed;
//! * what is committed was read, and never goes back;
//! * a record is the same whoever reads it, and is where the producer was told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::Broker;
use super::frames::LATEST;
use super::programs::Background;

const DEADLINE: Duration = Duration::from_secs(60);
pub const PARTITIONS: i32 = 3;

pub struct GroupClient {
    program: Background,
    topic: String,
    group: String,
    members: BTreeMap<String, Member>,
    /// What producers were told, and what members read: the value at each place.
    pub confirmed: BTreeMap<(i32, i64), String>,
    pub seen: BTreeMap<(i32, i64), String>,
    /// Records that were read, those read twice included.
    pub reads: usize,
    committed: BTreeMap<i32, i64>,
    offsets: Option<BTreeMap<i32, i64>>,
    is_created: bool,
    /// Events of different members come in the order in which they happened. Not so if each is a process of its own.
    is_ordered: bool,
}

#[derive(Debug, Default)]
struct Member {
    held: BTreeSet<i32>,
    /// How often it was told what it holds.
    assignments: usize,
    /// The offset that it reads next.
    positions: BTreeMap<i32, i64>,
    /// Since the last assignment it has read nothing of these, and may begin where the group had committed.
    starting: BTreeSet<i32>,
}

impl GroupClient {
    pub fn start(command: Command, topic: &str, group: &str) -> GroupClient {
        GroupClient {
            program: Background::start(command),
            topic: topic.to_owned(),
            group: group.to_owned(),
            members: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            seen: BTreeMap::new(),
            reads: 0,
            committed: BTreeMap::new(),
            offsets: None,
            is_created: false,
            is_ordered: true,
        }
    }

    pub fn unordered(mut self) -> GroupClient {
        self.is_ordered = false;
        self
    }

    pub fn create_topic(&mut self) {
        self.command(&format!("create {} {PARTITIONS}", self.topic));
        self.until("the topic is created", |client| client.is_created);
    }

    /// Records with these numbers, one after the other; answers at once.
    pub fn start_producing(&mut self, numbers: Range<usize>) {
        self.command(&format!("produce {} {} {}", self.topic, numbers.start, numbers.len()));
    }

    pub fn wait_for_confirmed(&mut self, count: usize) {
        self.until(&format!("{count} records are confirmed"), |client| client.confirmed.len() >= count);
    }

    pub fn produce(&mut self, numbers: Range<usize>) {
        let before = self.confirmed.len();
        let count = numbers.len();
        self.start_producing(numbers);
        self.wait_for_confirmed(before + count);
    }

    pub fn join(&mut self, member: &str) {
        self.members.insert(member.to_owned(), Member::default());
        self.command(&format!("join {member} {} {}", self.group, self.topic));
    }

    pub fn leave(&mut self, member: &str) {
        self.command(&format!("leave {member}"));
        self.until(&format!("{member} has left"), |client| !client.members.contains_key(member));
    }

    /// Until these members, and nobody else, hold all partitions, and none of them nothing while there are enough.
    pub fn wait_for_holders(&mut self, members: &[&str]) {
        self.until(&format!("{members:?} hold everything"), |client| {
            let held: Vec<_> = members.iter().flat_map(|member| client.held_by(member)).collect();
            let idle = members.iter().filter(|member| client.held_by(member).is_empty()).count();
            let all: BTreeSet<_> = held.iter().copied().collect();
            held.len() == PARTITIONS as usize
                && all.len() == PARTITIONS as usize
                && idle == members.len().saturating_sub(PARTITIONS as usize)
        });
    }

    /// Until this member was told that it holds exactly these.
    pub fn wait_until_held(&mut self, member: &str, partitions: &[i32]) {
        let wanted: BTreeSet<_> = partitions.iter().copied().collect();
        self.until(&format!("{member} holds {wanted:?}"), |client| {
            client.held_by(member) == wanted && client.members[member].assignments > 0
        });
    }

    pub fn wait_until(&mut self, done: impl Fn(&GroupClient) -> bool) {
        self.until("what the test asks for", done);
    }

    pub fn held_by(&self, member: &str) -> BTreeSet<i32> {
        self.members.get(member).map(|member| member.held.clone()).unwrap_or_default()
    }

    pub fn assignments_of(&self, member: &str) -> usize {
        self.members[member].assignments
    }

    /// Every record that a producer was told of.
    pub fn wait_for_all_seen(&mut self) {
        self.until("all confirmed records are read", |client| {
            client.confirmed.keys().all(|place| client.seen.contains_key(place))
        });
    }

    /// What another client's producer was told counts for this client's members, too.
    pub fn expect_records_of(&mut self, other: &GroupClient) {
        self.confirmed.extend(other.confirmed.iter().map(|(place, value)| (*place, value.clone())));
    }

    pub fn committed(&mut self) -> BTreeMap<i32, i64> {
        self.offsets = None;
        self.command(&format!("committed {} {}", self.group, self.topic));
        self.until("the committed offsets", |client| client.offsets.is_some());
        self.offsets.clone().expect("it was waited for")
    }

    /// Commits fail while the broker is away, and members come back to what they read at their own time.
    pub fn wait_for_all_committed(&mut self, broker: &Broker) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (committed, ends) = (self.committed(), self.end_offsets(broker));
            if committed == ends {
                return;
            }
            assert!(Instant::now() < deadline, "committed {committed:?} of {ends:?}: {}", self.state());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn end_offsets(&self, broker: &Broker) -> BTreeMap<i32, i64> {
        let mut client = broker.client();
        let end_offsets =
            (0..PARTITIONS).map(|partition| (partition, client.list_offset(&self.topic, partition, LATEST)));
        end_offsets
            .map(|(partition, (error, offset))| {
                (partition, {
                    assert_eq!(error, 0);
                    offset
                })
            })
            .collect()
    }

    /// All leave; the program must end well.
    pub fn finish(mut self) {
        self.program.close_input();
        let deadline = Instant::now() + DEADLINE;
        while let Some(line) = self.program.next_line_until(deadline) {
            self.happened(&line);
        }
        let (status, errors) = self.program.wait();
        assert!(status.success(), "it ended with {status}\n{errors}");
        assert!(self.members.is_empty(), "{:?} did not leave", self.members.keys());
    }

    fn command(&mut self, line: &str) {
        self.program.write_line(line);
    }

    fn until(&mut self, what: &str, done: impl Fn(&GroupClient) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            let line = self.program.line_until(deadline);
            let line = line.unwrap_or_else(|why| panic!("waited in vain: {what}: {}\n{why}", self.state()));
            self.happened(&line);
        }
    }

    fn state(&self) -> String {
        let unread = self.confirmed.keys().filter(|place| !self.seen.contains_key(place)).count();
        format!("{:?}; {} confirmed, {unread} of them unread", self.members, self.confirmed.len())
    }

    fn happened(&mut self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let member = event["member"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().expect("an event has a name") {
            "created" => self.is_created = true,
            "produced" => self.produced(place_of(&event), text_of(&event, "value")),
            "assigned" => self.assigned(&member, partitions_of(&event)),
            "record" => self.read(&member, &event),
            "committed" => self.was_committed(place_of(&event)),
            "left" => drop(self.members.remove(&member)),
            "offsets" => {
                let offsets = offsets_of(&event);
                self.committed.extend(offsets.clone());
                self.offsets = Some(offsets);
            }
            other => panic!("unknown event {other}"),
        }
    }

    fn produced(&mut self, place: (i32, i64), value: String) {
        let earlier = self.confirmed.insert(place, value);
        assert_eq!(earlier, None, "two records were confirmed at {place:?}");
    }

    fn assigned(&mut self, name: &str, partitions: BTreeSet<i32>) {
        if self.is_ordered {
            for (other, holder) in self.members.iter().filter(|(other, _)| *other != name) {
                let shared: Vec<_> = holder.held.intersection(&partitions).collect();
                assert!(shared.is_empty(), "{name} was given {shared:?}, which {other} holds");
            }
        }
        let member = self.members.get_mut(name).expect("only members that joined are assigned anything");
        member.positions.retain(|partition, _| partitions.contains(partition));
        member.starting.clone_from(&partitions);
        member.held = partitions;
        member.assignments += 1;
    }

    fn read(&mut self, name: &str, event: &Value) {
        let (partition, offset) = place_of(event);
        let value = text_of(event, "value");
        let number: usize = value.strip_prefix("value-").and_then(|number| number.parse().ok()).expect("one of ours");
        assert_eq!(text_of(event, "key"), format!("key-{}", number % 10));
        assert_eq!(text_of(event, "headers"), "trace=1,trace=again");
        let committed = self.committed.get(&partition).copied().unwrap_or(0);
        let read_by_all = self.end_of_seen(partition);
        let member = self.members.get_mut(name).expect("only members read");
        assert!(member.held.contains(&partition), "{name} read {partition} at {offset}, which it does not hold");
        if member.positions.get(&partition) != Some(&offset) {
            let may_start = member.starting.contains(&partition);
            assert!(may_start, "{name} read {partition} at {offset} and not at {:?}", member.positions.get(&partition));
            let is_resumed = (committed..=read_by_all).contains(&offset);
            let bounds = format!("from {committed}, which is committed, to {read_by_all}, where all was read");
            assert!(is_resumed || !self.is_ordered, "{name} began to read {partition} at {offset}: not {bounds}");
        }
        member.starting.remove(&partition);
        member.positions.insert(partition, offset + 1);
        self.reads += 1;
        let earlier = self.seen.entry((partition, offset)).or_insert_with(|| value.clone());
        assert_eq!(*earlier, value, "two records at {partition} {offset}");
        let told = self.confirmed.get(&(partition, offset)).unwrap_or(&value);
        assert_eq!(*told, value, "another record than was confirmed at {partition} {offset}");
    }

    fn end_of_seen(&self, partition: i32) -> i64 {
        self.seen.range((partition, 0)..(partition + 1, 0)).next_back().map_or(0, |((_, offset), _)| offset + 1)
    }

    fn was_committed(&mut self, (partition, offset): (i32, i64)) {
        let earlier = self.committed.insert(partition, offset).unwrap_or(0);
        assert!(offset >= earlier, "the committed offset of {partition} went back from {earlier} to {offset}");
        let read = self.end_of_seen(partition);
        assert!(offset <= read || !self.is_ordered, "{partition} was committed at {offset} and read to {read}");
    }
}

fn place_of(event: &Value) -> (i32, i64) {
    let number = |name: &str| event[name].as_i64().unwrap_or_else(|| panic!("no {name} in {event}"));
    (number("partition") as i32, number("offset"))
}

fn text_of(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_else(|| panic!("no {name} in {event}")).to_owned()
}

fn partitions_of(event: &Value) -> BTreeSet<i32> {
    let partitions = event["partitions"].as_array().expect("partitions are a list");
    partitions.iter().map(|partition| partition.as_i64().expect("a partition is a number") as i32).collect()
}

fn offsets_of(event: &Value) -> BTreeMap<i32, i64> {
    let offsets = event["offsets"].as_object().expect("offsets are an object");
    let offsets = offsets.iter().map(|(partition, offset)| (partition.parse(), offset.as_i64()));
    offsets.map(|(partition, offset)| (partition.expect("a number"), offset.expect("a number"))).collect()
}
