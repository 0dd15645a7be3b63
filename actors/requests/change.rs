//! What a request wants changed in the cluster: made, or only judged (`validate_only`).

use capek_state::Refusal;
use capek_state::cluster::{Command, Outcome};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use crate::broker::BrokerShared;
use crate::controller::Validate;
use crate::topics;

/// Asks the controller; with `validate_only` the outcome is what it would be, and nothing changes.
pub async fn make(broker: &BrokerShared, command: Command, validate_only: bool) -> Result<Outcome, Refusal> {
    if !validate_only {
        return topics::propose(broker, command).await;
    }
    match broker.controller.send(Validate(command)).await {
        Ok(judged) => judged.map(|decision| decision.outcome),
        Err(_) => Err(Refusal::new(ErrorCode::NotController, "the controller is not running")),
    }
}

/// The error fields of a response.
pub fn error_of<T>(result: &Result<T, Refusal>) -> (i16, Option<Str>) {
    match result {
        Ok(_) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.message.as_deref().map(Str::from)),
    }
}
