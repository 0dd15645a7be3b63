//! Topics as requests and doors make them: the broker's defaults, and creation on first use.

use capek_state::Refusal;
use capek_state::cluster::{CLUSTER_METADATA_TOPIC, Command, CreateTopic, Outcome, TopicDefaults};
use capek_state::group::OFFSETS_TOPIC;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;

use crate::broker::BrokerShared;
use crate::controller::Propose;

/// Where Kafka's coordinators of transactions and of share groups keep their state.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";
const SHARE_GROUPS_TOPIC: &str = "__share_group_state";

/// The topics that brokers keep for themselves.
pub fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC | SHARE_GROUPS_TOPIC)
}

/// `num.partitions` and `default.replication.factor` as they stand now.
pub fn defaults(broker: &BrokerShared) -> TopicDefaults {
    let image = broker.image.load();
    let config = &broker.config;
    let number = |name: &str| image.broker_value(config.node_id, &config.properties, name);
    let partitions = number("num.partitions").and_then(|value| value.parse().ok()).unwrap_or(1);
    let replication_factor = number("default.replication.factor").and_then(|value| value.parse().ok()).unwrap_or(1);
    TopicDefaults { partitions, replication_factor }
}

/// A new id that no topic had before.
pub fn new_topic_id() -> Uuid {
    Uuid(crate::random::bytes())
}

/// `__consumer_offsets` as its own configurations say.
fn offsets_defaults(broker: &BrokerShared) -> (TopicDefaults, Vec<(String, Option<String>)>) {
    let image = broker.image.load();
    let number = |name: &str| broker.config.number(&image, name);
    let defaults = TopicDefaults {
        partitions: i32::try_from(number("offsets.topic.num.partitions")).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(number("offsets.topic.replication.factor")).unwrap_or(i16::MAX),
    };
    let segment_bytes = number("offsets.topic.segment.bytes").to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"), // whatever the broker's says: its coordinators choose
        ("segment.bytes", &segment_bytes),
    ];
    (defaults, configs.map(|(name, value)| (name.to_string(), Some(value.to_string()))).into())
}

/// Creates a topic with the broker's defaults. Two who ask at the same time both succeed.
pub async fn auto_create(broker: &BrokerShared, name: &str) -> Result<Outcome, Refusal> {
    let (defaults, configs) = match name {
        OFFSETS_TOPIC => offsets_defaults(broker),
        // Without their coordinators these would be ordinary topics, and stay so when the coordinators come; the third, the
        // log of Kafka's own metadata, is nobody's to create.
        TRANSACTIONS_TOPIC | SHARE_GROUPS_TOPIC | CLUSTER_METADATA_TOPIC => {
            let message = format!("the topic {name} is not created on first use");
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        _ => (defaults(broker), Vec::new()),
    };
    let create = CreateTopic {
        name: name.to_string(),
        id: new_topic_id(),
        partitions: -1,
        replication_factor: -1,
        configs,
        defaults,
        seed: crate::random::seed(),
        ..Default::default()
    };
    match propose(broker, Command::CreateTopic(create)).await {
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => Ok(Outcome::Done),
        other => other,
    }
}

/// Asks the controller; answered when this broker has followed.
pub async fn propose(broker: &BrokerShared, command: Command) -> Result<Outcome, Refusal> {
    match broker.controller.send(Propose(command)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Refusal::new(ErrorCode::NotController, "the controller is not running")),
    }
}
