//! FindCoordinator (key 10, versions 0–6): which broker coordinates a group. Versions 4 and up ask for many at once.
//!
//! Transactions are not built yet: their answer is one that clients take as final. Coordinators of share groups are for
//! brokers to ask, and there are none.

use std::rc::Rc;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::find_coordinator::Coordinator;
use capek_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{RequestContext, coordinator};

const BATCHED_VERSION_MIN: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn answer(
    context: Rc<RequestContext>,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if version >= BATCHED_VERSION_MIN {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            let found = find(&context, request.key_type, &key).await;
            coordinators.push(Coordinator { key, ..found });
        }
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(&context, request.key_type, &request.key).await;
    let error = ErrorCode::from_code(found.error_code);
    // Kafka's older form has words for success, too.
    let message = if error == ErrorCode::None { "NONE" } else { error.message() };
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: Some(Str::from(message)),
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(context: &RequestContext, key_type: i8, key: &str) -> Coordinator {
    match check_and_place(context, key_type, key).await {
        Ok(found) => found,
        Err(error) => Coordinator {
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(Str::default()),
            ..Default::default()
        },
    }
}

async fn check_and_place(context: &RequestContext, key_type: i8, key: &str) -> Result<Coordinator, ErrorCode> {
    match key_type {
        GROUP => {}
        TRANSACTION => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        _ => return Err(ErrorCode::InvalidRequest),
    }
    match coordinator::of_group(context, key).await {
        // A coordinator that loads is found all the same: it says so itself.
        Ok(_) | Err(ErrorCode::CoordinatorLoadInProgress) => {}
        Err(_) => return Err(ErrorCode::CoordinatorNotAvailable),
    }
    let image = context.broker.image.load();
    let broker = image.broker(context.broker.config.node_id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let endpoint = broker.endpoint(&context.listener.name).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Coordinator {
        node_id: broker.id,
        host: Str::from(&endpoint.host),
        port: i32::from(endpoint.port),
        error_message: Some(Str::default()),
        ..Default::default()
    })
}
