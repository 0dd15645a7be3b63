//! Heartbeat (key 12, versions 0–4): a member lives, and learns whether it shall join again.

use std::rc::Rc;

use capek_state::group::HeartbeatRequest as Beat;
use capek_wire::codec::Reader;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{Call, Dispatch, RequestContext, coordinator};

/// Most are answered at once: nothing has changed. Not behind a request of the same connection whose answer may change things.
pub(super) fn start(call: Call, reader: Reader) -> Dispatch {
    let request = match call.decode::<HeartbeatRequest>(reader) {
        Ok(request) => request,
        Err(reason) => return Dispatch::Close(reason),
    };
    let beat = Beat {
        group: request.group_id.clone(),
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        generation: request.generation_id,
    };
    if call.context.waiting_count.get() == 0 && call.context.broker.coordinators.beat(&beat) {
        return call.ready(&HeartbeatResponse::default());
    }
    call.wait_for(request, |context, _, _| answer(context, beat))
}

async fn answer(context: Rc<RequestContext>, beat: Beat) -> HeartbeatResponse {
    let group = beat.group.clone();
    let error = match coordinator::ask(&context, &group, beat).await {
        // Nobody is thrown out while a coordinator is away.
        Ok(()) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error) => error,
    };
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}
