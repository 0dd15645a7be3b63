//! A whole shard, with topics of an image, and everything that it has written.

use capek_state::cluster::{ConfigKind, ConfigResource, Image, PartitionRecord, Record as ClusterRecord};
use capek_state::group::{
    CommitRequest, ConsumerHeartbeat, Coordinator, Effects, FetchRequest, GroupConfig, HeartbeatRequest, JoinAnswer,
    JoinRequest, LeaveRequest, LeavingMember, ListFilter, OffsetToCommit, Protocol, Record, ReplyId, SyncAnswer,
    SyncRequest,
};
use capek_wire::messages::ConsumerGroupHeartbeatRequest;
use capek_wire::messages::consumer_group_describe::DescribedGroup;
use capek_wire::{ErrorCode, Message, Str, Uuid, Writer};

use crate::world::{Answer, START_MS, topic_id};

pub struct Shard {
    pub groups: Coordinator,
    pub image: Image,
    pub now_ms: i64,
    pub log: Vec<Record>,
    next_reply: u64,
    newcomer_count: usize,
    /// Answers to joins and syncs that waited.
    pub late_joins: Vec<(ReplyId, JoinAnswer)>,
    pub late_syncs: Vec<(ReplyId, SyncAnswer)>,
}

pub fn config() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() }
}

/// What a consumer says in its JoinGroup.
pub fn subscription(topics: &[&str], owned: &[(&str, &[i32])]) -> Protocol {
    use capek_wire::messages::ConsumerProtocolSubscription;
    use capek_wire::messages::consumer_protocol_subscription::TopicPartition;
    let owned = owned
        .iter()
        .map(|(topic, partitions)| TopicPartition { topic: (*topic).into(), partitions: partitions.to_vec() });
    let message = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
        owned_partitions: owned.collect(),
        ..Default::default()
    };
    let mut writer = Writer::new();
    writer.put_i16(1);
    message.encode(&mut writer, 1).expect("it can be written");
    Protocol { name: "range".into(), metadata: writer.into_bytes() }
}

/// What a consumer reads out of its SyncGroup.
pub fn assignment(answer: &SyncAnswer) -> Vec<(String, Vec<i32>)> {
    use capek_wire::Reader;
    use capek_wire::messages::ConsumerProtocolAssignment;
    assert_eq!(answer.error, ErrorCode::None);
    let mut reader = Reader::new(answer.assignment.clone());
    assert_eq!(reader.get_i16(), Ok(1), "the version is that of the subscription");
    let message = ConsumerProtocolAssignment::decode(&mut reader, 1).expect("it can be read");
    message.assigned_partitions.iter().map(|topic| (topic.topic.to_string(), topic.partitions.clone())).collect()
}

impl Shard {
    pub fn new() -> Shard {
        let mut shard = Shard {
            groups: Coordinator::new(config()),
            image: Image::default(),
            now_ms: START_MS,
            log: Vec::new(),
            next_reply: 0,
            newcomer_count: 0,
            late_joins: Vec::new(),
            late_syncs: Vec::new(),
        };
        shard.create_topic("t1", 1, 6);
        shard.groups.loaded(shard.now_ms, &mut Effects::default());
        shard
    }

    pub fn create_topic(&mut self, name: &str, id: u8, partition_count: i32) {
        let mut records = vec![ClusterRecord::Topic { topic_id: topic_id(id), name: name.into() }];
        for partition in 0..partition_count {
            let record = PartitionRecord {
                topic_id: topic_id(id),
                partition,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                leader_epoch: 0,
                partition_epoch: 0,
                dirs: vec![Uuid::ZERO],
            };
            records.push(ClusterRecord::Partition(record));
        }
        for record in &records {
            self.image.apply(record);
        }
        self.groups.set_image(&self.image);
    }

    pub fn configure_group(&mut self, name: &str, value: &str) {
        let resource = ConfigResource { kind: ConfigKind::Group, name: "g".to_owned() };
        let value = Some(value.to_owned());
        self.image.apply(&ClusterRecord::ConfigChanged { resource, name: name.to_owned(), value });
        self.groups.set_image(&self.image);
    }

    fn carry_out(&mut self, effects: Effects) {
        self.log.extend(effects.records);
        self.late_joins.extend(effects.joins);
        self.late_syncs.extend(effects.syncs);
    }

    pub fn send(&mut self, request: ConsumerGroupHeartbeatRequest) -> Answer {
        let mut effects = Effects::default();
        let heartbeat = ConsumerHeartbeat {
            request,
            version: 1,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            new_member_id: "new".into(),
        };
        let response = self.groups.consumer_heartbeat(self.now_ms, &heartbeat, &mut effects);
        let is_refused = response.error_code != 0;
        assert!(!is_refused || effects.records.is_empty(), "what is refused writes nothing");
        self.carry_out(effects);
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => Ok(response),
            code => Err((code, response.error_message.map(String::from).unwrap_or_default())),
        }
    }

    /// The answer, if it came at once. Newcomers are `k`, `k1`, `k2`.
    pub fn join(&mut self, member_id: &str, protocol: Protocol) -> Option<JoinAnswer> {
        let new_member_id = if self.newcomer_count == 0 { "k".to_owned() } else { format!("k{}", self.newcomer_count) };
        self.newcomer_count += usize::from(member_id.is_empty());
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        let request = JoinRequest {
            group: "g".into(),
            member_id: member_id.into(),
            client_id: "classic".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            requires_known_member: false,
            new_member_id: new_member_id.into(),
            ..Default::default()
        };
        let mut effects = Effects::default();
        self.groups.join(self.now_ms, request, reply, &mut effects);
        self.carry_out(effects);
        // The initial delay of a classic group is over at once.
        self.wait(0);
        let found = self.late_joins.iter().position(|(id, _)| *id == reply)?;
        Some(self.late_joins.remove(found).1)
    }

    pub fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: Vec<(Str, bytes::Bytes)>,
    ) -> Option<SyncAnswer> {
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        let request = SyncRequest {
            group: "g".into(),
            member_id: member_id.into(),
            generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments,
            ..Default::default()
        };
        let mut effects = Effects::default();
        self.groups.sync(self.now_ms, request, reply, &mut effects);
        self.carry_out(effects);
        let found = self.late_syncs.iter().position(|(id, _)| *id == reply)?;
        Some(self.late_syncs.remove(found).1)
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let request =
            HeartbeatRequest { group: "g".into(), member_id: member_id.into(), generation, instance_id: None };
        self.groups.heartbeat(self.now_ms, &request)
    }

    pub fn leave(&mut self, member_id: &str) -> Vec<ErrorCode> {
        let member = LeavingMember { member_id: member_id.into(), instance_id: None };
        let request = LeaveRequest { group: "g".into(), members: vec![member] };
        let mut effects = Effects::default();
        let errors = self.groups.leave(self.now_ms, &request, &mut effects).expect("the group id is good");
        self.carry_out(effects);
        errors
    }

    pub fn commit(&mut self, member_id: &str, generation: i32, partition: i32, offset: i64) -> Result<(), ErrorCode> {
        let to_commit =
            OffsetToCommit { topic: "t1".into(), topic_id: topic_id(1), partition, offset, ..Default::default() };
        let request = CommitRequest {
            group: "g".into(),
            member_id: member_id.into(),
            generation,
            knows_missing_groups: true,
            offsets: vec![to_commit],
            ..Default::default()
        };
        let mut effects = Effects::default();
        let outcome = self.groups.commit_offsets(self.now_ms, request, &mut effects);
        self.carry_out(effects);
        outcome.map(|errors| assert_eq!(errors, [ErrorCode::None]))
    }

    pub fn committed(&self) -> Vec<(i32, i64)> {
        let fetched = self.groups.fetch_offsets(FetchRequest { group: "g".into(), ..Default::default() });
        let topics = fetched.expect("a tool may fetch").into_iter();
        topics.flat_map(|topic| topic.partitions).filter_map(|(index, found)| Some((index, found?.offset))).collect()
    }

    pub fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
        let mut effects = Effects::default();
        self.groups.tick(self.now_ms, &mut effects);
        self.carry_out(effects);
    }

    /// As a new coordinator finds the shard in the log.
    pub fn reload(&mut self) {
        let mut groups = Coordinator::new(config());
        groups.set_image(&self.image);
        for record in &self.log {
            let (key, value) = record.encode().expect("it can be written");
            groups.replay(&Record::decode(key, value).expect("it can be read").expect("it is of a known kind"));
        }
        groups.loaded(self.now_ms, &mut Effects::default());
        self.groups = groups;
    }

    pub fn describe(&self) -> DescribedGroup {
        self.groups.describe_consumer_group(&"g".into())
    }

    /// Type and state, as ListGroups shows them.
    pub fn listed(&self) -> Option<(&'static str, &'static str)> {
        self.groups.list(&ListFilter::default()).first().map(|group| (group.kind, group.state))
    }
}
