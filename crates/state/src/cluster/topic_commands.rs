//! Creating and deleting topics, adding partitions: the rules and the words are Kafka's.

use std::borrow::Cow;
use std::collections::BTreeSet;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, TopicId, Uuid, topic_name_problem};

use super::command::{Assignment, CreatePartitions, CreateTopic, Decision, Outcome, TopicReference};
use super::config_commands;
use super::decide::records;
use super::image::{Image, Topic};
use super::placement::{Candidate, Wanted, place};
use super::record::{ConfigResource, PartitionRecord, Record};
use crate::Refusal;

/// The most partitions that one command may create.
const PARTITIONS_MAX: i32 = 10_000;

/// The longest name of a topic: its directory is called so, with `-`, a number and a suffix behind.
const NAME_BYTES_MAX: usize = 249;

/// Kafka keeps its own metadata under this name; nobody may create it.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn create_topic(image: &Image, command: &CreateTopic) -> Result<Decision, Refusal> {
    check_name(image, &command.name)?;
    let overrides = config_commands::topic_overrides(&command.configs)?;
    let mut warnings = Vec::new();
    let replicas = if command.assignments.is_empty() {
        automatic_replicas(image, command, &mut warnings)?
    } else {
        manual_replicas(image, command)?
    };
    let mut records = vec![Record::Topic { topic_id: command.id, name: command.name.clone() }];
    let resource = ConfigResource::topic(command.name.as_str());
    records.extend(overrides.into_iter().map(|(name, value)| Record::ConfigChanged {
        resource: resource.clone(),
        name,
        value: Some(value),
    }));
    let outcome = Outcome::TopicCreated {
        topic_id: command.id,
        partitions: replicas.len() as i32,
        replication_factor: replicas.first().map_or(0, Vec::len) as i16,
    };
    let first = 0;
    records.extend(partition_records(image, command.id, first, replicas)?);
    Ok(Decision { records, outcome, warnings })
}

fn check_name(image: &Image, name: &str) -> Result<(), Refusal> {
    check_topic_name(name)?;
    if name == CLUSTER_METADATA_TOPIC {
        let message = format!("Creation of internal topic {name} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if image.topic_by_name(name).is_some() {
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if let Some(other) = colliding_topic(image, name) {
        return Err(invalid_topic(format!("Topic '{name}' collides with existing topic: {other}")));
    }
    Ok(())
}

/// May a topic be called so? The words are Kafka's.
pub(super) fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let Some(problem) = topic_name_problem(name) else {
        return Ok(());
    };
    let problem = match name {
        "" => problem.to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > NAME_BYTES_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}")
        }
        _ => format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    };
    Err(invalid_topic(format!("Topic name is invalid: {problem}")))
}

fn invalid_topic(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidTopicException, message)
}

/// Metric names write `.` as `_`, so Kafka lets only one of `a.b` and `a_b` exist.
fn colliding_topic<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    let first = name.find(['.', '_'])?;
    let folded = name.replace('.', "_");
    // Only names that begin alike can collide; at the first such letter they part.
    let prefix = &name[..first];
    let alike = image.topic_names_from(prefix).take_while(|other| other.starts_with(prefix));
    let mut colliding = alike.filter(|other| *other != name && other.replace('.', "_") == folded);
    colliding.next()
}

fn automatic_replicas(
    image: &Image,
    command: &CreateTopic,
    warnings: &mut Vec<String>,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if command.replication_factor < -1 || command.replication_factor == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    if command.partitions < -1 || command.partitions == 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ));
    }
    let candidates = candidates(image);
    let partitions = if command.partitions == -1 { command.defaults.partitions } else { command.partitions };
    check_partition_count(partitions)?;
    let replication_factor = if command.replication_factor == -1 {
        capped_replication_factor(command, candidates.len(), warnings)
    } else {
        command.replication_factor
    };
    replicate(&candidates, partitions as usize, replication_factor, command.seed)
}

/// Configuration is written before anyone knows how many brokers there are: what it cannot have it gets less of.
fn capped_replication_factor(command: &CreateTopic, broker_count: usize, warnings: &mut Vec<String>) -> i16 {
    let configured = command.defaults.replication_factor.max(1);
    let possible = i16::try_from(broker_count).unwrap_or(i16::MAX).max(1);
    if configured > possible {
        warnings.push(format!(
            "topic {} gets {possible} replicas instead of the configured {configured}: that is how many brokers there are",
            command.name
        ));
    }
    configured.min(possible)
}

fn replicate(
    candidates: &[Candidate],
    partitions: usize,
    replication_factor: i16,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let wanted = Wanted { partitions, replication_factor: replication_factor as usize };
    place(candidates, wanted, seed).map_err(|refusal| {
        let reason = refusal.message.unwrap_or_default();
        let message = format!("Unable to replicate the partition {replication_factor} time(s): {reason}");
        Refusal::new(refusal.code, message)
    })
}

fn check_partition_count(partitions: i32) -> Result<(), Refusal> {
    if partitions > PARTITIONS_MAX {
        return Err(Refusal::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request."));
    }
    Ok(())
}

fn candidates(image: &Image) -> Vec<Candidate> {
    let of = |broker: &std::sync::Arc<super::image::Broker>| Candidate {
        broker: broker.id,
        rack: broker.rack.clone(),
        fenced: !broker.is_active(),
    };
    image.brokers().map(of).collect()
}

fn manual_replicas(image: &Image, command: &CreateTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if command.replication_factor != -1 {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ));
    }
    if command.partitions != -1 {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ));
    }
    let mut assignments: Vec<&Assignment> = command.assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition);
    check_partition_count(i32::try_from(assignments.len()).unwrap_or(i32::MAX))?;
    let mut replication_factor = None;
    let mut replicas = Vec::with_capacity(assignments.len());
    for (index, assignment) in assignments.into_iter().enumerate() {
        if index > 0 && assignment.partition as usize == index - 1 {
            return Err(invalid_assignment(format!(
                "Found multiple manual partition assignments for partition {}",
                assignment.partition
            )));
        }
        check_assignment(image, &assignment.brokers, &mut replication_factor)?;
        if assignment.partition != index as i32 {
            return Err(invalid_assignment("partitions should be a consecutive 0-based integer sequence"));
        }
        replicas.push(assignment.brokers.clone());
    }
    Ok(replicas)
}

pub(super) fn check_assignment(
    image: &Image,
    brokers: &[BrokerId],
    replication_factor: &mut Option<usize>,
) -> Result<(), Refusal> {
    if brokers.is_empty() {
        return Err(invalid_assignment("The manual partition assignment includes an empty replica list."));
    }
    let mut seen = BTreeSet::new();
    for &broker in brokers {
        if image.broker(broker).is_none() {
            return Err(invalid_assignment(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            )));
        }
        if !seen.insert(broker) {
            return Err(invalid_assignment(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            )));
        }
    }
    let expected = *replication_factor.get_or_insert(brokers.len());
    if expected != brokers.len() {
        return Err(invalid_assignment(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with previous partitions, which have {expected} replica(s).",
            brokers.len()
        )));
    }
    Ok(())
}

fn invalid_assignment(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidReplicaAssignment, message)
}

/// Who is active is in sync and the first of them leads.
fn partition_records(
    image: &Image,
    topic_id: TopicId,
    first: usize,
    replicas: Vec<Vec<BrokerId>>,
) -> Result<Vec<Record>, Refusal> {
    let is_active = |broker: &&BrokerId| image.broker(**broker).is_some_and(|broker| broker.is_active());
    let mut records = Vec::with_capacity(replicas.len());
    for (index, replicas) in replicas.into_iter().enumerate() {
        let partition = (first + index) as i32;
        let isr: Vec<BrokerId> = replicas.iter().filter(is_active).copied().collect();
        let Some(&leader) = isr.first() else {
            return Err(invalid_assignment(format!(
                "All brokers specified in the manual partition assignment for partition {partition} are fenced or in controlled shutdown."
            )));
        };
        records.push(Record::Partition(PartitionRecord {
            topic_id,
            partition,
            dirs: vec![Uuid::ZERO; replicas.len()],
            replicas,
            isr,
            leader,
            leader_epoch: 0,
            partition_epoch: 0,
        }));
    }
    Ok(records)
}

pub(super) fn delete_topic(image: &Image, reference: &TopicReference) -> Result<Decision, Refusal> {
    let topic = match reference {
        TopicReference::Name(name) => {
            image.topic_by_name(name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?
        }
        TopicReference::Id(id) => image.topic(*id).ok_or(Refusal::bare(ErrorCode::UnknownTopicId))?,
    };
    let outcome = Outcome::TopicDeleted { topic_id: topic.id, name: topic.name.to_string() };
    Ok(Decision { outcome, ..records(vec![Record::TopicDeleted { topic_id: topic.id }]) })
}

pub(super) fn create_partitions(image: &Image, command: &CreatePartitions) -> Result<Decision, Refusal> {
    let Some(topic) = image.topic_by_name(&command.topic) else {
        return Err(Refusal::bare(ErrorCode::UnknownTopicOrPartition));
    };
    let current = topic.partitions.len();
    let added = added_partitions(topic, command)?;
    let replicas = match &command.assignments {
        None => replicate(&candidates(image), added, topic.replication_factor() as i16, command.seed)?,
        Some(assignments) => added_assignments(image, topic, added, assignments)?,
    };
    let mut made = vec![Record::TopicGrew { topic_id: topic.id, partitions: current as i32, at_ms: command.now_ms }];
    made.extend(partition_records(image, topic.id, current, replicas)?);
    Ok(records(made))
}

fn added_partitions(topic: &Topic, command: &CreatePartitions) -> Result<usize, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidPartitions, message);
    let current = topic.partitions.len() as i32;
    if command.count == current {
        return Err(invalid(format!("Topic already has {current} partition(s).")));
    }
    if command.count < current {
        return Err(invalid(format!(
            "The topic {} currently has {current} partition(s); {} would not be an increase.",
            command.topic, command.count
        )));
    }
    let added = command.count - current;
    check_partition_count(added)?;
    Ok(added as usize)
}

fn added_assignments(
    image: &Image,
    topic: &Topic,
    added: usize,
    assignments: &[Vec<BrokerId>],
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if assignments.len() != added {
        return Err(invalid_assignment(format!(
            "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        )));
    }
    let mut replication_factor = Some(topic.replication_factor() as usize);
    for brokers in assignments {
        check_assignment(image, brokers, &mut replication_factor)?;
    }
    Ok(assignments.to_vec())
}
