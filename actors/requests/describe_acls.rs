//! DescribeAcls (key 29, versions 1–3): there is no authorizer yet, and tools take this answer for "switched off".

use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::{Call, Dispatch};

/// The code of what a client does not know itself: Kafka closes the connection of one who asks for it.
pub const UNKNOWN: i8 = 0;

pub fn start(call: Call, reader: Reader) -> Dispatch {
    let request = match call.decode::<DescribeAclsRequest>(reader) {
        Ok(request) => request,
        Err(reason) => return Dispatch::Close(reason),
    };
    let DescribeAclsRequest { resource_type_filter, pattern_type_filter, operation, permission_type, .. } = request;
    if [resource_type_filter, pattern_type_filter, operation, permission_type].contains(&UNKNOWN) {
        return Dispatch::Close("DescribeAcls contains UNKNOWN elements".to_string());
    }
    call.ready(&DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(Str::from_static("No Authorizer is configured on the broker")),
        ..Default::default()
    })
}
