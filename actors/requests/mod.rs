//! Kafka's requests: one file for each API; check, route, gather, answer.
//!
//! [`dispatch`] decodes the header, finds the API in the [`TABLE`] and starts it. Produce never waits here: it becomes a
//! [`PendingResponse`]. What may have to wait (a long poll, a change of metadata) is a future that its connection runs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};
use capek_wire::api::ApiKey;
use capek_wire::codec::{Message, Reader, Request};
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, RequestHeader};
use capek_wire::ids::LeaderEpoch;
use log::debug;
use tokio::sync::Notify;

use crate::broker::BrokerShared;
use crate::budget::BudgetPermit;
use crate::config::ListenerConfig;

mod add_raft_voter;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod authorized;
mod broker_loggers;
mod change;
mod config_resource;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod coordinator;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leader;
mod leader_hints;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod remove_raft_voter;
mod sasl_handshake;
mod sync_group;
mod undecided;
mod unregister_broker;
mod update_features;

pub use api_versions::SERVED;
pub use produce::PendingResponse;

/// The largest request but Produce and Fetch. What it names costs many times its bytes in the answer: a partition is four of
/// them, and the reason why it was refused a hundred.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// What every request of a connection may use.
pub struct RequestContext {
    pub broker: Arc<BrokerShared>,
    /// The listener that the client came in on: answers name the addresses that it advertises.
    pub listener: Arc<ListenerConfig>,
    pub peer: SocketAddr,
    /// Wakes the connection's socket loop.
    pub waker: Arc<AtomicWaker>,
    /// The connection closes: nothing waits any more.
    pub is_draining: Cell<bool>,
    /// Wakes this connection's waiting fetches.
    pub fetch_waiter: Arc<Notify>,
    /// Requests that others are asked for and that are not answered yet, but for fetches.
    pub waiting_count: Cell<usize>,
}

/// An encoded answer, and the budget that its bytes take until they are written.
pub struct Response {
    pub chunks: Vec<Bytes>,
    pub permit: Option<BudgetPermit>,
}

/// An answer that is still being made; an error closes the connection with that reason.
pub type LaterResponse = Pin<Box<dyn Future<Output = Result<Response, String>>>>;

/// How a frame is answered.
pub enum Dispatch {
    Ready(Response),
    Produce(PendingResponse),
    Later(LaterResponse),
    /// As Kafka does: what cannot be understood ends the connection.
    Close(String),
}

/// Starts the request in `frame` (without its size).
pub fn dispatch(context: &Rc<RequestContext>, frame: BytesMut, permit: Option<BudgetPermit>) -> Dispatch {
    if frame.len() < 8 {
        return Dispatch::Close("a frame is too short for a request header".to_string());
    }
    let key_code = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let Some(key) = ApiKey::from_code(key_code).filter(|key| api_versions::is_served(&context.broker, *key)) else {
        return Dispatch::Close(format!("API key {key_code} is not served"));
    };
    let (lowest, highest) = key.versions();
    if key == ApiKey::ApiVersions && !(lowest..=highest).contains(&version) {
        return api_versions::unsupported_version(frame.freeze());
    }
    if !(lowest..=highest).contains(&version) {
        return Dispatch::Close(format!("{} version {version} is not served", key.name()));
    }
    if key == ApiKey::Produce {
        return produce::start(context, frame, permit);
    }
    if key != ApiKey::Fetch && frame.len() > REQUEST_BYTES_MAX {
        let size_bytes = frame.len();
        return Dispatch::Close(format!("{} of {size_bytes} bytes; the limit is {REQUEST_BYTES_MAX}", key.name()));
    }
    let mut reader = Reader::new(frame.freeze());
    let header = match RequestHeader::decode(&mut reader) {
        Ok(header) => header,
        Err(error) => return Dispatch::Close(format!("{} version {version}: bad header: {error}", key.name())),
    };
    let call = Call { context: context.clone(), header, permit };
    match key {
        ApiKey::ApiVersions => call.answer(reader, api_versions::answer),
        ApiKey::Metadata => call.serve(reader, metadata::answer),
        ApiKey::Fetch => fetch::start(call, reader),
        ApiKey::ListOffsets => call.serve(reader, list_offsets::answer),
        ApiKey::OffsetCommit => call.serve(reader, offset_commit::answer),
        ApiKey::OffsetFetch => call.serve(reader, offset_fetch::answer),
        ApiKey::FindCoordinator => call.serve(reader, find_coordinator::answer),
        ApiKey::JoinGroup => join_group::start(call, reader),
        ApiKey::Heartbeat => heartbeat::start(call, reader),
        ApiKey::LeaveGroup => call.serve(reader, leave_group::answer),
        ApiKey::SyncGroup => call.serve(reader, sync_group::answer),
        ApiKey::DescribeGroups => call.serve(reader, describe_groups::answer),
        ApiKey::ListGroups => call.serve(reader, list_groups::answer),
        ApiKey::SaslHandshake => call.answer(reader, sasl_handshake::answer),
        ApiKey::CreateTopics => call.serve(reader, create_topics::answer),
        ApiKey::DeleteTopics => call.serve(reader, delete_topics::answer),
        ApiKey::DeleteRecords => call.serve(reader, delete_records::answer),
        ApiKey::InitProducerId => call.serve(reader, init_producer_id::answer),
        ApiKey::OffsetForLeaderEpoch => call.serve(reader, offset_for_leader_epoch::answer),
        ApiKey::DescribeAcls => describe_acls::start(call, reader),
        ApiKey::CreateAcls => create_acls::start(call, reader),
        ApiKey::DeleteAcls => delete_acls::start(call, reader),
        ApiKey::DescribeConfigs => call.answer(reader, describe_configs::answer),
        ApiKey::AlterConfigs => call.serve(reader, alter_configs::answer),
        ApiKey::DescribeLogDirs => call.serve(reader, describe_log_dirs::answer),
        ApiKey::CreatePartitions => call.serve(reader, create_partitions::answer),
        ApiKey::DeleteGroups => call.serve(reader, delete_groups::answer),
        ApiKey::IncrementalAlterConfigs => call.serve(reader, incremental_alter_configs::answer),
        ApiKey::OffsetDelete => call.serve(reader, offset_delete::answer),
        ApiKey::DescribeCluster => call.answer(reader, describe_cluster::answer),
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat::start(call, reader),
        ApiKey::ConsumerGroupDescribe => call.serve(reader, consumer_group_describe::answer),
        ApiKey::AlterPartitionReassignments => call.serve(reader, alter_partition_reassignments::answer),
        ApiKey::AlterReplicaLogDirs => call.answer(reader, alter_replica_log_dirs::answer),
        ApiKey::DescribeClientQuotas => call.answer(reader, describe_client_quotas::answer),
        ApiKey::DescribeProducers => call.serve(reader, describe_producers::answer),
        ApiKey::DescribeQuorum => call.answer(reader, describe_quorum::answer),
        ApiKey::DescribeUserScramCredentials => call.answer(reader, describe_user_scram_credentials::answer),
        ApiKey::ElectLeaders => call.serve(reader, elect_leaders::answer),
        ApiKey::ListConfigResources => call.answer(reader, list_config_resources::answer),
        ApiKey::ListPartitionReassignments => call.answer(reader, list_partition_reassignments::answer),
        ApiKey::UnregisterBroker => call.serve(reader, unregister_broker::answer),
        ApiKey::AddRaftVoter => call.serve(reader, add_raft_voter::answer),
        ApiKey::RemoveRaftVoter => call.serve(reader, remove_raft_voter::answer),
        ApiKey::UpdateFeatures => call.serve(reader, update_features::answer),
        ApiKey::DescribeTopicPartitions => call.answer(reader, describe_topic_partitions::answer),
        other => Dispatch::Close(format!("API {} is not served", other.name())),
    }
}

/// Is the client's view of the leadership ours? -1 asks nothing (KIP-320).
fn check_leader_epoch(asked: LeaderEpoch, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match asked {
        -1 => Ok(()),
        asked if asked < current => Err(ErrorCode::FencedLeaderEpoch),
        asked if asked > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Those that occur more than once, each once.
fn repeated<'a, T: Ord + Clone + 'a>(items: impl Iterator<Item = &'a T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(*item)).cloned().collect()
}

/// A request that counts as waiting.
struct Waiting(Rc<RequestContext>);

impl Waiting {
    fn begin(context: Rc<RequestContext>) -> Waiting {
        context.waiting_count.update(|count| count + 1);
        Waiting(context)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting_count.update(|count| count - 1);
    }
}

/// One request that has been decoded as far as its header.
pub(crate) struct Call {
    pub context: Rc<RequestContext>,
    pub header: RequestHeader,
    pub permit: Option<BudgetPermit>,
}

impl Call {
    fn decode<R: Request>(&self, mut reader: Reader) -> Result<R, String> {
        R::decode(&mut reader, self.header.api_version)
            .map_err(|error| format!("{} version {}: {error}", R::KEY.name(), self.header.api_version))
    }

    /// An API that needs nobody else.
    fn answer<R: Request>(
        self,
        reader: Reader,
        handler: impl FnOnce(&RequestContext, R, i16) -> R::Response,
    ) -> Dispatch {
        let request = match self.decode::<R>(reader) {
            Ok(request) => request,
            Err(reason) => return Dispatch::Close(reason),
        };
        let response = handler(&self.context, request, self.header.api_version);
        self.ready(&response)
    }

    fn ready<M: Message>(&self, response: &M) -> Dispatch {
        match self.encode(response) {
            Ok(response) => Dispatch::Ready(response),
            Err(reason) => Dispatch::Close(reason),
        }
    }

    /// An API that may have to wait.
    fn serve<R, F>(self, reader: Reader, handler: impl FnOnce(Rc<RequestContext>, R, i16) -> F + 'static) -> Dispatch
    where
        R: Request + 'static,
        F: Future<Output = R::Response> + 'static,
    {
        match self.decode::<R>(reader) {
            Ok(request) => self.wait_for(request, handler),
            Err(reason) => Dispatch::Close(reason),
        }
    }

    fn wait_for<R, F>(self, request: R, handler: impl FnOnce(Rc<RequestContext>, R, i16) -> F + 'static) -> Dispatch
    where
        R: Request + 'static,
        F: Future<Output = R::Response> + 'static,
    {
        let started = Instant::now();
        let waiting = Waiting::begin(self.context.clone());
        Dispatch::Later(Box::pin(async move {
            let _waiting = waiting;
            let response = handler(self.context.clone(), request, self.header.api_version).await;
            debug!("{} answered in {:?}", R::KEY.name(), started.elapsed());
            self.encode(&response)
        }))
    }

    pub(crate) fn encode<M: Message>(&self, response: &M) -> Result<Response, String> {
        let RequestHeader { api_key, api_version, correlation_id, .. } = self.header;
        let chunks = frame::encode_response(api_key, api_version, correlation_id, response)
            .map_err(|error| format!("an answer of API {api_key} version {api_version} cannot be encoded: {error}"))?;
        Ok(Response { chunks, permit: None })
    }
}
