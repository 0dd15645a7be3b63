//! A member of a classic group: what it told when it joined, and what it waits for.

use bytes::Bytes;
use capek_wire::codec::Str;

use crate::group::{GroupMember, ReplyId};

/// A protocol that a member can follow, and what it has to say when the group does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    pub name: Str,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Of the last generation that became stable.
    pub assignment: Bytes,
    /// The JoinGroup that is answered when the join phase is over.
    pub join: Option<ReplyId>,
    /// The SyncGroup that is answered when the group leader has assigned.
    pub sync: Option<ReplyId>,
    /// Joined, and has not had its first answer: it knows no id to send heartbeats with.
    pub is_new: bool,
    pub session_deadline_ms: i64,
}

impl Member {
    /// When it is taken for dead. Whoever waits for the others is not; a new one is, because nobody notices when its
    /// connection is gone, and each retry of its client would leave another.
    pub fn deadline_ms(&self) -> Option<i64> {
        let is_waiting = self.join.is_some() || self.sync.is_some();
        (self.is_new || !is_waiting).then_some(self.session_deadline_ms)
    }

    pub fn renew_session(&mut self, now_ms: i64) {
        self.session_deadline_ms = now_ms.saturating_add(i64::from(self.session_timeout_ms));
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|supported| supported.name == protocol)
    }

    /// What it has to say under this protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|supported| supported.name == protocol);
        found.map(|supported| supported.metadata.clone()).unwrap_or_default()
    }

    pub fn to_record(&self, protocol: &str, assignment: Bytes) -> GroupMember {
        GroupMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// A member that only the log knows: of its protocols the log has the chosen one.
    pub fn from_record(record: &GroupMember, protocol: &Str) -> Member {
        Member {
            id: record.member_id.clone(),
            instance_id: record.instance_id.clone(),
            client_id: record.client_id.clone(),
            client_host: record.client_host.clone(),
            rebalance_timeout_ms: record.rebalance_timeout_ms,
            session_timeout_ms: record.session_timeout_ms,
            protocols: vec![Protocol { name: protocol.clone(), metadata: record.subscription.clone() }],
            assignment: record.assignment.clone(),
            join: None,
            sync: None,
            is_new: false,
            session_deadline_ms: i64::MAX,
        }
    }

    /// The log says this of a member that is here already.
    pub fn replay(&mut self, record: &GroupMember, protocol: &Str) {
        self.assignment = record.assignment.clone();
        if self.metadata(protocol) != record.subscription || !self.supports(protocol) {
            self.protocols = vec![Protocol { name: protocol.clone(), metadata: record.subscription.clone() }];
        }
    }
}
