//! Configs of topics, of brokers, and of all brokers together.

use actix_web::{HttpRequest, web};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_configs::DescribeConfigsResourceResult;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::cluster_admin::{ConfigChange, ResourceKind};
use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::rest_v2::caller;
use super::clusters::no_such_broker;
use super::read_body;
use super::resource::{Answer, Cluster, no_content, no_such_partition, ok};
use super::topics::refused;

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Topic(String),
    Broker(i32),
    /// What holds for every broker that does not say otherwise.
    Cluster,
}

impl Owner {
    fn kind(&self) -> ResourceKind {
        if matches!(self, Owner::Topic(_)) { ResourceKind::Topic } else { ResourceKind::Broker }
    }

    /// As Kafka names it.
    fn name(&self) -> String {
        match self {
            Owner::Topic(name) => name.clone(),
            Owner::Broker(id) => id.to_string(),
            Owner::Cluster => String::new(),
        }
    }

    fn check(&self, doors: &Doors) -> Result<(), RestError> {
        let image = doors.client.image();
        match self {
            Owner::Topic(name) => image.topic_by_name(name).map(drop).ok_or_else(no_such_partition),
            Owner::Broker(id) => image.broker(*id).map(drop).ok_or_else(|| no_such_broker(*id)),
            Owner::Cluster => Ok(()),
        }
    }

    fn path(&self) -> Vec<String> {
        match self {
            Owner::Topic(name) => vec!["topics".to_owned(), name.clone(), "configs".to_owned()],
            Owner::Broker(id) => vec!["brokers".to_owned(), id.to_string(), "configs".to_owned()],
            Owner::Cluster => vec!["broker-configs".to_owned()],
        }
    }

    fn list_kind(&self) -> &'static str {
        match self {
            Owner::Topic(_) => "KafkaTopicConfigList",
            Owner::Broker(_) => "KafkaBrokerConfigList",
            Owner::Cluster => "KafkaClusterConfigList",
        }
    }
}

#[derive(Deserialize)]
struct NewValue {
    value: Option<String>,
}

#[derive(Deserialize)]
struct Alterations {
    data: Vec<Alteration>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Deserialize)]
struct Alteration {
    name: String,
    value: Option<String>,
    operation: Option<String>,
}

macro_rules! handlers {
    ($path:ty, $named:ty, $owner:ident, $list:ident, $get:ident, $put:ident, $reset:ident, $alter:ident) => {
        pub async fn $list(
            cluster: Cluster,
            request: HttpRequest,
            path: web::Path<$path>,
            doors: web::Data<Doors>,
        ) -> Answer {
            let owner = $owner(path.into_inner());
            list(&request, &doors, &cluster, &owner).await
        }

        pub async fn $alter(
            _: Cluster,
            request: HttpRequest,
            path: web::Path<$path>,
            payload: web::Payload,
            doors: web::Data<Doors>,
        ) -> Answer {
            let owner = $owner(path.into_inner());
            alter(&request, &doors, &owner, payload).await
        }

        pub async fn $get(
            cluster: Cluster,
            request: HttpRequest,
            path: web::Path<$named>,
            doors: web::Data<Doors>,
        ) -> Answer {
            let (path, name) = Named::split(path.into_inner());
            let owner = $owner(path);
            get(&request, &doors, &cluster, &owner, &name).await
        }

        pub async fn $put(
            _: Cluster,
            request: HttpRequest,
            path: web::Path<$named>,
            payload: web::Payload,
            doors: web::Data<Doors>,
        ) -> Answer {
            let (path, name) = Named::split(path.into_inner());
            let owner = $owner(path);
            let value: NewValue = read_body(&request, payload, &doors).await?;
            change(&request, &doors, &owner, &[ConfigChange::Set(name, value.value)], false).await
        }

        pub async fn $reset(
            _: Cluster,
            request: HttpRequest,
            path: web::Path<$named>,
            doors: web::Data<Doors>,
        ) -> Answer {
            let (path, name) = Named::split(path.into_inner());
            let owner = $owner(path);
            change(&request, &doors, &owner, &[ConfigChange::Delete(name)], false).await
        }
    };
}

fn of_topic((_, topic): (String, String)) -> Owner {
    Owner::Topic(topic)
}

fn of_broker((_, broker): (String, i32)) -> Owner {
    Owner::Broker(broker)
}

fn of_cluster(_: String) -> Owner {
    Owner::Cluster
}

/// A path that ends with the name of a config.
trait Named {
    type Path;
    fn split(self) -> (Self::Path, String);
}

impl Named for (String, String) {
    type Path = String;

    fn split(self) -> (String, String) {
        self
    }
}

impl<T> Named for (String, T, String) {
    type Path = (String, T);

    fn split(self) -> ((String, T), String) {
        ((self.0, self.1), self.2)
    }
}

handlers!(
    (String, String),
    (String, String, String),
    of_topic,
    list_of_topic,
    get_of_topic,
    put_of_topic,
    reset_of_topic,
    alter_of_topic
);

handlers!(
    (String, i32),
    (String, i32, String),
    of_broker,
    list_of_broker,
    get_of_broker,
    put_of_broker,
    reset_of_broker,
    alter_of_broker
);

handlers!(
    String,
    (String, String),
    of_cluster,
    list_of_cluster,
    get_of_cluster,
    put_of_cluster,
    reset_of_cluster,
    alter_of_cluster
);

/// `/topics/-/configs`.
pub async fn list_of_all_topics(cluster: Cluster, request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let owners = doors.client.image().topics().map(|topic| Owner::Topic(topic.name.to_string())).collect();
    list_all(&request, &doors, &cluster, owners, &["topics", "-", "configs"]).await
}

/// `/brokers/-/configs`.
pub async fn list_of_all_brokers(cluster: Cluster, request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let owners = doors.client.image().brokers().map(|broker| Owner::Broker(broker.id)).collect();
    list_all(&request, &doors, &cluster, owners, &["brokers", "-", "configs"]).await
}

async fn list_all(
    request: &HttpRequest,
    doors: &Doors,
    cluster: &Cluster,
    owners: Vec<Owner>,
    path: &[&str],
) -> Answer {
    let kind = owners.first().map_or("KafkaTopicConfigList", Owner::list_kind);
    let mut all = Vec::new();
    for owner in owners {
        // A topic that was deleted meanwhile has no configs.
        all.extend(described(request, doors, cluster, &owner, None).await.unwrap_or_default());
    }
    Ok(ok(&cluster.list(kind, path, all)))
}

async fn list(request: &HttpRequest, doors: &Doors, cluster: &Cluster, owner: &Owner) -> Answer {
    let configs = described(request, doors, cluster, owner, None).await?;
    let path = owner.path();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Ok(ok(&cluster.list(owner.list_kind(), &path, configs)))
}

async fn get(request: &HttpRequest, doors: &Doors, cluster: &Cluster, owner: &Owner, name: &str) -> Answer {
    let found = described(request, doors, cluster, owner, Some(name)).await?;
    let found = found.first().ok_or_else(|| RestError::new(404, format!("Config {name} cannot be found.")))?;
    Ok(ok(found))
}

async fn described(
    request: &HttpRequest,
    doors: &Doors,
    cluster: &Cluster,
    owner: &Owner,
    name: Option<&str>,
) -> Result<Vec<Value>, RestError> {
    owner.check(doors)?;
    let results = doors.describe_configs(&caller(request), owner.kind(), &[owner.name()], name).await;
    let configs = results.map_err(refused)?.into_iter().flat_map(|result| result.configs);
    Ok(configs.map(|config| describe(cluster, owner, &config)).collect())
}

fn describe(cluster: &Cluster, owner: &Owner, config: &DescribeConfigsResourceResult) -> Value {
    let path = owner.path();
    let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
    path.push(&config.name);
    let synonym = |synonym: &capek_wire::messages::describe_configs::DescribeConfigsSynonym| {
        json!({
            "name": synonym.name.as_str(),
            "value": synonym.value.as_deref(),
            "source": source(synonym.source),
        })
    };
    let synonyms: Vec<Value> = config.synonyms.iter().map(synonym).collect();
    let mut fields = json!({
        "name": config.name.as_str(),
        "value": config.value.as_deref(),
        "is_read_only": config.read_only,
        "is_sensitive": config.is_sensitive,
        "source": source(config.config_source),
        "synonyms": synonyms,
        "is_default": config.config_source == DEFAULT_CONFIG,
    });
    let name = owner.name();
    let (kind, owner_name) = match owner {
        Owner::Topic(topic) => {
            fields["topic_name"] = json!(topic);
            ("KafkaTopicConfig", Some(("topic", name.as_str())))
        }
        Owner::Broker(id) => {
            fields["broker_id"] = json!(id);
            ("KafkaBrokerConfig", Some(("broker", name.as_str())))
        }
        Owner::Cluster => {
            fields["config_type"] = json!("BROKER");
            ("KafkaClusterConfig", None)
        }
    };
    let leaf = if owner_name.is_some() { "config" } else { "broker-config" };
    let names: Vec<(&str, &str)> = owner_name.into_iter().chain([(leaf, config.name.as_str())]).collect();
    cluster.resource(kind, &path, &names, fields)
}

const DEFAULT_CONFIG: i8 = 5;

/// Kafka's numbers in Kafka's words.
fn source(code: i8) -> &'static str {
    match code {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        DEFAULT_CONFIG => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        _ => "UNKNOWN",
    }
}

async fn alter(request: &HttpRequest, doors: &Doors, owner: &Owner, payload: web::Payload) -> Answer {
    let wanted: Alterations = read_body(request, payload, doors).await?;
    let change = |one: Alteration| match one.operation.as_deref() {
        None | Some("SET" | "set") => Ok(ConfigChange::Set(one.name, one.value)),
        Some("DELETE" | "delete") => Ok(ConfigChange::Delete(one.name)),
        Some(other) => Err(RestError::new(400, format!("Bad Request: operation {other} is not SET or DELETE"))),
    };
    let changes = wanted.data.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    self::change(request, doors, owner, &changes, wanted.validate_only).await
}

async fn change(
    request: &HttpRequest,
    doors: &Doors,
    owner: &Owner,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Answer {
    owner.check(doors)?;
    let changed = doors.alter_configs(&caller(request), owner.kind(), &owner.name(), changes, validate_only).await;
    changed.map_err(|refusal| match refusal.code {
        // Confluent's, for a name that no resource of this kind has.
        ErrorCode::InvalidConfig => RestError::new(40002, refusal.message),
        _ => refused(refusal),
    })?;
    Ok(no_content())
}
