//! A member of a consumer group (the classic protocol): joins, gets its part, keeps its place, commits, leaves.
//!
//! ```text
//! join ──▶ JoinGroup ──▶ (leader: assign) ──▶ SyncGroup ──▶ member of a generation ── heartbeats ──▶ rebalance? join again
//!            ▲  member id required, unknown member, another coordinator: once more  │
//!            └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Heartbeats go on beside whoever reads; they tell that the group is being rearranged by [`Member::must_rejoin`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use capek_wire::messages::consumer_protocol_assignment;
use capek_wire::messages::consumer_protocol_subscription;
use capek_wire::messages::join_group::JoinGroupRequestProtocol;
use capek_wire::messages::leave_group::MemberIdentity;
use capek_wire::messages::sync_group::SyncGroupRequestAssignment;
use capek_wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest,
};
use capek_wire::{ErrorCode, Message, Str, Writer};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::assignor::{self, Assignments, Subscription, Subscriptions};
use super::cluster::Client;
use super::connection::Connection;
use super::error::{ClientError, check};
use super::groups::{Place, assigned, commit, commit_request, versioned};

/// How the partitions are shared, under the name by which members agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Range,
    Sticky,
}

impl Assignor {
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::Sticky => "sticky",
        }
    }
}

#[derive(Clone, Debug)]
pub struct MemberOptions {
    pub group: String,
    pub topics: Vec<String>,
    /// A static member keeps its part over a restart.
    pub instance_id: Option<String>,
    /// The first one that all members have is used.
    pub assignors: Vec<Assignor>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub heartbeat_interval: Duration,
}

impl MemberOptions {
    /// With Kafka's defaults.
    pub fn new(group: &str, topics: Vec<String>) -> MemberOptions {
        MemberOptions {
            group: group.to_owned(),
            topics,
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::Sticky],
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
        }
    }
}

pub struct Member {
    client: Client,
    options: MemberOptions,
    /// Its own: a join that waits for others must not hold up anything else.
    connection: Option<Connection>,
    member_id: String,
    generation: i32,
    owned: BTreeSet<Place>,
    is_leader: bool,
    heartbeats: Option<Heartbeats>,
}

struct Heartbeats {
    task: JoinHandle<()>,
    must_rejoin: watch::Receiver<bool>,
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Member {
    pub fn new(client: Client, options: MemberOptions) -> Member {
        let (connection, heartbeats) = (None, None);
        let (member_id, generation, owned) = (String::new(), -1, BTreeSet::new());
        Member { client, options, connection, member_id, generation, owned, is_leader: false, heartbeats }
    }

    /// Joins the group, or its next generation, and answers the partitions that are this member's from now on.
    pub async fn join(&mut self) -> Result<BTreeSet<Place>, ClientError> {
        self.heartbeats = None;
        let deadline =
            tokio::time::Instant::now() + self.client.options().retry_timeout + self.options.rebalance_timeout;
        loop {
            let error = match self.join_once().await {
                Ok(owned) => {
                    self.owned = owned.clone();
                    self.start_heartbeats().await?;
                    return Ok(owned);
                }
                Err(error) => error,
            };
            if !self.goes_on_after(&error) || tokio::time::Instant::now() > deadline {
                return Err(error);
            }
            log::debug!("joining group '{}' again: {error}", self.options.group);
            if error.code() != Some(ErrorCode::MemberIdRequired) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Whether joining again helps; puts right what the error says is wrong.
    fn goes_on_after(&mut self, error: &ClientError) -> bool {
        match error.code() {
            Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress) => true,
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                (self.member_id, self.generation) = (String::new(), -1);
                self.owned.clear();
                true
            }
            _ => {
                self.connection = None;
                error.is_retriable()
            }
        }
    }

    async fn join_once(&mut self) -> Result<BTreeSet<Place>, ClientError> {
        let connection = self.connect().await?;
        let joined = self.send_join(&connection).await?;
        self.generation = joined.generation_id;
        self.member_id = joined.member_id.to_string();
        let protocol = joined.protocol_name.clone().unwrap_or_default();
        self.is_leader = joined.leader == joined.member_id;
        let assignments = if self.is_leader && !joined.skip_assignment {
            self.assign(&protocol, &joined).await?
        } else {
            Assignments::new()
        };
        self.send_sync(&connection, protocol, assignments).await
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let address = self.client.coordinator_address(&self.options.group).await?;
        let connection = self.client.open_broker(address.node_id).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    async fn send_join(&mut self, connection: &Connection) -> Result<JoinGroupResponse, ClientError> {
        let metadata = encode(&self.subscription());
        let protocol = |assignor: &Assignor| JoinGroupRequestProtocol {
            name: Str::from(assignor.name()),
            metadata: metadata.clone(),
        };
        let request = JoinGroupRequest {
            group_id: Str::from(&self.options.group),
            session_timeout_ms: milliseconds(self.options.session_timeout),
            rebalance_timeout_ms: milliseconds(self.options.rebalance_timeout),
            member_id: Str::from(&self.member_id),
            group_instance_id: self.instance_id(connection.version::<JoinGroupRequest>()? >= 5),
            protocol_type: Str::from("consumer"),
            protocols: self.options.assignors.iter().map(protocol).collect(),
            ..Default::default()
        };
        let answer = connection.send(&request).await?.patience(self.options.rebalance_timeout);
        let response = answer.get().await?;
        if ErrorCode::from_code(response.error_code) == ErrorCode::MemberIdRequired {
            self.member_id = response.member_id.to_string();
        }
        check(connection.whom(), &self.doing("joining"), response.error_code, None)?;
        Ok(response)
    }

    /// Older brokers know no static members.
    fn instance_id(&self, is_known: bool) -> Option<Str> {
        self.options.instance_id.as_ref().filter(|_| is_known).map(Str::from)
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} group '{}'", self.options.group)
    }

    fn subscription(&self) -> ConsumerProtocolSubscription {
        let by_topic = by_topic(&self.owned);
        let owned = |(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions };
        ConsumerProtocolSubscription {
            topics: self.options.topics.iter().map(Str::from).collect(),
            owned_partitions: by_topic.into_iter().map(owned).collect(),
            generation_id: self.generation,
            ..Default::default()
        }
    }

    /// The leader's work: who gets what.
    async fn assign(&self, protocol: &str, joined: &JoinGroupResponse) -> Result<Assignments, ClientError> {
        let member = |member: &capek_wire::messages::join_group::JoinGroupResponseMember| {
            (member.member_id.to_string(), read_subscription(&member.metadata))
        };
        let members: Subscriptions = joined.members.iter().map(member).collect();
        let topics: BTreeSet<&String> = members.values().flat_map(|wants| &wants.topics).collect();
        let names: Vec<String> = topics.into_iter().cloned().collect();
        let metadata = self.client.refresh(Some(&names)).await?;
        let count = |name: &String| Some((name.clone(), metadata.topics.get(name)?.partitions.len() as i32));
        let counts: BTreeMap<String, i32> = names.iter().filter_map(count).collect();
        match protocol {
            "sticky" => Ok(assignor::sticky(&members, &counts)),
            _ => Ok(assignor::range(&members, &counts)),
        }
    }

    async fn send_sync(
        &self,
        connection: &Connection,
        protocol: Str,
        assignments: Assignments,
    ) -> Result<BTreeSet<Place>, ClientError> {
        let of_member = |(id, places): (String, BTreeSet<Place>)| {
            let topic = |(topic, partitions)| consumer_protocol_assignment::TopicPartition { topic, partitions };
            let assigned_partitions = by_topic(&places).into_iter().map(topic).collect();
            let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
            SyncGroupRequestAssignment { member_id: Str::from(id), assignment: encode(&assignment) }
        };
        let request = SyncGroupRequest {
            group_id: Str::from(&self.options.group),
            generation_id: self.generation,
            member_id: Str::from(&self.member_id),
            group_instance_id: self.instance_id(connection.version::<SyncGroupRequest>()? >= 3),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(protocol),
            assignments: assignments.into_iter().map(of_member).collect(),
        };
        let answer = connection.send(&request).await?.patience(self.options.rebalance_timeout);
        let response = answer.get().await?;
        check(connection.whom(), &self.doing("synchronising"), response.error_code, None)?;
        Ok(assigned(&response.assignment))
    }

    async fn start_heartbeats(&mut self) -> Result<(), ClientError> {
        let connection = self.connect().await?;
        let (sender, must_rejoin) = watch::channel(false);
        let request = HeartbeatRequest {
            group_id: Str::from(&self.options.group),
            generation_id: self.generation,
            member_id: Str::from(&self.member_id),
            group_instance_id: self.instance_id(connection.version::<HeartbeatRequest>()? >= 3),
        };
        let interval = self.options.heartbeat_interval;
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let answered = connection.call(&request).await;
                let checked =
                    answered.and_then(|answer| check(connection.whom(), "Heartbeat", answer.error_code, None));
                if let Err(error) = checked {
                    log::debug!("a heartbeat says: {error}");
                    // Whoever read this has gone: nobody needs to be told.
                    let _ = sender.send(true);
                    return;
                }
            }
        });
        self.heartbeats = Some(Heartbeats { task, must_rejoin });
        Ok(())
    }

    /// Whether it is this member that shares out the partitions, and so must see when there are new ones.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// From the next join on.
    pub fn subscribe(&mut self, topics: Vec<String>) {
        self.options.topics = topics;
    }

    /// The group is being rearranged, or has lost this member.
    pub fn must_rejoin(&self) -> bool {
        self.heartbeats.as_ref().is_none_or(|heartbeats| *heartbeats.must_rejoin.borrow())
    }

    /// Commits offsets, each the next to be read.
    pub async fn commit(&self, offsets: &BTreeMap<Place, i64>) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let Some(connection) = self.connection.as_ref() else { return Ok(()) };
        let mut request = commit_request(&self.options.group, offsets);
        request.member_id = Str::from(&self.member_id);
        request.generation_id_or_member_epoch = self.generation;
        request.group_instance_id = self.options.instance_id.as_ref().map(Str::from);
        commit(connection, &request).await
    }

    /// Leaves at once, so that the others need not wait for the session to end. A static member stays: it comes back.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        self.heartbeats = None;
        let Some(connection) = self.connection.take() else { return Ok(()) };
        if self.options.instance_id.is_some() || self.member_id.is_empty() {
            return Ok(());
        }
        let mut request = LeaveGroupRequest { group_id: Str::from(&self.options.group), ..Default::default() };
        match connection.version::<LeaveGroupRequest>()? {
            3.. => {
                let member_id = Str::from(&self.member_id);
                request.members = vec![MemberIdentity { member_id, ..Default::default() }];
            }
            _ => request.member_id = Str::from(&self.member_id),
        }
        let response = connection.call(&request).await?;
        check(connection.whom(), &self.doing("leaving"), response.error_code, None)
    }
}

fn read_subscription(metadata: &Bytes) -> Subscription {
    let Some(read) = versioned::<ConsumerProtocolSubscription>(metadata) else { return Subscription::default() };
    let owned = read.owned_partitions.into_iter().flat_map(|topic| {
        let name = topic.topic.to_string();
        topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
    });
    Subscription {
        topics: read.topics.iter().map(|topic| topic.to_string()).collect(),
        owned: owned.collect(),
        generation: read.generation_id,
    }
}

fn by_topic(places: &BTreeSet<Place>) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(Str::from(topic)).or_default().push(*partition);
    }
    topics
}

/// Behind its version; newer clients read older versions and older ones newer.
fn encode<M: Message>(message: &M) -> Bytes {
    /// Owned partitions since 1, the generation since 2.
    const VERSION: i16 = 2;
    let mut writer = Writer::new();
    let encoded = message.encode(&mut writer, VERSION);
    encoded.expect("names of topics and lists of partitions always fit");
    let body = writer.into_bytes();
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    bytes.put_i16(VERSION);
    bytes.extend_from_slice(&body);
    bytes.freeze()
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_comes_back_as_it_was_sent() {
        let owned = BTreeSet::from([("a".to_owned(), 0), ("a".to_owned(), 3), ("b".to_owned(), 1)]);
        let topic = |(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions };
        let sent = ConsumerProtocolSubscription {
            topics: vec![Str::from("a"), Str::from("b")],
            owned_partitions: by_topic(&owned).into_iter().map(topic).collect(),
            generation_id: 7,
            ..Default::default()
        };
        let read = read_subscription(&encode(&sent));
        assert_eq!((read.owned, read.generation), (owned, 7));
        assert_eq!(read.topics.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_subscription_wants_nothing() {
        for garbage in [&b""[..], b"\x00", b"\x00\x01\xff\xff\xff\xff", b"\xff\xff\x00"] {
            assert_eq!(read_subscription(&Bytes::from_static(garbage)), Subscription::default(), "{garbage:?}");
            assert!(assigned(&Bytes::from_static(garbage)).is_empty());
        }
    }
}
