//! AlterConfigs (key 33, versions 0–2), the older one: the configurations given replace all that a resource had.
//!
//! All changes of a resource are made or none; resources are judged one by one. One that is named twice is refused each time.

use std::collections::BTreeMap;
use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::Command;
use capek_wire::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::{RequestContext, change, config_resource, repeated};
use crate::broker::BrokerShared;

pub async fn answer(context: Rc<RequestContext>, request: AlterConfigsRequest, _version: i16) -> AlterConfigsResponse {
    let key = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let keys: Vec<_> = request.resources.iter().map(key).collect();
    let twice = repeated(keys.iter());
    let mut responses = Vec::with_capacity(request.resources.len());
    for (resource, key) in request.resources.into_iter().zip(keys) {
        let altered = match twice.contains(&key) {
            true => Err(config_resource::repeated_resource()),
            false => replace(&context.broker, resource, request.validate_only).await,
        };
        let (error_code, error_message) = change::error_of(&altered);
        let (resource_type, resource_name) = key;
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
            ..Default::default()
        });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

async fn replace(broker: &BrokerShared, asked: AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let resource = config_resource::for_change(broker.config.node_id, asked.resource_type, &asked.resource_name)?;
    if !repeated(asked.configs.iter().map(|config| &config.name)).is_empty() {
        return Err(config_resource::invalid("Error due to duplicate config keys".to_string()));
    }
    let configs = asked.configs.into_iter();
    let configs: BTreeMap<_, _> =
        configs.map(|config| (config.name.to_string(), config.value.map(String::from))).collect();
    let set = configs.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
    config_resource::check_bounds(broker, &resource, set)?;
    change::make(broker, Command::ReplaceConfigs { resource, configs }, validate_only).await.map(drop)
}
