//! From a command to records, without touching anything: the controller's judgement.

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;

use super::command::{Command, Decision, Outcome, ProducerIdBlock, RegisterBroker};
use super::image::{Broker, Image};
use super::record::{BrokerRecord, Record};
use super::{config_commands, feature_commands, replica_commands, topic_commands};
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
        Command::RegisterBroker(command) => register_broker(image, command),
        Command::UnregisterBroker { broker } => unregister_broker(image, *broker),
        Command::FenceBroker { broker, epoch } => fence_broker(image, *broker, *epoch, true),
        Command::UnfenceBroker { broker, epoch } => fence_broker(image, *broker, *epoch, false),
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

fn register_broker(image: &Image, command: &RegisterBroker) -> Result<Decision, Refusal> {
    if let Some(known) = image.broker(command.broker) {
        if known.incarnation == command.incarnation && same_registration(known, command) {
            // A retry of what was recorded.
            let outcome = Outcome::BrokerRegistered { epoch: known.epoch };
            return Ok(Decision { outcome, ..Decision::default() });
        }
        if known.incarnation != command.incarnation && !known.fenced && !command.previous_is_gone {
            return Err(Refusal::new(
                ErrorCode::DuplicateBrokerRegistration,
                format!(
                    "Another broker is registered with that broker id. If the broker was recently restarted this should self-resolve once the heartbeat timeout expires. (broker {})",
                    command.broker
                ),
            ));
        }
    }
    // The place of the record in the log: it grows with every registration.
    let epoch = image.records_applied() as i64;
    let record = BrokerRecord {
        broker: command.broker,
        epoch,
        incarnation: command.incarnation,
        listeners: command.listeners.clone(),
        rack: command.rack.clone(),
        dirs: command.dirs.clone(),
        fenced: command.fenced,
    };
    Ok(Decision {
        records: vec![Record::BrokerRegistered(record)],
        outcome: Outcome::BrokerRegistered { epoch },
        ..Decision::default()
    })
}

fn same_registration(known: &Broker, command: &RegisterBroker) -> bool {
    known.listeners == command.listeners && known.rack == command.rack && known.dirs == command.dirs
}

fn unregister_broker(image: &Image, broker: BrokerId) -> Result<Decision, Refusal> {
    let epoch = registered(image, broker)?.epoch;
    Ok(records(vec![Record::BrokerUnregistered { broker, epoch }]))
}

fn fence_broker(image: &Image, broker: BrokerId, epoch: i64, fence: bool) -> Result<Decision, Refusal> {
    let known = registered(image, broker)?;
    if known.epoch != epoch {
        return Err(Refusal::new(
            ErrorCode::StaleBrokerEpoch,
            format!("broker epoch {epoch} is not the current one, {}", known.epoch),
        ));
    }
    if known.fenced == fence {
        return Ok(Decision::default());
    }
    let record = if fence { Record::BrokerFenced { broker, epoch } } else { Record::BrokerUnfenced { broker, epoch } };
    Ok(records(vec![record]))
}

fn registered(image: &Image, broker: BrokerId) -> Result<&Broker, Refusal> {
    let found = image.broker(broker);
    found.map(|broker| &**broker).ok_or_else(|| {
        Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {broker} is not currently registered"))
    })
}
