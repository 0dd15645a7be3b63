//! ConsumerGroupHeartbeat (key 68, versions 0–1): a member of the consumer protocol (KIP-848) joins, says what it holds, hears
//! what it should hold, and leaves. From version 1 on members choose their ids and may subscribe by regular expression.

use std::rc::Rc;

use capek_state::group::ConsumerHeartbeat;
use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::{Call, Dispatch, RequestContext, coordinator};
use crate::features;

pub(super) fn start(call: Call, reader: Reader) -> Dispatch {
    let client_id = call.header.client_id.clone().unwrap_or_default();
    call.serve(reader, |context, request, version| answer(context, request, version, client_id))
}

async fn answer(
    context: Rc<RequestContext>,
    request: ConsumerGroupHeartbeatRequest,
    version: i16,
    client_id: Str,
) -> ConsumerGroupHeartbeatResponse {
    if !features::has_consumer_protocol(&context.broker.image.load()) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
    }
    let group = request.group_id.clone();
    let heartbeat = ConsumerHeartbeat {
        request,
        version,
        client_id,
        client_host: Str::from(format!("/{}", context.peer.ip().to_canonical())),
        new_member_id: Str::from(Uuid(crate::random::bytes()).to_string()),
    };
    let answered = coordinator::ask(&context, &group, heartbeat).await;
    answered.unwrap_or_else(|error| ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() })
}
