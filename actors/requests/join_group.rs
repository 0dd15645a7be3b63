//! JoinGroup (key 11, versions 0–9): a member comes in, or says something new; answered when the join phase is over.
//!
//! A connection that closes meanwhile leaves its member in the group until the session ends, as with Kafka.

use std::rc::Rc;

use bytes::Bytes;
use capek_state::group::{JoinAnswer, JoinRequest, JoinedMember, Protocol, new_member_id};
use capek_wire::codec::{Reader, Str};
use capek_wire::ids::Uuid;
use capek_wire::messages::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use capek_wire::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Call, Dispatch, RequestContext, coordinator};

/// Before, there was one timeout for both.
const REBALANCE_TIMEOUT_VERSION_MIN: i16 = 1;
/// From here on a newcomer comes a second time, with the id that it is given.
const KNOWN_MEMBER_VERSION_MIN: i16 = 4;
const NULLABLE_PROTOCOL_VERSION_MIN: i16 = 7;
const SKIP_ASSIGNMENT_VERSION_MIN: i16 = 9;

pub(super) fn start(call: Call, reader: Reader) -> Dispatch {
    let client_id = call.header.client_id.clone().unwrap_or_default();
    call.serve(reader, |context, request, version| answer(context, request, version, client_id))
}

async fn answer(
    context: Rc<RequestContext>,
    request: JoinGroupRequest,
    version: i16,
    client_id: Str,
) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let request = join_request(&context, request, version, &client_id);
    let group = request.group.clone();
    let joined = coordinator::ask_patiently(&context, &group, request).await;
    response(joined.unwrap_or_else(|error| JoinAnswer::refused(error, member_id)), version)
}

/// What is kept for as long as the member lives holds nothing of the frame.
fn join_request(context: &RequestContext, request: JoinGroupRequest, version: i16, client_id: &Str) -> JoinRequest {
    let instance_id = request.group_instance_id.map(|instance_id| instance_id.detached());
    let requires_known_member = version >= KNOWN_MEMBER_VERSION_MIN && instance_id.is_none();
    let name = instance_id.as_ref().unwrap_or(client_id);
    let protocol = |protocol: &JoinGroupRequestProtocol| Protocol {
        name: protocol.name.detached(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    JoinRequest {
        group: request.group_id.detached(),
        member_id: request.member_id.detached(),
        new_member_id: Str::from(new_member_id(name, Uuid(crate::random::bytes()))),
        instance_id,
        client_id: client_id.detached(),
        client_host: Str::from(format!("/{}", context.peer.ip().to_canonical())),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version >= REBALANCE_TIMEOUT_VERSION_MIN {
            true => request.rebalance_timeout_ms,
            false => request.session_timeout_ms,
        },
        protocol_type: request.protocol_type.detached(),
        protocols: request.protocols.iter().map(protocol).collect(),
        requires_known_member,
        can_skip_assignment: version >= SKIP_ASSIGNMENT_VERSION_MIN,
    }
}

fn response(joined: JoinAnswer, version: i16) -> JoinGroupResponse {
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    };
    let protocol_name = match version >= NULLABLE_PROTOCOL_VERSION_MIN {
        true => joined.protocol,
        false => Some(joined.protocol.unwrap_or_default()),
    };
    JoinGroupResponse {
        error_code: joined.error.code(),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
