//! SaslHandshake (key 17, versions 0–1): no listener asks for authentication, and Kafka's answer there is that a handshake
//! comes at the wrong time. The connection goes on.

use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::RequestContext;

pub fn answer(_: &RequestContext, _: SaslHandshakeRequest, _version: i16) -> SaslHandshakeResponse {
    SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..Default::default() }
}
