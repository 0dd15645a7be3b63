//! `kafka-acls`, as far as brokers without an authorizer go: they have no ACLs, and say so.

use capek_wire::messages::DescribeAclsRequest;

use super::ToolError;
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect};
use super::error::exception;
use super::options::{OptionSpec, Options, flag, value};
use crate::client::ClientError;

pub const OPTIONS: &[OptionSpec] = &[
    flag("add", "Add ACLs."),
    value("allow-host", "String: host", "The host that is allowed."),
    value("allow-principal", "String: principal", "The principal that is allowed."),
    BOOTSTRAP,
    flag("cluster", "The cluster itself."),
    COMMAND_CONFIG,
    flag("consumer", "What a consumer needs."),
    value("delegation-token", "String: token", "The delegation token."),
    value("deny-host", "String: host", "The host that is denied."),
    value("deny-principal", "String: principal", "The principal that is denied."),
    flag("force", "Do not ask."),
    value("group", "String: group", "The group."),
    flag("idempotent", "With --producer: idempotence."),
    flag("list", "List ACLs."),
    value("operation", "String: operation", "The operation."),
    value("principal", "String: principal", "With --list: only ACLs of this principal."),
    flag("producer", "What a producer needs."),
    flag("remove", "Remove ACLs."),
    value("resource-pattern-type", "String: type", "ANY, MATCH, LITERAL or PREFIXED."),
    value("topic", "String: topic", "The topic."),
    value("transactional-id", "String: id", "The transactional id."),
    value("user-principal", "String: principal", "The user."),
];

const ANY: i8 = 1;

pub async fn run(options: Options) -> Result<(), ToolError> {
    if options.given(&["add", "list", "remove"]).len() != 1 {
        return Err(ToolError::usage("Command must include exactly one action: --list, --add, --remove. "));
    }
    if !options.has("bootstrap-server") {
        return Err(ToolError::usage("One of --bootstrap-server or --bootstrap-controller must be specified"));
    }
    let told =
        |error: &ClientError| ToolError::told(format!("Error while executing ACL command: {}", exception(error)));
    let client = connect(&options).await?;
    let request = DescribeAclsRequest {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        ..Default::default()
    };
    let described = client.describe_acls(&request).await;
    described.map_err(|error| told(&error))?;
    Err(ToolError::failed("this broker has an authorizer: its ACLs are not supported by this tool"))
}
