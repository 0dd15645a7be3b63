//! DescribeCluster (key 60, versions 0–2): who is in the cluster, on the listener that the client came in on. From version 1
//! a client says which kind of endpoint it expects; from version 2 it may ask for fenced brokers too.

use std::sync::Arc;

use capek_state::cluster::Broker;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};

use super::{RequestContext, authorized};

const BROKER_ENDPOINT: i8 = 1;
const CONTROLLER_ENDPOINT: i8 = 2;

pub fn answer(context: &RequestContext, request: DescribeClusterRequest, _version: i16) -> DescribeClusterResponse {
    if let Some(refused) = refuse_endpoint(request.endpoint_type) {
        return refused;
    }
    let image = context.broker.image.load();
    let shown = |broker: &&Arc<Broker>| request.include_fenced_brokers || !broker.fenced;
    let mut response = DescribeClusterResponse {
        cluster_id: Str::from(&*context.broker.cluster_id),
        controller_id: context.broker.controller_id(),
        brokers: image.brokers().filter(shown).filter_map(|broker| describe(context, broker)).collect(),
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized::CLUSTER_OPERATIONS;
    }
    response
}

fn refuse_endpoint(endpoint_type: i8) -> Option<DescribeClusterResponse> {
    let (code, message) = match endpoint_type {
        BROKER_ENDPOINT => return None,
        CONTROLLER_ENDPOINT => (
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_string(),
        ),
        other => (ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
    };
    Some(DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(Str::from(message)),
        ..Default::default()
    })
}

fn describe(context: &RequestContext, broker: &Broker) -> Option<DescribeClusterBroker> {
    let endpoint = broker.endpoint(&context.listener.name)?;
    Some(DescribeClusterBroker {
        broker_id: broker.id,
        host: Str::from(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_ref().map(Str::from),
        is_fenced: broker.fenced,
        ..Default::default()
    })
}
