//! RemoveRaftVoter (key 81, version 0): a broker votes no more. Its registration and its replicas are another matter.

use std::rc::Rc;

use capek_wire::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use super::add_raft_voter::{check, make};
use super::{RequestContext, change};
use crate::raft::members::MembersChange;

pub async fn answer(
    context: Rc<RequestContext>,
    request: RemoveRaftVoterRequest,
    _version: i16,
) -> RemoveRaftVoterResponse {
    let changed = match check(&context.broker, request.cluster_id.as_deref(), request.voter_id) {
        Err(refusal) => Err(refusal),
        Ok(()) => make(&context.broker, MembersChange::Remove { broker: request.voter_id }).await,
    };
    let (error_code, error_message) = change::error_of(&changed);
    RemoveRaftVoterResponse { error_code, error_message, ..Default::default() }
}
