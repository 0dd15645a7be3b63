//! DescribeAcls (key 29, versions 1–3): there is no authorizer yet, and tools take this answer for "switched off".

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::RequestContext;

pub fn answer(_: &RequestContext, _: DescribeAclsRequest, _version: i16) -> DescribeAclsResponse {
    DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(Str::from_static("No Authorizer is configured on the broker")),
        ..Default::default()
    }
}
