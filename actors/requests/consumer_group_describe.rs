//! ConsumerGroupDescribe (key 69, versions 0–1): state, members and assignments of groups of the consumer protocol. Tools try it
//! first and take DescribeGroups for those that it does not find.

use std::rc::Rc;

use capek_wire::error_code::ErrorCode;
use capek_wire::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};

use super::{RequestContext, authorized, coordinator};
use crate::group_coordinator::DescribeConsumerGroup;

pub async fn answer(
    context: Rc<RequestContext>,
    request: ConsumerGroupDescribeRequest,
    _version: i16,
) -> ConsumerGroupDescribeResponse {
    // All are asked before the first is waited for.
    let mut asked = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let shard = match group.is_empty() {
            true => Err(ErrorCode::InvalidGroupId),
            false => coordinator::of_group(&context, &group).await,
        };
        let described = shard.map(|shard| coordinator::send(&shard, DescribeConsumerGroup(group.clone())));
        asked.push((group, described));
    }
    let mut groups = Vec::with_capacity(asked.len());
    for (group_id, described) in asked {
        let described = match described {
            Ok(pending) => coordinator::answered(pending).await,
            Err(error) => Err(error),
        };
        let failed = |error: ErrorCode| DescribedGroup { group_id, error_code: error.code(), ..Default::default() };
        let mut group = described.unwrap_or_else(failed);
        if request.include_authorized_operations && group.error_code == ErrorCode::None.code() {
            group.authorized_operations = authorized::GROUP_OPERATIONS;
        }
        groups.push(group);
    }
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}
