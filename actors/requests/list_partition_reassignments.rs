//! ListPartitionReassignments (key 46, version 0): which partitions are on their way to other brokers. None is: what
//! AlterPartitionReassignments accepts is done when it is answered.

use capek_wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::RequestContext;

pub fn answer(
    _: &RequestContext,
    _: ListPartitionReassignmentsRequest,
    _version: i16,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse { error_message: None, ..Default::default() }
}
