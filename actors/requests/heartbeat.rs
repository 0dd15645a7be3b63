//! Heartbeat (key 12, versions 0–4): a member lives, and learns whether it shall join again.

use std::rc::Rc;

use capek_state::group::HeartbeatRequest as Beat;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{RequestContext, coordinator};

pub async fn answer(context: Rc<RequestContext>, request: HeartbeatRequest, _version: i16) -> HeartbeatResponse {
    let group = request.group_id.clone();
    let beat = Beat {
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    let error = match coordinator::ask(&context, &group, beat).await {
        // Nobody is thrown out while a coordinator is away.
        Ok(()) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error) => error,
    };
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}
