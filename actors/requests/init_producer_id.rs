//! InitProducerId (key 22, versions 0–5): an identity for an idempotent producer.
//!
//! Without a transactional id it is always a new one, whatever the client had before (versions 3 and up tell). Transactions
//! are not built yet: their answer is one that clients take as final.

use std::rc::Rc;

use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use log::warn;

use super::RequestContext;

pub async fn answer(
    context: Rc<RequestContext>,
    request: InitProducerIdRequest,
    _version: i16,
) -> InitProducerIdResponse {
    if let Err(code) = check(&request) {
        return failed(code);
    }
    match context.broker.producer_ids.next(&context.broker).await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(refusal) => {
            warn!("no producer id: {refusal}");
            failed(refusal.code)
        }
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    match request.transactional_id.as_deref() {
        Some("") => return Err(ErrorCode::InvalidRequest),
        Some(_) => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    // Both or none: an identity has two parts.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

fn failed(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: code.code(), producer_id: -1, producer_epoch: -1, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use capek_wire::codec::Str;

    use super::*;

    #[test]
    fn an_identity_is_asked_for_whole_and_without_transactions() {
        let request = |transactional_id: Option<&str>, producer_id, producer_epoch| InitProducerIdRequest {
            transactional_id: transactional_id.map(Str::from),
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        assert_eq!(check(&request(None, -1, -1)), Ok(()));
        assert_eq!(check(&request(None, 3, 1)), Ok(()));
        assert_eq!(check(&request(None, 3, -1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(None, -1, 1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(Some(""), -1, -1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(Some("t"), -1, -1)), Err(ErrorCode::TransactionalIdAuthorizationFailed));
    }
}
