//! DeleteGroups (key 42, versions 0–2): forgets groups that have no members, with all that they committed. One that is named
//! twice is answered once.

use std::collections::BTreeSet;
use std::rc::Rc;

use capek_wire::error_code::ErrorCode;
use capek_wire::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::{RequestContext, coordinator};
use crate::group_coordinator::DeleteGroup;

pub async fn answer(context: Rc<RequestContext>, request: DeleteGroupsRequest, _version: i16) -> DeleteGroupsResponse {
    // All are asked before the first is waited for.
    let mut asked = Vec::with_capacity(request.groups_names.len());
    let mut seen = BTreeSet::new();
    for group_id in request.groups_names.into_iter().filter(|group_id| seen.insert(group_id.clone())) {
        let shard = coordinator::of_group(&context, &group_id).await;
        let deleted = shard.map(|shard| coordinator::send(&shard, DeleteGroup(group_id.clone())));
        asked.push((group_id, deleted));
    }
    let mut results = Vec::with_capacity(asked.len());
    for (group_id, deleted) in asked {
        let deleted = match deleted {
            Ok(pending) => coordinator::answered(pending).await,
            Err(error) => Err(error),
        };
        let error = deleted.err().unwrap_or(ErrorCode::None);
        results.push(DeletableGroupResult { group_id, error_code: error.code() });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
