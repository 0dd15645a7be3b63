//! IncrementalAlterConfigs (key 44, versions 0–1): set, delete, append to and subtract from single configurations.
//!
//! All changes of a resource are made or none; resources are judged one by one. One that is named twice is refused each time.

use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{AlterConfigs, Command, ConfigOperation, ConfigOperationKind};
use capek_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::config_resource::{self, BROKER_LOGGER, Changed};
use super::{RequestContext, broker_loggers, change};
use crate::broker::BrokerShared;

pub async fn answer(
    context: Rc<RequestContext>,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> IncrementalAlterConfigsResponse {
    let key = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let change_one = async |resource| alter(&context.broker, resource, request.validate_only).await;
    let changed = config_resource::change_each(request.resources, key, change_one).await;
    let responses = changed.into_iter().map(response).collect();
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
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

async fn alter(broker: &BrokerShared, asked: AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let node_id = broker.config.node_id;
    if asked.resource_type == BROKER_LOGGER {
        return broker_loggers::alter(node_id, &asked.resource_name, &asked.configs, validate_only);
    }
    let resource = config_resource::for_change(node_id, asked.resource_type, &asked.resource_name)?;
    let operations = asked.configs.into_iter().map(operation).collect::<Result<Vec<_>, _>>()?;
    let set = operations.iter().filter(|operation| operation.kind == ConfigOperationKind::Set);
    let set = set.filter_map(|operation| Some((operation.name.as_str(), operation.value.as_deref()?)));
    config_resource::check_bounds(broker, &resource, set)?;
    let command = Command::AlterConfigs(AlterConfigs { resource, operations });
    change::make(broker, command, validate_only).await.map(drop)
}

fn operation(config: AlterableConfig) -> Result<ConfigOperation, Refusal> {
    let code = config.config_operation;
    let Some(kind) = ConfigOperationKind::from_code(code) else {
        return Err(config_resource::invalid(format!("Unknown operation {code} for {}", config.name)));
    };
    Ok(ConfigOperation { name: config.name.to_string(), kind, value: config.value.map(String::from) })
}
