//! From a command to records, without touching anything: the controller's judgement.

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;

use super::command::{Command, Decision, Outcome, ProducerIdBlock};
use super::image::{Broker, Image};
use super::record::Record;
use super::{broker_commands, config_commands, feature_commands, in_sync_commands, replica_commands, topic_commands};
use crate::Refusal;

/// How many producer ids a broker gets at a time.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

/// What must be recorded for `command` to be done, or why it may not be. The image is the one that the records will be
/// applied to: nobody else may propose in between.
pub fn decide(image: &Image, command: &Command) -> Result<Decision, Refusal> {
    match command {
        Command::CreateCluster { cluster_id } => create_cluster(image, cluster_id),
        Command::CreateTopic(command) => topic_commands::create_topic(image, command),
        Command::DeleteTopic(reference) => topic_commands::delete_topic(image, reference),
        Command::CreatePartitions(command) => topic_commands::create_partitions(image, command),
        Command::AlterConfigs(command) => config_commands::alter(image, &command.resource, &command.operations),
        Command::ReplaceConfigs { resource, configs } => config_commands::replace(image, resource, configs),
        Command::AllocateProducerIds { broker } => allocate_producer_ids(image, *broker),
        Command::RegisterBroker(command) => broker_commands::register(image, command),
        Command::UnregisterBroker { broker, epoch } => broker_commands::unregister(image, *broker, *epoch),
        Command::FenceBroker { broker, epoch } => broker_commands::fence(image, *broker, *epoch),
        Command::UnfenceBroker { broker, epoch } => broker_commands::unfence(image, *broker, *epoch),
        Command::ControlledShutdown { broker, epoch } => broker_commands::controlled_shutdown(image, *broker, *epoch),
        Command::AlterPartitions(command) => in_sync_commands::alter_partitions(image, command),
        Command::ReplicasFailed { broker, broker_epoch, partitions } => {
            in_sync_commands::replicas_failed(image, *broker, *broker_epoch, partitions)
        }
        Command::ReplicasBack { broker, broker_epoch, partitions } => {
            in_sync_commands::replicas_back(image, *broker, *broker_epoch, partitions)
        }
        Command::UpdateFeatures(command) => feature_commands::update(image, command),
        Command::ElectLeaders(command) => Ok(replica_commands::elect_leaders(image, command)),
        Command::ReassignPartitions { reassignments, may_change_replication_factor } => {
            Ok(replica_commands::reassign(image, reassignments, *may_change_replication_factor))
        }
        Command::SetFeature { name, level } => Ok(records(vec![Record::Feature { name: name.clone(), level: *level }])),
    }
}

pub(super) fn records(records: Vec<Record>) -> Decision {
    Decision { records, ..Decision::default() }
}

fn create_cluster(image: &Image, cluster_id: &str) -> Result<Decision, Refusal> {
    if let Some(known) = image.cluster_id() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, format!("the cluster exists and has the id {known}")));
    }
    Ok(records(vec![Record::ClusterCreated { cluster_id: cluster_id.to_owned() }]))
}

fn allocate_producer_ids(image: &Image, broker: BrokerId) -> Result<Decision, Refusal> {
    registered(image, broker)?;
    let first = image.next_producer_id();
    let next = first.checked_add(i64::from(PRODUCER_ID_BLOCK));
    let Some(next) = next else {
        return Err(Refusal::new(ErrorCode::UnknownServerError, "Exhausted all producerIds"));
    };
    Ok(Decision {
        records: vec![Record::ProducerIdsAllocated { next }],
        outcome: Outcome::ProducerIds(ProducerIdBlock { first, count: PRODUCER_ID_BLOCK }),
        ..Decision::default()
    })
}

pub(super) fn registered(image: &Image, broker: BrokerId) -> Result<&Broker, Refusal> {
    let found = image.broker(broker);
    found.map(|broker| &**broker).ok_or_else(|| {
        Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {broker} is not currently registered"))
    })
}
