//! FindCoordinator (key 10, versions 0–6): which broker coordinates a group. Versions 4 and up ask for many at once.
//!
//! Transactions are not built yet: their answer is one that clients take as final. Coordinators of share groups are for
//! brokers to ask, and there are none.

use std::rc::Rc;

use capek_state::cluster::Image;
use capek_state::group::{OFFSETS_TOPIC, shard_of};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use capek_wire::messages::find_coordinator::Coordinator;
use capek_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{RequestContext, coordinator, undecided};

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
    undecided::wait(context, |image, suspects| {
        leader_of_shard(image, key).is_ok_and(|leader| suspects.contains(&leader))
    })
    .await;
    let here = context.broker.config.node_id;
    let broker = match coordinator::of_group(context, key).await {
        // A coordinator that loads is found all the same: it says so itself.
        Ok(_) | Err(ErrorCode::CoordinatorLoadInProgress) => here,
        Err(ErrorCode::NotCoordinator) => leader_of_shard(&context.broker.image.load(), key)?,
        Err(_) => return Err(ErrorCode::CoordinatorNotAvailable),
    };
    let image = context.broker.image.load();
    let broker = image.broker(broker).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let endpoint = broker.endpoint(&context.listener.name).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Coordinator {
        node_id: broker.id,
        host: Str::from(&endpoint.host),
        port: i32::from(endpoint.port),
        error_message: Some(Str::default()),
        ..Default::default()
    })
}

/// The other broker that leads the partition of `__consumer_offsets` that this group is in.
fn leader_of_shard(image: &Image, group: &str) -> Result<BrokerId, ErrorCode> {
    let topic = image.topic_by_name(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let partition = topic.partition(shard_of(group, count)).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(partition.leader)
}
