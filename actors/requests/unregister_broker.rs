//! UnregisterBroker (key 64, version 0): a broker that was shut down for good leaves the cluster.

use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::Command;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::{RequestContext, change};
use crate::topics;

pub async fn answer(
    context: Rc<RequestContext>,
    request: UnregisterBrokerRequest,
    _version: i16,
) -> UnregisterBrokerResponse {
    let broker = request.broker_id;
    let done = if broker == context.broker.config.node_id {
        // It would lose its partitions and find no way back before its next start.
        let message = format!("Broker ID {broker} is running and cannot be unregistered: it answers this request");
        Err(Refusal::new(ErrorCode::InvalidRequest, message))
    } else {
        let epoch = context.broker.image.load().broker(broker).map_or(-1, |broker| broker.epoch);
        topics::propose(&context.broker, Command::UnregisterBroker { broker, epoch }).await
    };
    let (error_code, error_message) = change::error_of(&done);
    UnregisterBrokerResponse { error_code, error_message, ..Default::default() }
}
