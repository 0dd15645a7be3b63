//! SyncGroup (key 14, versions 0–5): the group leader brings the assignment; each member is answered with its part when that
//! is committed.

use std::rc::Rc;

use bytes::Bytes;
use capek_state::group::{SyncAnswer, SyncRequest};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::sync_group::SyncGroupRequestAssignment;
use capek_wire::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{RequestContext, coordinator};

/// Versions from here say which protocol they follow.
const PROTOCOL_VERSION_MIN: i16 = 5;

pub async fn answer(context: Rc<RequestContext>, request: SyncGroupRequest, version: i16) -> SyncGroupResponse {
    if version >= PROTOCOL_VERSION_MIN && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return response(SyncAnswer::refused(ErrorCode::InconsistentGroupProtocol));
    }
    // What becomes part of the group holds nothing of the frame.
    let assignment = |assignment: SyncGroupRequestAssignment| {
        (assignment.member_id.detached(), Bytes::copy_from_slice(&assignment.assignment))
    };
    let group = request.group_id.clone();
    let request = SyncRequest {
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request.assignments.into_iter().map(assignment).collect(),
    };
    let synced = coordinator::ask_patiently(&context, &group, request).await;
    response(synced.unwrap_or_else(SyncAnswer::refused))
}

fn response(synced: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: synced.error.code(),
        protocol_type: synced.protocol_type,
        protocol_name: synced.protocol,
        assignment: synced.assignment,
        ..Default::default()
    }
}
