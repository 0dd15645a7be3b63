//! ListGroups (key 16, versions 0–5): all groups whose coordinator this broker is; by state from version 4 on, by type from 5.

use std::rc::Rc;

use capek_state::group::{ListFilter, ListedGroup as Listed};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::{RequestContext, coordinator};

pub async fn answer(context: Rc<RequestContext>, request: ListGroupsRequest, _version: i16) -> ListGroupsResponse {
    match list(&context, request).await {
        Ok(groups) => ListGroupsResponse { groups, ..Default::default() },
        Err(error) => ListGroupsResponse { error_code: error.code(), ..Default::default() },
    }
}

/// A list with gaps would be taken for all of it.
async fn list(context: &RequestContext, request: ListGroupsRequest) -> Result<Vec<ListedGroup>, ErrorCode> {
    let filter = ListFilter { states: request.states_filter, kinds: request.types_filter };
    let mut asked = Vec::new();
    for shard in context.broker.coordinators.all() {
        asked.push(coordinator::send(&shard?, filter.clone()));
    }
    let mut groups = Vec::new();
    for pending in asked {
        groups.extend(coordinator::answered(pending).await?.into_iter().map(listed));
    }
    Ok(groups)
}

fn listed(group: Listed) -> ListedGroup {
    ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: Str::from(group.state),
        group_type: Str::from(group.kind),
    }
}
