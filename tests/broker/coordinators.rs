//! Group coordinators: hand-made frames for what a group promises across `kill -9` and across panics, and Kafka's own tools on
//! the records that it leaves behind.

use std::path::Path;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{Answer, Fields, METADATA, NO_SEQUENCE, RawClient, batch};
use crate::support::programs::{curl, output_of};
use crate::support::tools::output_of_class;
use crate::support::wait_for;

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT: i16 = 12;
const LEAVE_GROUP: i16 = 13;
const SYNC_GROUP: i16 = 14;
const DELETE_TOPICS: i16 = 20;
const DELETE_GROUPS: i16 = 42;
const CONSUMER_GROUP_DESCRIBE: i16 = 69;

const CHAOS: [&str; 3] = ["capek.chaos=true", "capek.restart.max=100000", "capek.restart.period.ms=1000"];
const PANICS: usize = 20;
const WITHIN: Duration = Duration::from_secs(20);
/// What Kafka's clients try again after: it loads, it is not available, it is elsewhere.
const AGAIN: [i16; 3] = [14, 15, 16];

const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

fn nullable(fields: Fields, text: Option<&str>) -> Fields {
    match text {
        Some(text) => fields.string(text),
        None => fields.i16(-1),
    }
}

/// A group's coordinator as one connection sees it.
struct Group<'a> {
    client: &'a mut RawClient,
    id: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Joined {
    error: i16,
    generation: i32,
    leader: String,
    member_id: String,
    members: i32,
}

impl Group<'_> {
    /// Clients do so before anything else; it makes the topic that groups live in.
    fn find(&mut self) {
        let (client, id) = (&mut *self.client, self.id);
        wait_for("the coordinator is found", WITHIN, || {
            let mut answer = client.call(FIND_COORDINATOR, 1, Fields::default().string(id).i8(0));
            let (_throttle_ms, error) = (answer.i32(), answer.i16());
            (error == 0).then_some(())
        });
    }

    fn send_join(&mut self, member_id: &str) {
        self.send_join_of_session(member_id, 10_000);
    }

    fn send_join_of_session(&mut self, member_id: &str, session_ms: i32) {
        let body = Fields::default().string(self.id).i32(session_ms).i32(30_000).string(member_id);
        let body = nullable(body, None).string("consumer").i32(1).string("range").bytes(&[0; 10]);
        self.client.send(JOIN_GROUP, 5, body);
    }

    fn receive_join(&mut self) -> Joined {
        let (_, mut answer) = self.client.receive();
        let (_throttle_ms, error, generation, _protocol) = (answer.i32(), answer.i16(), answer.i32(), answer.string());
        let (leader, member_id, members) = (answer.string(), answer.string(), answer.i32());
        Joined { error, generation, leader, member_id, members }
    }

    fn join(&mut self, member_id: &str) -> Joined {
        self.send_join(member_id);
        let joined = self.receive_join();
        if !AGAIN.contains(&joined.error) {
            return joined;
        }
        std::thread::sleep(Duration::from_millis(20));
        self.join(member_id)
    }

    /// Error code and assignment.
    fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> (i16, String) {
        let body = Fields::default().string(self.id).i32(generation).string(member_id);
        let mut body = nullable(body, None).i32(assignments.len() as i32);
        for (member_id, assignment) in assignments {
            body = body.string(member_id).bytes(assignment.as_bytes());
        }
        let mut answer = self.client.call(SYNC_GROUP, 3, body);
        let (_throttle_ms, error, assignment) = (answer.i32(), answer.i16(), answer.bytes());
        (error, String::from_utf8_lossy(&assignment).into_owned())
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        self.send_heartbeat(member_id, generation);
        self.receive_error()
    }

    /// Of an answer that has little else.
    fn receive_error(&mut self) -> i16 {
        let (_, mut answer) = self.client.receive();
        let _throttle_ms = answer.i32();
        answer.i16()
    }

    fn send_heartbeat(&mut self, member_id: &str, generation: i32) {
        let body = nullable(Fields::default().string(self.id).i32(generation).string(member_id), None);
        self.client.send(HEARTBEAT, 3, body);
    }

    fn leave(&mut self, member_id: &str) -> i16 {
        let mut answer = self.client.call(LEAVE_GROUP, 1, Fields::default().string(self.id).string(member_id));
        let _throttle_ms = answer.i32();
        answer.i16()
    }

    /// The error code of this partition.
    fn try_commit(&mut self, member_id: &str, generation: i32, topic: &str, offset: i64) -> i16 {
        let body = nullable(Fields::default().string(self.id).i32(generation).string(member_id), None);
        let body = body.i32(1).string(topic).i32(1).i32(0).i64(offset).i32(-1).string("note");
        let mut answer = self.client.call(OFFSET_COMMIT, 7, body);
        let (_throttle_ms, _topics, _name) = (answer.i32(), answer.i32(), answer.string());
        let (_partitions, _index) = (answer.i32(), answer.i32());
        answer.i16()
    }

    fn commit(&mut self, member_id: &str, generation: i32, topic: &str, offset: i64) -> i16 {
        wait_for("the commit is answered", WITHIN, || {
            Some(self.try_commit(member_id, generation, topic, offset)).filter(|error| !AGAIN.contains(error))
        })
    }

    /// Offset and metadata.
    fn committed(&mut self, topic: &str) -> (i64, String) {
        wait_for("the offset is fetched", WITHIN, || {
            let body = Fields::default().string(self.id).i32(1).string(topic).i32(1).i32(0);
            let mut answer = self.client.call(OFFSET_FETCH, 5, body);
            let (_throttle_ms, topics) = (answer.i32(), answer.i32());
            if topics == 0 {
                let error = answer.i16();
                assert!(AGAIN.contains(&error), "fetching failed: {error}");
                return None;
            }
            let (_name, _partitions, _index) = (answer.string(), answer.i32(), answer.i32());
            let (offset, _leader_epoch, metadata, error) = (answer.i64(), answer.i32(), answer.string(), answer.i16());
            (error == 0).then_some((offset, metadata))
        })
    }

    /// The only member of the group, with an assignment.
    fn become_stable(&mut self) -> (String, i32) {
        let refused = self.join("");
        assert_eq!(refused.error, MEMBER_ID_REQUIRED);
        let joined = self.join(&refused.member_id);
        assert_eq!((joined.error, joined.members, &joined.leader), (0, 1, &joined.member_id));
        let synced = self.sync(&joined.member_id, joined.generation, &[(&joined.member_id, "mine")]);
        assert_eq!(synced, (0, "mine".to_owned()));
        (joined.member_id, joined.generation)
    }
}

/// A table of what is refused, which holds for Kafka (`CAPEK_BIN=tests/oracle`) and for us.
#[test]
fn what_does_not_fit_a_group_is_refused_as_kafka_does() {
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"]);
    broker.create_topic("orders", 1);
    let (mut client, mut second) = (broker.client(), broker.client());
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    assert_eq!(group.join("nobody").error, UNKNOWN_MEMBER_ID);
    assert_eq!(group.heartbeat("nobody", 1), UNKNOWN_MEMBER_ID);
    assert_eq!(group.leave("nobody"), UNKNOWN_MEMBER_ID);
    assert_eq!(group.commit("nobody", 1, "orders", 1), ILLEGAL_GENERATION);
    assert_eq!(group.committed("orders"), (-1, String::new()));

    let (member_id, generation) = group.become_stable();
    assert_eq!(generation, 1);
    assert_eq!(group.heartbeat(&member_id, 1), 0);
    assert_eq!(group.heartbeat(&member_id, 2), ILLEGAL_GENERATION);
    assert_eq!(group.sync(&member_id, 2, &[]).0, ILLEGAL_GENERATION);
    assert_eq!(group.commit(&member_id, 2, "orders", 1), ILLEGAL_GENERATION);
    assert_eq!(group.commit("", -1, "orders", 1), UNKNOWN_MEMBER_ID);
    assert_eq!(group.commit(&member_id, 1, "missing", 1), 3);
    assert_eq!(group.commit(&member_id, 1, "orders", 7), 0);
    assert_eq!(group.committed("orders"), (7, "note".to_owned()));

    // A second member: the first learns of the rebalance, joins again, and leads the next generation.
    let mut newcomer = Group { client: &mut second, id: "readers" };
    let refused = newcomer.join("");
    newcomer.send_join(&refused.member_id);
    wait_for("the rebalance begins", WITHIN, || (group.heartbeat(&member_id, 1) != 0).then_some(()));
    assert_eq!(group.heartbeat(&member_id, 1), REBALANCE_IN_PROGRESS);
    assert_eq!(group.sync(&member_id, 1, &[]).0, REBALANCE_IN_PROGRESS);
    let again = group.join(&member_id);
    let joined = newcomer.receive_join();
    assert_eq!((again.generation, again.members), (2, 2));
    assert_eq!((joined.error, joined.generation, joined.members), (0, 2, 0));
    assert_eq!(joined.leader, member_id);
    let shares = [(member_id.as_str(), "one"), (joined.member_id.as_str(), "two")];
    assert_eq!(group.sync(&member_id, 2, &shares), (0, "one".to_owned()));
    assert_eq!(newcomer.sync(&joined.member_id, 2, &[]), (0, "two".to_owned()));
    assert_eq!(newcomer.leave(&joined.member_id), 0);
    assert_eq!(group.heartbeat(&member_id, 2), REBALANCE_IN_PROGRESS);
}

/// Most heartbeats never reach the coordinator: those that were answered count for it nevertheless.
#[test]
fn a_member_lives_as_long_as_it_is_told_so_and_then_for_a_session() {
    const SESSION_MS: i32 = 1_500;
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000"]);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    let member_id = group.join("").member_id;
    group.send_join_of_session(&member_id, SESSION_MS);
    assert_eq!(group.receive_join().error, 0);
    assert_eq!(group.sync(&member_id, 1, &[(&member_id, "mine")]).0, 0);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(group.heartbeat(&member_id, 1), 0);
    }
    std::thread::sleep(Duration::from_millis(SESSION_MS as u64 + 200));
    assert_eq!(group.heartbeat(&member_id, 1), UNKNOWN_MEMBER_ID);
}

/// A heartbeat overtakes nothing that its connection has asked before.
#[test]
fn a_heartbeat_behind_a_leave_finds_no_member() {
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"]);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    for _ in 0..20 {
        let (member_id, generation) = group.become_stable();
        for _ in 0..3 {
            assert_eq!(group.heartbeat(&member_id, generation), 0);
        }
        group.client.send(LEAVE_GROUP, 1, Fields::default().string(group.id).string(&member_id));
        group.send_heartbeat(&member_id, generation);
        assert_eq!([group.receive_error(), group.receive_error()], [0, UNKNOWN_MEMBER_ID]);
    }
}

/// Members stay members: the log has them, and their sessions begin afresh.
#[test]
fn groups_and_acked_commits_survive_kill_9() {
    const GROUPS: usize = 10;
    let mut broker = Broker::start_with(&["offsets.topic.num.partitions=8"]);
    broker.create_topic("orders", 1);
    let ids: Vec<String> = (0..GROUPS).map(|index| format!("group-{index}")).collect();
    let mut client = broker.client();
    let mut members = Vec::new();
    for id in &ids {
        let mut group = Group { client: &mut client, id };
        group.find();
        members.push(group.become_stable());
    }
    for round in 1..=5 {
        for (id, (member_id, generation)) in ids.iter().zip(&members) {
            let mut group = Group { client: &mut client, id };
            assert_eq!(group.commit(member_id, *generation, "orders", round * 10), 0);
        }
        // Written, and nobody waits for it to be confirmed.
        for (id, (member_id, generation)) in ids.iter().zip(&members) {
            let body = nullable(Fields::default().string(id).i32(*generation).string(member_id), None);
            let body = body.i32(1).string("orders").i32(1).i32(0).i64(round * 10 + 1).i32(-1).string("note");
            client.send(OFFSET_COMMIT, 7, body);
        }
        broker.kill();
        broker.start_again();
        client = broker.client();
        for (id, (member_id, generation)) in ids.iter().zip(&members) {
            let mut group = Group { client: &mut client, id };
            let (offset, _) = group.committed("orders");
            assert!((round * 10..=round * 10 + 1).contains(&offset), "{id}: {offset} in round {round}");
            assert_eq!(group.heartbeat(member_id, *generation), 0);
            assert_eq!(group.sync(member_id, *generation, &[]), (0, "mine".to_owned()));
        }
    }
}

/// One of another group would be lost with it, if loading ended there.
#[test]
fn a_corrupt_record_is_passed_over_and_all_other_groups_are_loaded() {
    let mut broker = Broker::start_with(&["offsets.topic.num.partitions=1"]);
    broker.create_topic("orders", 1);
    let mut client = broker.client();
    for (id, offset) in [("before", 1), ("damaged", 2), ("after", 3)] {
        let mut group = Group { client: &mut client, id };
        group.find();
        assert_eq!(group.commit("", -1, "orders", offset), 0);
    }
    assert!(broker.terminate().success());
    corrupt_length_of(b"damaged", &broker.data_dir.join("__consumer_offsets-0/00000000000000000000.log"));
    broker.start_again();
    client = broker.client();
    for (id, offset) in [("before", 1), ("damaged", -1), ("after", 3)] {
        let committed = Group { client: &mut client, id }.committed("orders");
        assert_eq!(committed.0, offset, "{id}");
    }
    let output = broker.output();
    let told = output.lines().find(|line| line.contains("__consumer_offsets-0") && line.contains("passed over"));
    assert!(told.is_some_and(|line| line.contains("the record at offset 1 ")), "{output}");
}

/// The key of one record says that this string is longer than the record; the checksum of its batch is right.
fn corrupt_length_of(string: &[u8], path: &Path) {
    const HEADER_BYTES: usize = 12; // base offset and length
    let mut log = std::fs::read(path).expect("the log can be read");
    let found = log.windows(string.len()).position(|window| window == string).expect("the record is there");
    log[found - 2] = 0x7f;
    let mut start = 0;
    loop {
        let length = u32::from_be_bytes(log[start + 8..start + 12].try_into().expect("four bytes")) as usize;
        let end = start + HEADER_BYTES + length;
        if found < end {
            let crc = crc32c::crc32c(&log[start + 21..end]);
            log[start + 17..start + 21].copy_from_slice(&crc.to_be_bytes());
            break;
        }
        start = end;
    }
    std::fs::write(path, log).expect("the log can be written");
}

/// The soak of the same is CAPEK_TEST_PANICS=1000.
#[test]
fn a_coordinator_that_panics_loads_again_and_nobody_is_thrown_out() {
    check_panics("group-coordinator:__consumer_offsets-0");
}

/// What was under way to the log is certainly in it, or certainly not, before the coordinator reads it again.
#[test]
fn a_coordinator_whose_partition_panics_loads_again_and_loses_no_commit() {
    check_panics("partition:__consumer_offsets-0");
}

fn check_panics(victim: &str) {
    let broker = Broker::start_with(&[&CHAOS[..], &["offsets.topic.num.partitions=1"]].concat());
    broker.create_topic("orders", 1);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    let (member_id, generation) = group.become_stable();
    let panics = std::env::var("CAPEK_TEST_PANICS").map_or(PANICS, |count| count.parse().expect("a number of panics"));
    let (mut acked, mut next) = (0, 1);
    for round in 0..panics {
        // A few commits are under way while it panics.
        let path = victim_path(victim);
        let chaos = std::thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(round as u64 % 5));
                panic_actor(&broker, &path);
            });
            while !panicking.is_finished() || acked == 0 {
                match group.try_commit(&member_id, generation, "orders", next) {
                    0 => acked = next,
                    error => assert!(AGAIN.contains(&error), "round {round}: a commit failed: {error}"),
                }
                next += 1;
            }
            panicking.join()
        });
        chaos.expect("the chaos call succeeds");
        let (offset, _) = group.committed("orders");
        assert!((acked..next).contains(&offset), "round {round}: {offset} is committed, {acked} was confirmed");
        assert_eq!(group.heartbeat(&member_id, generation), 0, "round {round}");
        assert_eq!(group.commit(&member_id, generation, "orders", next), 0);
        (acked, next) = (next, next + 1);
        assert_eq!(group.committed("orders").0, acked);
    }
    assert_eq!(group.sync(&member_id, generation, &[]), (0, "mine".to_owned()));
}

fn victim_path(victim: &str) -> String {
    match victim.starts_with("partition") {
        true => format!("broker/replica-manager/{victim}"),
        false => format!("broker/coordinator-manager/{victim}"),
    }
}

fn panic_actor(broker: &Broker, path: &str) {
    let body = serde_json::json!({ "path": path }).to_string();
    output_of(curl(&["--fail-with-body", "--json", &body, &broker.http("/v1/chaos/panic")]));
}

#[test]
fn the_topic_of_the_groups_is_internal_and_clients_cannot_write_to_it() {
    let broker = Broker::start_with(&["offsets.topic.num.partitions=3", "offsets.topic.replication.factor=1"]);
    let mut client = broker.client();
    Group { client: &mut client, id: "any" }.find();
    assert_eq!(client.produce("__consumer_offsets", 0, &batch(&[b"forged"], NO_SEQUENCE)).error, 17);
    let mut answer = client.call(METADATA, 1, Fields::default().i32(1).string("__consumer_offsets"));
    skip_brokers(&mut answer);
    assert_eq!((answer.i32(), answer.i16(), answer.string()), (1, 0, "__consumer_offsets".to_owned()));
    let (is_internal, partitions) = (answer.i8(), answer.i32());
    assert_eq!((is_internal, partitions), (1, 3));
    let tool = |class: &str, arguments: &[&str]| {
        output_of_class(class, &[&["--bootstrap-server", &broker.kafka()], arguments].concat())
    };
    let described = tool("org.apache.kafka.tools.TopicCommand", &["--describe", "--topic", "__consumer_offsets"]);
    for wanted in ["cleanup.policy=compact", "segment.bytes=104857600", "compression.type=producer"] {
        assert!(described.contains(wanted), "{wanted} in {described}");
    }
}

/// What no client of good manners sends; the answers are those of a Kafka 4.3.
#[test]
fn odd_requests_about_groups_are_answered_as_by_kafka() {
    const GROUP_ID_NOT_FOUND: i16 = 69;
    const INVALID_GROUP_ID: i16 = 24;
    let broker = Broker::start();
    broker.create_topic("orders", 1);
    let mut client = broker.client();
    Group { client: &mut client, id: "readers" }.find();
    // An empty tag section of the header, one group without a name, and no authorized operations.
    let mut answer = client.call(CONSUMER_GROUP_DESCRIBE, 0, Fields::default().raw(&[0, 2, 1, 0, 0]));
    let (_tags, _throttle_ms, groups) = (answer.i8(), answer.i32(), answer.i8() - 1);
    assert_eq!((groups, answer.i16()), (1, INVALID_GROUP_ID));

    wait_for("all coordinators are loaded", WITHIN, || {
        let groups = Fields::default().i32(3).string("a").string("b").string("a");
        let mut answer = client.call(DELETE_GROUPS, 0, groups);
        let _throttle_ms = answer.i32();
        let results: Vec<_> = (0..answer.i32()).map(|_| (answer.string(), answer.i16())).collect();
        let names: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "a group that is named twice is answered once");
        results.iter().all(|(_, error)| *error == GROUP_ID_NOT_FOUND).then_some(())
    });

    let commit = |client: &mut RawClient, topic: &str| {
        let body = Fields::default().string("readers").i32(-1).string("").i64(-1).i32(1).string(topic).i32(0);
        client.call(OFFSET_COMMIT, 2, body).i32()
    };
    assert_eq!(commit(&mut client, "orders"), 0, "of no partition there is nothing to say");
    assert_eq!(commit(&mut client, "unknown"), 1);
}

fn skip_brokers(answer: &mut Answer) {
    for _ in 0..answer.i32() {
        let (_id, _host, _port, _rack) = (answer.i32(), answer.string(), answer.i32(), answer.string());
    }
    let _controller_id = answer.i32();
}

#[test]
fn what_was_committed_to_a_deleted_topic_is_forgotten() {
    let broker = Broker::start();
    broker.create_topic("short-lived", 1);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    assert_eq!(group.commit("", -1, "short-lived", 5), 0);
    let mut answer = client.call(DELETE_TOPICS, 1, Fields::default().i32(1).string("short-lived").i32(10_000));
    let (_throttle_ms, _topics, _name) = (answer.i32(), answer.i32(), answer.string());
    assert_eq!(answer.i16(), 0);
    let mut group = Group { client: &mut client, id: "readers" };
    wait_for("the offset is forgotten", WITHIN, || (group.committed("short-lived").0 == -1).then_some(()));
}

/// A member may wait for others for minutes; the broker's stop may not.
#[test]
fn a_stop_lets_members_go_that_wait_for_others() {
    let mut broker = Broker::start_with(&["group.initial.rebalance.delay.ms=60000"]);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    let refused = group.join("");
    group.send_join(&refused.member_id);
    std::thread::sleep(Duration::from_millis(200));
    let began = std::time::Instant::now();
    assert!(broker.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    assert!(AGAIN.contains(&group.receive_join().error));
}

#[test]
fn kafkas_own_tools_read_the_records_of_our_groups() {
    let mut broker = Broker::start_with(&["offsets.topic.num.partitions=1"]);
    broker.create_topic("orders", 1);
    let mut client = broker.client();
    let mut group = Group { client: &mut client, id: "readers" };
    group.find();
    let (member_id, generation) = group.become_stable();
    assert_eq!(group.commit(&member_id, generation, "orders", 42), 0);

    let formatted = |formatter: &str| {
        let formatter = format!("org.apache.kafka.tools.consumer.{formatter}");
        let topic = ["--bootstrap-server", &broker.kafka(), "--topic", "__consumer_offsets", "--from-beginning"];
        // The group as it became stable, and its offset.
        let reading = ["--formatter", &formatter, "--max-messages", "2", "--timeout-ms", "20000"];
        output_of_class("org.apache.kafka.tools.consumer.ConsoleConsumer", &[&topic[..], &reading].concat())
    };
    let offsets = formatted("OffsetsMessageFormatter");
    for wanted in [r#""group":"readers""#, r#""topic":"orders""#, r#""offset":42"#, r#""metadata":"note""#] {
        assert!(offsets.contains(wanted), "{wanted} in {offsets}");
    }
    let groups = formatted("GroupMetadataMessageFormatter");
    for wanted in [r#""protocolType":"consumer""#, r#""generation":1"#, &format!(r#""memberId":"{member_id}""#)] {
        assert!(groups.contains(wanted), "{wanted} in {groups}");
    }

    assert!(broker.terminate().success());
    let log = broker.data_dir.join("__consumer_offsets-0/00000000000000000000.log");
    let log = log.to_str().expect("the path is ASCII");
    let dumped = output_of_class(
        "org.apache.kafka.tools.DumpLogSegments",
        &["--offsets-decoder", "--print-data-log", "--files", log],
    );
    for wanted in [r#""group":"readers""#, r#""offset":42"#, r#""protocol":"range""#, "isvalid: true"] {
        assert!(dumped.contains(wanted), "{wanted} in {dumped}");
    }
}
