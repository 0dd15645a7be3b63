//! A shard with a clock that the test moves, and requests with the usual in them.

use bytes::Bytes;
use capek_state::group::{
    CommitRequest, CommittedOffset, Coordinator, Effects, FetchRequest, FetchTopic, GroupConfig, GroupKind,
    GroupMetadata, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveRequest, LeavingMember, OffsetToCommit, Protocol,
    Record, ReplyId, SyncAnswer, SyncRequest,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;

pub const GROUP: &str = "group";
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;
pub const START_MS: i64 = 1_000_000;
pub const TOPIC_ID: Uuid = Uuid([7; 16]);

pub fn text(text: &str) -> Str {
    Str::from(text)
}

/// The subscription of a consumer, version 0.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

pub fn protocol(name: &str, metadata: impl Into<Bytes>) -> Protocol {
    Protocol { name: text(name), metadata: metadata.into() }
}

pub struct Shard {
    pub coordinator: Coordinator,
    pub now_ms: i64,
    /// Everything that was ever written.
    pub log: Vec<Record>,
    next_reply: u64,
    next_member: u32,
}

impl Shard {
    pub fn new() -> Shard {
        Shard::with(|_| {})
    }

    /// Without an initial delay, unless the test sets one.
    pub fn with(change: impl FnOnce(&mut GroupConfig)) -> Shard {
        let mut config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        change(&mut config);
        let mut coordinator = Coordinator::new(config);
        coordinator.loaded(START_MS, &mut Effects::default());
        Shard { coordinator, now_ms: START_MS, log: Vec::new(), next_reply: 0, next_member: 0 }
    }

    fn done(&mut self, effects: Effects) -> Effects {
        self.log.extend(effects.records.iter().cloned());
        effects
    }

    pub fn reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }

    /// A dynamic member that comes with a client of before version 4: it is let in at once.
    pub fn newcomer(&mut self) -> JoinRequest {
        self.next_member += 1;
        JoinRequest {
            group: text(GROUP),
            client_id: text("client"),
            client_host: text("/127.0.0.1"),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: text("consumer"),
            protocols: vec![protocol("range", subscription(&["orders"]))],
            new_member_id: Str::from(format!("member-{}", self.next_member)),
            ..JoinRequest::default()
        }
    }

    pub fn known(&mut self, member_id: &str) -> JoinRequest {
        JoinRequest { member_id: text(member_id), ..self.newcomer() }
    }

    pub fn static_member(&mut self, instance_id: &str) -> JoinRequest {
        JoinRequest { instance_id: Some(text(instance_id)), ..self.newcomer() }
    }

    pub fn join(&mut self, request: JoinRequest) -> (ReplyId, Effects) {
        let reply = self.reply();
        let mut effects = Effects::default();
        self.coordinator.join(self.now_ms, request, reply, &mut effects);
        (reply, self.done(effects))
    }

    /// The answer must come at once.
    pub fn join_now(&mut self, request: JoinRequest) -> JoinAnswer {
        let (reply, effects) = self.join(request);
        assert_eq!((effects.joins.len(), effects.joins[0].0), (1, reply), "{effects:?}");
        effects.joins.into_iter().next().unwrap().1
    }

    pub fn sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> (ReplyId, Effects) {
        let assignment =
            |(member_id, assignment): &(&str, &str)| (text(member_id), Bytes::from(assignment.to_string()));
        self.sync_with(SyncRequest {
            group: text(GROUP),
            member_id: text(member_id),
            generation,
            assignments: assignments.iter().map(assignment).collect(),
            ..SyncRequest::default()
        })
    }

    pub fn sync_with(&mut self, request: SyncRequest) -> (ReplyId, Effects) {
        let reply = self.reply();
        let mut effects = Effects::default();
        self.coordinator.sync(self.now_ms, request, reply, &mut effects);
        (reply, self.done(effects))
    }

    pub fn sync_now(&mut self, member_id: &str, generation: i32) -> SyncAnswer {
        let (reply, effects) = self.sync(member_id, generation, &[]);
        assert_eq!((effects.syncs.len(), effects.syncs[0].0), (1, reply), "{effects:?}");
        effects.syncs.into_iter().next().unwrap().1
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        self.heartbeat_of(member_id, None, generation)
    }

    pub fn heartbeat_of(&mut self, member_id: &str, instance_id: Option<&str>, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group: text(GROUP),
            member_id: text(member_id),
            instance_id: instance_id.map(Str::from),
            generation,
        };
        self.coordinator.heartbeat(self.now_ms, &request)
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> (Result<Vec<ErrorCode>, ErrorCode>, Effects) {
        let leaving = |(member_id, instance_id): &(&str, Option<&str>)| LeavingMember {
            member_id: text(member_id),
            instance_id: instance_id.map(Str::from),
        };
        let request = LeaveRequest { group: text(GROUP), members: members.iter().map(leaving).collect() };
        let mut effects = Effects::default();
        let left = self.coordinator.leave(self.now_ms, &request, &mut effects);
        (left, self.done(effects))
    }

    /// They leave, all of them.
    pub fn gone(&mut self, members: &[&str]) -> Effects {
        let members: Vec<(&str, Option<&str>)> = members.iter().map(|id| (*id, None)).collect();
        let (left, effects) = self.leave(&members);
        assert_eq!(left, Ok(vec![ErrorCode::None; members.len()]));
        effects
    }

    /// Lets time pass, one deadline after the other; what happened meanwhile.
    pub fn pass(&mut self, ms: i64) -> Effects {
        let end_ms = self.now_ms + ms;
        let mut effects = Effects::default();
        while let Some(deadline_ms) = self.coordinator.next_deadline_ms().filter(|deadline_ms| *deadline_ms <= end_ms) {
            self.now_ms = deadline_ms.max(self.now_ms);
            self.coordinator.tick(self.now_ms, &mut effects);
        }
        self.now_ms = end_ms;
        self.done(effects)
    }

    /// Old members let the newcomers in; the group leader assigns everybody their own number. All are of this generation then.
    pub fn stable(&mut self, count: usize) -> Vec<String> {
        let mut replies = Vec::new();
        for _ in 0..count {
            let request = self.newcomer();
            replies.push(self.join(request).0);
        }
        let joined = self.pass(0).joins;
        assert_eq!(joined.len(), count, "the first members of a group wait for nobody");
        let ids: Vec<String> = joined.iter().map(|(_, answer)| answer.member_id.to_string()).collect();
        let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        let generation = joined[0].1.generation;
        let (_, effects) = self.sync(&ids[0], generation, &assignments);
        assert_eq!(effects.records.len(), 1);
        for id in &ids[1..] {
            assert_eq!(self.sync_now(id, generation).error, ErrorCode::None);
        }
        ids
    }

    pub fn commit_request(&self, member_id: &str, generation: i32, offset: i64) -> CommitRequest {
        CommitRequest {
            group: text(GROUP),
            member_id: text(member_id),
            generation,
            offsets: vec![OffsetToCommit {
                topic: text("orders"),
                topic_id: TOPIC_ID,
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: Str::default(),
            }],
            ..CommitRequest::default()
        }
    }

    pub fn commit(&mut self, request: CommitRequest) -> (Result<Vec<ErrorCode>, ErrorCode>, Effects) {
        let mut effects = Effects::default();
        let committed = self.coordinator.commit_offsets(self.now_ms, request, &mut effects);
        (committed, self.done(effects))
    }

    /// What is committed to "orders", by partition.
    pub fn committed(&self, partition: i32) -> Option<CommittedOffset> {
        let topics = vec![FetchTopic { topic: text("orders"), topic_id: Uuid::ZERO, partitions: vec![partition] }];
        let fetched = self
            .coordinator
            .fetch_offsets(FetchRequest { group: text(GROUP), topics: Some(topics), ..Default::default() })
            .expect("nobody is asked who he is");
        fetched[0].partitions[0].1.clone()
    }

    pub fn state(&self) -> &'static str {
        self.coordinator.describe(GROUP).map_or("Dead", |group| group.state)
    }

    pub fn generation(&self) -> i32 {
        let GroupKind::Classic(group) = &self.coordinator.group(GROUP).expect("it is there").kind else {
            panic!("it is of the other protocol");
        };
        group.generation()
    }

    /// The shard as it is after a crash: only the log is left.
    pub fn reloaded(&self) -> Shard {
        let mut shard = Shard::new();
        for record in &self.log {
            let (key, value) = record.encode().unwrap();
            shard.coordinator.replay(&Record::decode(key, value).unwrap().unwrap());
        }
        shard.now_ms = self.now_ms;
        shard.next_reply = self.next_reply + 1000;
        shard.next_member = self.next_member + 1000;
        shard.log = self.log.clone();
        shard.coordinator.loaded(self.now_ms, &mut Effects::default());
        shard
    }
}

/// The only record, which is of the group and no tombstone.
pub fn group_record(effects: &Effects) -> GroupMetadata {
    match &effects.records[..] {
        [Record::GroupMetadata { group, value: Some(value) }] if *group == GROUP => value.clone(),
        other => panic!("not one record of the group: {other:?}"),
    }
}

pub fn refused_join(error: ErrorCode, member_id: &str) -> JoinAnswer {
    JoinAnswer::refused(error, text(member_id))
}
