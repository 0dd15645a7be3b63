//! Raft's calls over the control lanes.

use std::sync::Arc;
use std::time::Duration;

use capek_wire::peer::encode_head;
use openraft::error::{InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{AnyError, BasicNode};

use super::control_lane::{ControlLane, ControlLanes, LaneError};
use super::messages::{ControlRequest, ControlResponse, ENTRIES_BYTES_MAX};
use super::muteness::Muteness;
use super::types::{TypeConfig, broker_of};

/// Between two tries to reach a node that is not reached: the lane knows at once when it is.
const RETRY: Duration = Duration::from_millis(50);

type Failed<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// See the head of this file.
pub struct Network {
    me: u64,
    lanes: Arc<ControlLanes>,
    muteness: Muteness,
}

impl Network {
    pub fn new(me: u64, lanes: Arc<ControlLanes>, muteness: Muteness) -> Self {
        Self { me, lanes, muteness }
    }
}

/// To one node.
pub struct NodeNetwork {
    me: u64,
    target: u64,
    lane: Arc<ControlLane>,
    muteness: Muteness,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = NodeNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> NodeNetwork {
        let lane = self.lanes.lane(broker_of(target), &node.addr);
        NodeNetwork { me: self.me, target, lane, muteness: self.muteness.clone() }
    }
}

impl NodeNetwork {
    /// Looked at before anything is encoded: while a node is away it is tried many times a second, with all that it lacks.
    fn check_reached(&self) -> Result<(), Unreachable> {
        self.lane.check_connected().map_err(|error| Unreachable::new(&error))
    }

    async fn call<E: std::error::Error>(
        &self,
        head: Vec<u8>,
        action: RPCTypes,
        option: &RPCOption,
    ) -> Result<ControlResponse, Failed<E>> {
        if self.muteness.is_mute() && !matches!(action, RPCTypes::Vote) {
            return Err(no_answer("this leader hears no majority and is silent"));
        }
        let answered = self.lane.request_encoded(head, option.hard_ttl()).await;
        answered.map_err(|error| match error {
            LaneError::NotSent(_) | LaneError::Broken(_) => Unreachable::new(&error).into(),
            LaneError::Malformed(_) => NetworkError::new(&error).into(),
            LaneError::Deadline(_) => {
                Timeout { action, id: self.me, target: self.target, timeout: option.hard_ttl() }.into()
            }
        })
    }
}

/// The peer answered, and not what was asked: it is not ready, or its raft is going down.
fn no_answer<E: std::error::Error>(problem: impl ToString) -> Failed<E> {
    Unreachable::new(&AnyError::error(problem)).into()
}

impl RaftNetwork<TypeConfig> for NodeNetwork {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        self.check_reached()?;
        let entries = rpc.entries.len() as u64;
        let head = encode_head(&ControlRequest::AppendEntries(rpc));
        if head.len() > ENTRIES_BYTES_MAX && entries > 1 {
            return Err(PayloadTooLarge::new_entries_hint(entries / 2).into());
        }
        match self.call(head, RPCTypes::AppendEntries, &option).await? {
            ControlResponse::AppendEntries(Ok(response)) => Ok(response),
            ControlResponse::AppendEntries(Err(problem)) => Err(no_answer(problem)),
            _ => Err(no_answer("the peer is not ready")),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        self.check_reached()?;
        let head = encode_head(&ControlRequest::InstallSnapshot(rpc));
        match self.call(head, RPCTypes::InstallSnapshot, &option).await? {
            ControlResponse::InstallSnapshot(Ok(response)) => Ok(response),
            ControlResponse::InstallSnapshot(Err(problem)) => Err(no_answer(problem)),
            _ => Err(no_answer("the peer is not ready")),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, Failed> {
        let head = encode_head(&ControlRequest::Vote(rpc));
        match self.call(head, RPCTypes::Vote, &option).await? {
            ControlResponse::Vote(Ok(response)) => Ok(response),
            ControlResponse::Vote(Err(problem)) => Err(no_answer(problem)),
            _ => Err(no_answer("the peer is not ready")),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
