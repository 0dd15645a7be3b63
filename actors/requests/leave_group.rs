//! LeaveGroup (key 13, versions 0–5): a member goes; from version 3 on any number of them, which is how tools remove static
//! members.

use std::rc::Rc;

use capek_state::group::{LeaveRequest, LeavingMember};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::leave_group::{MemberIdentity, MemberResponse};
use capek_wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{RequestContext, coordinator};

const BATCHED_VERSION_MIN: i16 = 3;

pub async fn answer(context: Rc<RequestContext>, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let is_batched = version >= BATCHED_VERSION_MIN;
    let leaving =
        |member: MemberIdentity| LeavingMember { member_id: member.member_id, instance_id: member.group_instance_id };
    let members: Vec<_> = match is_batched {
        true => request.members.into_iter().map(leaving).collect(),
        false => vec![LeavingMember { member_id: request.member_id, instance_id: None }],
    };
    let leave = LeaveRequest { group: request.group_id.clone(), members: members.clone() };
    match coordinator::ask(&context, &request.group_id, leave).await {
        Err(error) => LeaveGroupResponse { error_code: error.code(), ..Default::default() },
        Ok(errors) if is_batched => {
            let members = members.into_iter().zip(errors).map(member_response).collect();
            LeaveGroupResponse { members, ..Default::default() }
        }
        Ok(errors) => {
            let error = errors.first().copied().unwrap_or(ErrorCode::None);
            LeaveGroupResponse { error_code: error.code(), ..Default::default() }
        }
    }
}

fn member_response((member, error): (LeavingMember, ErrorCode)) -> MemberResponse {
    MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        error_code: error.code(),
        ..Default::default()
    }
}
