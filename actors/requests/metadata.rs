//! Metadata (key 3, versions 0–13): brokers, topics and their leaders, on the listener that the client came in on.
//!
//! A topic that is asked for by name and does not exist is created, when both the client and the broker allow it. As Kafka does,
//! the answer that brings this about still says that there is none, and clients ask again; here it is late enough for them to
//! find the topic then.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use capek_state::cluster::{Image, Partition, Topic};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, TopicId, Uuid, topic_name_problem};
use capek_wire::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use capek_wire::messages::{MetadataRequest, MetadataResponse};

use super::{RequestContext, authorized, undecided};
use crate::topics;

/// Versions from here name topics by id too.
const TOPIC_ID_VERSION_MIN: i16 = 12;

pub async fn answer(context: Rc<RequestContext>, request: MetadataRequest, version: i16) -> MetadataResponse {
    if version < TOPIC_ID_VERSION_MIN && request.topics.iter().flatten().any(names_by_id) {
        return unsupported(request);
    }
    let wants_operations = request.include_topic_authorized_operations;
    // Version 0 has no null: an empty list asks for all.
    let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    undecided::wait(&context, |image, suspects| match &asked {
        None => true,
        Some(asked) => asked.iter().filter_map(|topic| known(image, topic)).any(|topic| is_led_by(topic, suspects)),
    })
    .await;
    let mut topics = Vec::new();
    match asked {
        None => topics.extend(context.broker.image.load().topics().map(|topic| describe(&context, topic))),
        Some(asked) => {
            let may_create = version < 4 || request.allow_auto_topic_creation;
            let mut seen = BTreeSet::new();
            for topic in asked.into_iter().filter(|topic| seen.insert((topic.topic_id, topic.name.clone()))) {
                topics.push(look_up(&context, topic, may_create).await);
            }
        }
    }
    if wants_operations {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = authorized::TOPIC_OPERATIONS;
        }
    }
    let image = context.broker.image.load();
    let mut response = MetadataResponse {
        brokers: brokers(&context, &image),
        cluster_id: Some(Str::from(&*context.broker.cluster_id)),
        controller_id: context.broker.controller_id(),
        topics,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized::CLUSTER_OPERATIONS;
    }
    response
}

fn known<'a>(image: &'a Image, asked: &MetadataRequestTopic) -> Option<&'a Arc<Topic>> {
    match &asked.name {
        Some(name) if asked.topic_id == Uuid::ZERO => image.topic_by_name(name),
        _ => image.topic(asked.topic_id),
    }
}

fn is_led_by(topic: &Topic, brokers: &[BrokerId]) -> bool {
    topic.partitions.iter().any(|partition| brokers.contains(&partition.leader))
}

fn names_by_id(topic: &MetadataRequestTopic) -> bool {
    topic.topic_id != Uuid::ZERO || topic.name.is_none()
}

/// The versions before have the field for the id, but brokers never took it.
fn unsupported(request: MetadataRequest) -> MetadataResponse {
    let refused = |topic: MetadataRequestTopic| {
        failed(Some(topic.name.unwrap_or_default()), topic.topic_id, ErrorCode::InvalidRequest)
    };
    let topics = request.topics.into_iter().flatten().map(refused).collect();
    MetadataResponse { topics, cluster_id: None, ..Default::default() }
}

/// Those in the cluster, and for a moment those that have left it.
fn brokers(context: &RequestContext, image: &Image) -> Vec<MetadataResponseBroker> {
    let broker = |broker: &std::sync::Arc<capek_state::cluster::Broker>| {
        let endpoint = broker.endpoint(&context.listener.name)?;
        Some(MetadataResponseBroker {
            node_id: broker.id,
            host: Str::from(&endpoint.host),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_ref().map(Str::from),
            ..Default::default()
        })
    };
    let now = Instant::now();
    image.brokers().filter(|known| context.broker.departures.is_named(known, now)).filter_map(broker).collect()
}

async fn look_up(context: &RequestContext, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    if asked.topic_id != Uuid::ZERO {
        return match context.broker.image.load().topic(asked.topic_id) {
            Some(topic) => describe(context, topic),
            None => failed(asked.name, asked.topic_id, ErrorCode::UnknownTopicId),
        };
    }
    let Some(name) = asked.name else {
        return failed(None, asked.topic_id, ErrorCode::InvalidRequest);
    };
    if let Some(topic) = context.broker.image.load().topic_by_name(&name) {
        return describe(context, topic);
    }
    if topic_name_problem(&name).is_some() {
        return failed(Some(name), Uuid::ZERO, ErrorCode::InvalidTopicException);
    }
    if !may_create || !context.broker.config.auto_create_topics {
        return failed(Some(name), Uuid::ZERO, ErrorCode::UnknownTopicOrPartition);
    }
    match topics::auto_create(&context.broker, &name).await {
        Ok(_) => failed(Some(name), Uuid::ZERO, ErrorCode::UnknownTopicOrPartition),
        Err(refusal) => failed(Some(name), Uuid::ZERO, refusal.code),
    }
}

fn failed(name: Option<Str>, topic_id: TopicId, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: error.code(), name, topic_id, ..Default::default() }
}

fn describe(context: &RequestContext, topic: &Topic) -> MetadataResponseTopic {
    let image = context.broker.image.load();
    let partitions = topic.partitions.iter().enumerate();
    MetadataResponseTopic {
        name: Some(Str::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: topics::is_internal(&topic.name),
        partitions: partitions
            .map(|(index, partition)| describe_partition(context, &image, index, partition))
            .collect(),
        ..Default::default()
    }
}

pub(super) fn describe_partition(
    context: &RequestContext,
    image: &Image,
    index: usize,
    partition: &Partition,
) -> MetadataResponsePartition {
    let leader = image.broker(partition.leader).filter(|broker| !broker.fenced);
    let error = match leader {
        None => ErrorCode::LeaderNotAvailable,
        Some(broker) if broker.endpoint(&context.listener.name).is_none() => ErrorCode::ListenerNotFound,
        Some(_) => ErrorCode::None,
    };
    let is_gone = |broker: i32| image.broker(broker).is_none_or(|broker| broker.fenced);
    let is_offline = |broker: &&i32| is_gone(**broker) || partition.offline.contains(broker);
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: index as i32,
        leader_id: leader.map_or(-1, |broker| broker.id),
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        offline_replicas: partition.replicas.iter().filter(is_offline).copied().collect(),
        ..Default::default()
    }
}
