//! What a call of the coordinator wants done, and what it works with.

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::consumer::{ConsumerGroupConfig, ConsumerRecord, Context, ImageTopics};
use super::{GroupConfig, JoinAnswer, Record, ReplyId, SyncAnswer};

/// To be carried out: first the records are written, as one; when they are committed the answers are given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects {
    pub records: Vec<Record>,
    pub joins: Vec<(ReplyId, JoinAnswer)>,
    pub syncs: Vec<(ReplyId, SyncAnswer)>,
}

/// What a call works with: the time, the configuration, and where its effects go.
pub struct Cx<'a> {
    pub now_ms: i64,
    pub config: &'a GroupConfig,
    /// What is configured for this group, if it is of the consumer protocol.
    pub consumer: &'a ConsumerGroupConfig,
    pub topics: &'a ImageTopics,
    pub effects: &'a mut Effects,
}

impl<'a> Cx<'a> {
    /// What a consumer group looks at.
    pub fn consumer(&self) -> Context<'a> {
        Context { now_ms: self.now_ms, config: self.consumer, topics: self.topics }
    }

    pub fn write_consumer(&mut self, records: Vec<ConsumerRecord>) {
        self.effects.records.extend(records.into_iter().map(Record::Consumer));
    }

    pub fn answer_join(&mut self, reply: ReplyId, answer: JoinAnswer) {
        self.effects.joins.push((reply, answer));
    }

    pub fn refuse_join(&mut self, reply: ReplyId, error: ErrorCode, member_id: Str) {
        self.answer_join(reply, JoinAnswer::refused(error, member_id));
    }

    pub fn answer_sync(&mut self, reply: ReplyId, answer: SyncAnswer) {
        self.effects.syncs.push((reply, answer));
    }

    pub fn refuse_sync(&mut self, reply: ReplyId, error: ErrorCode) {
        self.answer_sync(reply, SyncAnswer::refused(error));
    }
}
