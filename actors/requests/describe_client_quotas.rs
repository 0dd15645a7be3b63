//! DescribeClientQuotas (key 48, versions 0–1): which clients are throttled. None is: there are no quotas to set yet, so that
//! every filter that makes sense finds nothing.

use std::collections::BTreeSet;

use capek_state::Refusal;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

use super::RequestContext;

const ENTITY_TYPES: [&str; 3] = ["user", "client-id", "ip"];
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_SPECIFIED: i8 = 2;

pub fn answer(_: &RequestContext, request: DescribeClientQuotasRequest, _version: i16) -> DescribeClientQuotasResponse {
    match check(&request.components) {
        Ok(()) => DescribeClientQuotasResponse { entries: Some(Vec::new()), ..Default::default() },
        Err(Refusal { code, message }) => DescribeClientQuotasResponse {
            error_code: code.code(),
            error_message: message.as_deref().map(Str::from),
            entries: None,
            ..Default::default()
        },
    }
}

fn check(components: &[ComponentData]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for component in components {
        check_component(component)?;
        let entity_type = &*component.entity_type;
        if !seen.insert(entity_type) {
            return Err(invalid(format!("Entity type {entity_type} cannot appear more than once in the filter.")));
        }
    }
    if seen.contains("ip") && seen.len() > 1 {
        return Err(invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component.",
        ));
    }
    Ok(())
}

fn check_component(component: &ComponentData) -> Result<(), Refusal> {
    let entity_type = &*component.entity_type;
    let is_named = component.match_.is_some();
    match component.match_type {
        _ if entity_type.is_empty() => Err(invalid("Invalid empty entity type.")),
        MATCH_EXACT if !is_named => Err(invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")),
        MATCH_DEFAULT if is_named => {
            Err(invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string."))
        }
        MATCH_SPECIFIED if is_named => {
            Err(invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."))
        }
        MATCH_EXACT | MATCH_DEFAULT | MATCH_SPECIFIED if ENTITY_TYPES.contains(&entity_type) => Ok(()),
        MATCH_EXACT | MATCH_DEFAULT | MATCH_SPECIFIED => {
            let message = format!("Unsupported entity type {entity_type}");
            Err(Refusal::new(ErrorCode::UnsupportedVersion, message))
        }
        other => Err(invalid(format!("Unknown match type {other}"))),
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}
