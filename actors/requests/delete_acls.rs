//! DeleteAcls (key 31, versions 1–3): there is no authorizer yet, and each filter is answered so.

use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::delete_acls::{DeleteAclsFilter, DeleteAclsFilterResult};
use capek_wire::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::describe_acls::UNKNOWN;
use super::{Call, Dispatch};

pub fn start(call: Call, reader: Reader) -> Dispatch {
    let request = match call.decode::<DeleteAclsRequest>(reader) {
        Ok(request) => request,
        Err(reason) => return Dispatch::Close(reason),
    };
    if request.filters.iter().any(has_unknown) {
        return Dispatch::Close("DeleteAcls contains UNKNOWN elements".to_string());
    }
    let result = DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(Str::from_static("No Authorizer is configured.")),
        ..Default::default()
    };
    call.ready(&DeleteAclsResponse { filter_results: vec![result; request.filters.len()], ..Default::default() })
}

fn has_unknown(filter: &DeleteAclsFilter) -> bool {
    let DeleteAclsFilter { resource_type_filter, pattern_type_filter, operation, permission_type, .. } = filter;
    [resource_type_filter, pattern_type_filter, operation, permission_type].contains(&&UNKNOWN)
}
