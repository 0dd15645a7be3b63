//! AddRaftVoter (key 80, versions 0–1): a broker that has joined votes from now on.
//!
//! Of the listeners that are named the one called `CAPEK_PEER` counts, else the first: the address by which brokers reach it.

use std::rc::Rc;

use capek_state::Refusal;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{AddRaftVoterRequest, AddRaftVoterResponse};
use capek_wire::peer::hello::PEER_LISTENER;

use super::{RequestContext, change};
use crate::broker::BrokerShared;
use crate::raft::members::MembersChange;

pub async fn answer(context: Rc<RequestContext>, request: AddRaftVoterRequest, _version: i16) -> AddRaftVoterResponse {
    let named = request.listeners.iter().find(|listener| &*listener.name == PEER_LISTENER);
    let address = named.or(request.listeners.first()).map(|listener| format!("{}:{}", listener.host, listener.port));
    let changed = match (check(&context.broker, request.cluster_id.as_deref(), request.voter_id), address) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), None) => Err(Refusal::new(ErrorCode::InvalidRequest, "no listener says where the voter is reached")),
        (Ok(()), Some(address)) => {
            make(&context.broker, MembersChange::Add { broker: request.voter_id, address }).await
        }
    };
    let (error_code, error_message) = change::error_of(&changed);
    AddRaftVoterResponse { error_code, error_message, ..Default::default() }
}

pub(super) fn check(broker: &BrokerShared, cluster_id: Option<&str>, voter: i32) -> Result<(), Refusal> {
    if let Some(other) = cluster_id.filter(|id| *id != broker.cluster_id) {
        let message = format!("this is the cluster {}, not {other}", broker.cluster_id);
        return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
    }
    if voter < 0 {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "a voter's id is 0 or more"));
    }
    Ok(())
}

pub(super) async fn make(broker: &BrokerShared, change: MembersChange) -> Result<(), Refusal> {
    match &broker.quorum {
        Some(quorum) => quorum.change_members(change).await,
        None => {
            let message = "this broker is by itself: a cluster begins with capek.cluster.peers on every broker";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}
