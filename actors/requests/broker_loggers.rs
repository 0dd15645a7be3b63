//! The loggers of this broker as a configuration resource: described, set and taken back, never stored.

use capek_state::Refusal;
use capek_state::cluster::ConfigOperationKind;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use capek_wire::messages::describe_configs::DescribeConfigsResourceResult;
use capek_wire::messages::incremental_alter_configs::AlterableConfig;
use log::LevelFilter;

use super::config_resource::invalid;
use crate::log_levels::{self, ROOT};

/// The source of a log level.
const LOGGER_SOURCE: i8 = 6;

pub fn describe() -> Vec<DescribeConfigsResourceResult> {
    let entry = |(name, level): (String, LevelFilter)| DescribeConfigsResourceResult {
        name: Str::from(name),
        value: Some(Str::from_static(level.as_str())),
        config_source: LOGGER_SOURCE,
        documentation: Some(Str::default()),
        ..Default::default()
    };
    log_levels::all().into_iter().map(entry).collect()
}

/// All levels are changed, or none.
pub fn alter(node_id: BrokerId, name: &Str, configs: &[AlterableConfig], validate_only: bool) -> Result<(), Refusal> {
    match name.parse::<BrokerId>() {
        Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
        Ok(id) if id != node_id => {
            return Err(invalid(format!("Unexpected node id. Expected {node_id}, but received {id}")));
        }
        Ok(_) => {}
    }
    let changes = configs.iter().map(change).collect::<Result<Vec<_>, Refusal>>()?;
    if validate_only || log_levels::change(&changes) {
        return Ok(());
    }
    Err(invalid("there are too many loggers with a level of their own".to_string()))
}

fn change(config: &AlterableConfig) -> Result<(String, Option<LevelFilter>), Refusal> {
    let name = &config.name;
    match ConfigOperationKind::from_code(config.config_operation) {
        Some(ConfigOperationKind::Set) => {
            let Some(level) = &config.value else {
                return Err(invalid(format!("Null value not supported for : {name}")));
            };
            check_exists(name)?;
            Ok((name.to_string(), Some(parse(name, level)?)))
        }
        Some(ConfigOperationKind::Delete) if &**name == ROOT => {
            Err(invalid("Removing the log level of the root logger is not allowed".to_string()))
        }
        Some(ConfigOperationKind::Delete) => {
            check_exists(name)?;
            Ok((name.to_string(), None))
        }
        Some(ConfigOperationKind::Append) => {
            Err(invalid("APPEND operation is not allowed for the BROKER_LOGGER resource".to_string()))
        }
        Some(ConfigOperationKind::Subtract) => {
            Err(invalid("SUBTRACT operation is not allowed for the BROKER_LOGGER resource".to_string()))
        }
        None => Err(invalid(format!("Unknown operation {} for {name}", config.config_operation))),
    }
}

fn check_exists(name: &Str) -> Result<(), Refusal> {
    if log_levels::exists(name) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!")))
}

/// log4j's names; ours has nothing above ERROR.
fn parse(name: &Str, level: &Str) -> Result<LevelFilter, Refusal> {
    match &**level {
        "FATAL" | "ERROR" => Ok(LevelFilter::Error),
        "WARN" => Ok(LevelFilter::Warn),
        "INFO" => Ok(LevelFilter::Info),
        "DEBUG" => Ok(LevelFilter::Debug),
        "TRACE" => Ok(LevelFilter::Trace),
        _ => Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!(
                "Cannot set the log level of {name} to {level} as it is not a supported log level. Valid log levels are \
                 DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
            ),
        )),
    }
}
