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

use super::config_resource::{self, Changed};
use super::{RequestContext, change, repeated};
use crate::broker::BrokerShared;

pub async fn answer(context: Rc<RequestContext>, request: AlterConfigsRequest, _version: i16) -> AlterConfigsResponse {
    let key = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let change_one = async |resource| replace(&context.broker, resource, request.validate_only).await;
    let changed = config_resource::change_each(request.resources, key, change_one).await;
    let responses = changed.into_iter().map(response).collect();
    AlterConfigsResponse { responses, ..Default::default() }
}

fn response(changed: Changed) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code: changed.error_code,
        error_message: changed.error_message,
        resource_type: changed.resource_type,
        resource_name: changed.resource_name,
        ..Default::default()
    }
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
