//! CreateAcls (key 30, versions 1–3): there is no authorizer yet, and each entry is answered so.

use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::create_acls::{AclCreation, AclCreationResult};
use capek_wire::messages::{CreateAclsRequest, CreateAclsResponse};

use super::describe_acls::UNKNOWN;
use super::{Call, Dispatch};

pub fn start(call: Call, reader: Reader) -> Dispatch {
    let request = match call.decode::<CreateAclsRequest>(reader) {
        Ok(request) => request,
        Err(reason) => return Dispatch::Close(reason),
    };
    if request.creations.iter().any(has_unknown) {
        return Dispatch::Close("CreateAcls contains UNKNOWN elements".to_string());
    }
    let result = AclCreationResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(Str::from_static("No Authorizer is configured.")),
        ..Default::default()
    };
    call.ready(&CreateAclsResponse { results: vec![result; request.creations.len()], ..Default::default() })
}

fn has_unknown(creation: &AclCreation) -> bool {
    let AclCreation { resource_type, resource_pattern_type, operation, permission_type, .. } = creation;
    [resource_type, resource_pattern_type, operation, permission_type].contains(&&UNKNOWN)
}
