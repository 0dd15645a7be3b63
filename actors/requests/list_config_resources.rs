//! ListConfigResources (key 74, versions 0–1): what has, or can have, a configuration. Version 0 asks for the client metrics
//! subscriptions alone; an empty list of version 1 asks for all kinds.

use std::collections::BTreeSet;

use capek_state::cluster::{ConfigKind, Image};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::RequestContext;
use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};

/// In the order of the answer.
const KINDS: [i8; 5] = [BROKER_LOGGER, BROKER, TOPIC, CLIENT_METRICS, GROUP];

pub fn answer(
    context: &RequestContext,
    request: ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    let asked: BTreeSet<i8> = match version {
        0 => BTreeSet::from([CLIENT_METRICS]),
        _ if request.resource_types.is_empty() => BTreeSet::from(KINDS),
        _ => request.resource_types.into_iter().collect(),
    };
    if !asked.iter().all(|kind| KINDS.contains(kind)) {
        return ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion.code(), ..Default::default() };
    }
    let image = context.broker.image.load();
    let kinds = KINDS.into_iter().filter(|kind| asked.contains(kind));
    let config_resources = kinds.flat_map(|kind| resources(&image, kind)).collect();
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}

fn resources(image: &Image, kind: i8) -> Vec<ConfigResource> {
    let resource = |name: Str| ConfigResource { resource_name: name, resource_type: kind };
    let configured = |kind: ConfigKind| image.configured().filter(move |resource| resource.kind == kind);
    match kind {
        TOPIC => image.topics().map(|topic| resource(Str::from(&*topic.name))).collect(),
        BROKER | BROKER_LOGGER => image.brokers().map(|broker| resource(Str::from(broker.id.to_string()))).collect(),
        CLIENT_METRICS => configured(ConfigKind::ClientMetrics).map(|named| resource(Str::from(&named.name))).collect(),
        _ => configured(ConfigKind::Group).map(|named| resource(Str::from(&named.name))).collect(),
    }
}
