//! DescribeGroups (key 15, versions 0–6): state and members of classic groups. A group that is not there is dead, which is an
//! error from version 6 on.

use std::rc::Rc;

use capek_state::group::DescribedMember;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::{RequestContext, authorized, coordinator};
use crate::group_coordinator::{DescribeGroup, Described};

const MISSING_GROUP_VERSION_MIN: i16 = 6;

pub async fn answer(
    context: Rc<RequestContext>,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    // All are asked before the first is waited for.
    let mut asked = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let shard = coordinator::of_group(&context, &group).await;
        let described = shard.map(|shard| coordinator::send(&shard, DescribeGroup(group.clone())));
        asked.push((group, described));
    }
    let mut groups = Vec::with_capacity(asked.len());
    for (group, described) in asked {
        let described = match described {
            Ok(pending) => coordinator::answered(pending).await,
            Err(error) => Err(error),
        };
        let mut group = response(group, described, version);
        if request.include_authorized_operations && group.error_code == ErrorCode::None.code() {
            group.authorized_operations = authorized::GROUP_OPERATIONS;
        }
        groups.push(group);
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn response(group_id: Str, described: Result<Described, ErrorCode>, version: i16) -> DescribedGroup {
    match described {
        Ok(Described::Classic(described)) => DescribedGroup {
            group_id,
            group_state: Str::from(described.state),
            protocol_type: described.protocol_type,
            protocol_data: described.protocol,
            members: described.members.into_iter().map(member).collect(),
            ..Default::default()
        },
        Ok(_) if version < MISSING_GROUP_VERSION_MIN => {
            DescribedGroup { group_state: Str::from("Dead"), group_id, ..Default::default() }
        }
        Ok(Described::Consumer) => missing(format!("Group {group_id} is not a classic group."), group_id),
        Ok(Described::Missing) => missing(format!("Group {group_id} not found."), group_id),
        Err(error) => DescribedGroup { error_code: error.code(), group_id, ..Default::default() },
    }
}

fn missing(message: String, group_id: Str) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(Str::from(message)),
        group_state: Str::from("Dead"),
        group_id,
        ..Default::default()
    }
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
