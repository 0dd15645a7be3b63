//! A group, the topics that it reads, a clock, and what the group has written so far.

use std::collections::BTreeMap;

use capek_state::Refusal;
use capek_state::group::consumer::{
    Assignment, ConsumerGroup, ConsumerGroupConfig, ConsumerRecord, Context, Heartbeat, TopicInfo, TopicTable, Topics,
};
use capek_wire::messages::consumer_group_heartbeat::TopicPartitions;
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use capek_wire::{ErrorCode, Str, TopicId, Uuid};

pub const START_MS: i64 = 1_700_000_000_000;
pub const REBALANCE_TIMEOUT_MS: i32 = 30_000;

pub struct World {
    pub group: ConsumerGroup,
    pub topics: TopicTable,
    pub config: ConsumerGroupConfig,
    pub now_ms: i64,
    pub log: Vec<ConsumerRecord>,
    /// After how many calls the log is read again and compared.
    pub calls_per_check: usize,
    call_count: usize,
}

pub type Answer = Result<ConsumerGroupHeartbeatResponse, (ErrorCode, String)>;

pub fn topic_id(number: u8) -> TopicId {
    let mut id = [0; 16];
    id[15] = number;
    Uuid(id)
}

pub fn partitions(topic: u8, indexes: impl IntoIterator<Item = i32>) -> Assignment {
    indexes.into_iter().map(|index| (topic_id(topic), index)).collect()
}

pub fn names(names: &[&str]) -> Option<Vec<Str>> {
    Some(names.iter().map(|name| Str::from(*name)).collect())
}

/// A full request that joins.
pub fn join(member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        subscribed_topic_names: names(topics),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// A heartbeat that says nothing new.
pub fn beat(member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        ..Default::default()
    }
}

/// A heartbeat that says what the member holds.
pub fn beat_holding(member_id: &str, epoch: i32, held: &Assignment) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest { topic_partitions: Some(wire(held)), ..beat(member_id, epoch) }
}

pub fn wire(held: &Assignment) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic_id, index) in held {
        topics.entry(*topic_id).or_default().push(*index);
    }
    topics.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
}

/// What an answer says the member may read; `None`: nothing new.
pub fn assigned(answer: &Answer) -> Option<Assignment> {
    let assignment = answer.as_ref().expect("the heartbeat is accepted").assignment.as_ref()?;
    let topics = assignment.topic_partitions.iter();
    Some(topics.flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect())
}

pub fn epoch(answer: &Answer) -> i32 {
    answer.as_ref().expect("the heartbeat is accepted").member_epoch
}

pub fn code(answer: &Answer) -> ErrorCode {
    answer.as_ref().expect_err("the heartbeat is refused").0
}

impl World {
    /// Topics `t1` and `t2` with six partitions, `u` with three.
    pub fn new() -> World {
        let mut topics = TopicTable::default();
        for (name, number, partition_count) in [("t1", 1, 6), ("t2", 2, 6), ("u", 3, 3)] {
            topics.put(name, TopicInfo { id: topic_id(number), partition_count });
        }
        World {
            group: ConsumerGroup::new("g".into()),
            topics,
            config: ConsumerGroupConfig::default(),
            now_ms: START_MS,
            log: Vec::new(),
            calls_per_check: 1,
            call_count: 0,
        }
    }

    pub fn send(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Answer {
        let heartbeat =
            Heartbeat { request, client_id: "client", client_host: "/127.0.0.1", new_member_id: "made-here" };
        let context = Context { now_ms: self.now_ms, config: &self.config, topics: &self.topics };
        let before = self.group.clone();
        let outcome = match request.member_epoch {
            -2 | -1 => self.group.leave(request, &context),
            _ => self.group.heartbeat(heartbeat, &context),
        };
        match outcome {
            Ok(outcome) => {
                self.log.extend(outcome.records);
                self.assert_reload_gives_the_same();
                Ok(outcome.response)
            }
            Err(Refusal { code, message }) => {
                assert_eq!(self.group, before, "what is refused changes nothing");
                Err((code, message.unwrap_or_default().into_owned()))
            }
        }
    }

    /// Lets time pass, and the timers with it.
    pub fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
        let context = Context { now_ms: self.now_ms, config: &self.config, topics: &self.topics };
        let records = self.group.tick(&context);
        self.log.extend(records);
        self.assert_reload_gives_the_same();
    }

    /// The next heartbeat makes a new target.
    pub fn let_assign(&mut self) {
        self.wait(i64::from(self.config.assignment_interval_ms));
    }

    /// The group as a new coordinator finds it in the log, with fresh timers.
    pub fn reload(&mut self) {
        let mut group = ConsumerGroup::new("g".into());
        self.log.iter().for_each(|record| group.replay(&record.change));
        group.restart_timers(&Context { now_ms: self.now_ms, config: &self.config, topics: &self.topics });
        self.group = group;
    }

    fn assert_reload_gives_the_same(&mut self) {
        self.call_count += 1;
        if !self.call_count.is_multiple_of(self.calls_per_check) {
            return;
        }
        let mut reloaded = ConsumerGroup::new("g".into());
        for record in &self.log {
            let (key, value) = record.encode().expect("what is written can be written");
            assert_eq!(ConsumerRecord::decode(key, value).as_ref(), Ok(record), "bytes and back");
            reloaded.replay(&record.change);
        }
        assert!(reloaded.members().eq(self.group.members()), "members: {reloaded:?} {:?}", self.group);
        let describe = |group: &ConsumerGroup| group.describe(&self.config, &self.topics);
        assert_eq!(describe(&reloaded), describe(&self.group));
        self.topics.visit_names(&mut |name| {
            let TopicInfo { id, partition_count } = self.topics.topic(name).expect("it was named");
            for partition in (0..partition_count).map(|index| (id, index)) {
                assert_eq!(reloaded.owner(partition), self.group.owner(partition));
            }
        });
    }
}

/// Asks the members in turn until nothing changes any more: a quiet group has settled.
pub fn settle(world: &mut World, member_ids: &[&str]) -> BTreeMap<String, Assignment> {
    let mut held: BTreeMap<String, Assignment> = BTreeMap::new();
    for member_id in member_ids {
        let member = world.group.member(member_id).expect("it is a member");
        held.insert((*member_id).to_owned(), member.assigned.keys().copied().collect());
    }
    for _ in 0..6 {
        world.let_assign();
        for member_id in member_ids {
            let member = world.group.member(member_id).expect("it is a member");
            let request = beat_holding(member_id, member.epoch, &held[*member_id]);
            if let Some(assignment) = assigned(&world.send(&request)) {
                held.insert((*member_id).to_owned(), assignment);
            }
        }
    }
    assert_eq!(world.group.state().name(), "Stable");
    held
}
