//! Configuration from environment variables by Kafka's own rule: `KAFKA_LOG_RETENTION_HOURS` is `log.retention.hours`
//! (`_` is a dot, `__` an underscore, `___` a dash), `KAFKA_CFG_` is an alias of `KAFKA_`, and `CAPEK_X_Y` is
//! `capek.x.y`. What Docker images, Java and Kubernetes put beside them is passed over.

/// One setting found in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentValue {
    pub name: String,
    pub value: String,
    /// The variable it came from, for messages.
    pub variable: String,
}

/// All that the environment says about the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pub values: Vec<EnvironmentValue>,
    /// `KAFKA_CREATE_TOPICS`, for [`super::topics`].
    pub create_topics: Option<String>,
    pub create_topics_separator: Option<String>,
    /// `CAPEK_DEFAULT_ADVERTISED_LISTENERS`: what an image advertises where nothing says anything of listeners.
    pub default_advertised_listeners: Option<String>,
    /// `KAFKA_LOG4J_ROOT_LOGLEVEL`, in log4j's words.
    pub log_level: Option<String>,
    /// Variables that are accepted and have no effect, each worth one line in the log.
    pub ignored: Vec<String>,
    /// Files named by `*_FILE` that could not be read.
    pub problems: Vec<String>,
}

/// Weaker than any source: a whole set of listeners is one decision, which a default must not add to.
pub const DEFAULT_ADVERTISED_LISTENERS: &str = "CAPEK_DEFAULT_ADVERTISED_LISTENERS";

/// Variables that belong to images, to Java or to this CLI, never to the broker's configuration.
const NOT_CONFIGURATION: &[&str] = &[
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
    "CAPEK_BOOTSTRAP",
    "CAPEK_LOG",
    "CAPEK_LOG_STYLE",
];

const NOT_CONFIGURATION_PREFIXES: &[&str] =
    &["KAFKA_JMX_", "KAFKA_LOG4J_", "KAFKA_JVM_", "KAFKA_CONFLUENT_", "KAFKA_ENABLE_KRAFT"];

/// Reads the variables. `is_known` says whether a broker config of that name exists (it decides whether `X_FILE` is a
/// config of its own or the file that holds `X`); `read_file` reads such a file.
pub fn read(
    variables: impl IntoIterator<Item = (String, String)>,
    is_known: &dyn Fn(&str) -> bool,
    read_file: &dyn Fn(&str) -> Result<String, String>,
) -> Environment {
    let mut environment = Environment::default();
    let mut variables: Vec<(String, String)> = variables.into_iter().collect();
    // `KAFKA_CFG_X` sorts before `KAFKA_X` for most X: an explicit order keeps "the plain name wins" independent of it.
    variables.sort_by_key(|(variable, _)| (!variable.starts_with("KAFKA_CFG_"), variable.clone()));
    for (variable, value) in variables {
        read_one(&mut environment, variable, value, is_known, read_file);
    }
    environment
}

fn read_one(
    environment: &mut Environment,
    variable: String,
    value: String,
    is_known: &dyn Fn(&str) -> bool,
    read_file: &dyn Fn(&str) -> Result<String, String>,
) {
    match variable.as_str() {
        "CLUSTER_ID" | "KAFKA_CLUSTER_ID" | "KAFKA_KRAFT_CLUSTER_ID" => {
            let name = "cluster.id".to_owned();
            environment.values.push(EnvironmentValue { name, value, variable });
            return;
        }
        "KAFKA_CREATE_TOPICS" => return environment.create_topics = Some(value),
        "KAFKA_CREATE_TOPICS_SEPARATOR" => return environment.create_topics_separator = Some(value),
        DEFAULT_ADVERTISED_LISTENERS => return environment.default_advertised_listeners = Some(value),
        "KAFKA_LOG4J_ROOT_LOGLEVEL" => return environment.log_level = Some(value),
        _ => {}
    }
    let Some(name) = config_name(&variable) else { return };
    if injected_by_kubernetes(&variable, &value) {
        return;
    }
    if name.starts_with("zookeeper.") {
        environment.ignored.push(format!("{variable} has no effect: there is no ZooKeeper here"));
        return;
    }
    if let Some(base) = name.strip_suffix(".file")
        && !is_known(&name)
        && is_known(base)
    {
        match read_file(&value) {
            Ok(content) => {
                let value = content.trim_end_matches(['\r', '\n']).to_owned();
                environment.values.push(EnvironmentValue { name: base.to_owned(), value, variable });
            }
            Err(error) => environment.problems.push(format!("{variable}: cannot read {value}: {error}")),
        }
        return;
    }
    environment.values.push(EnvironmentValue { name, value, variable });
}

/// The config that a variable names, if it is a variable of configuration.
pub fn config_name(variable: &str) -> Option<String> {
    if NOT_CONFIGURATION.contains(&variable)
        || NOT_CONFIGURATION_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
    {
        return None;
    }
    if let Some(rest) = variable.strip_prefix("CAPEK_") {
        return (!rest.is_empty()).then(|| format!("capek.{}", dotted(rest)));
    }
    let rest = variable.strip_prefix("KAFKA_CFG_").or_else(|| variable.strip_prefix("KAFKA_"))?;
    (!rest.is_empty()).then(|| dotted(rest))
}

/// Kafka's rule for a run of underscores: three are a dash, two an underscore, one a dot; longer runs from the left.
fn dotted(rest: &str) -> String {
    let mut name = String::with_capacity(rest.len());
    let mut run = 0;
    for character in rest.chars().chain(['\0']) {
        if character == '_' {
            run += 1;
            continue;
        }
        while run > 0 {
            let (taken, replacement) = match run {
                3.. => (3, '-'),
                2 => (2, '_'),
                _ => (1, '.'),
            };
            name.push(replacement);
            run -= taken;
        }
        if character != '\0' {
            name.push(character.to_ascii_lowercase());
        }
    }
    name
}

/// A Service named `kafka` (or `capek`) makes Kubernetes set `KAFKA_PORT=tcp://…`, `KAFKA_SERVICE_HOST` and the like.
fn injected_by_kubernetes(variable: &str, value: &str) -> bool {
    value.starts_with("tcp://")
        || value.starts_with("udp://")
        || variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || (variable.contains("_PORT_") && (variable.contains("_TCP") || variable.contains("_UDP")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Environment {
        let known = |name: &str| matches!(name, "ssl.keystore.password" | "sasl.token.file" | "num.partitions");
        let files = |path: &str| match path {
            "/run/secret" => Ok("s3cret\n".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        read(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())), &known, &files)
    }

    #[test]
    fn underscores_become_dots_underscores_and_dashes() {
        for (variable, name) in [
            ("KAFKA_LOG_RETENTION_HOURS", "log.retention.hours"),
            ("KAFKA_CFG_NUM_PARTITIONS", "num.partitions"),
            ("KAFKA_FOO__BAR___BAZ", "foo_bar-baz"),
            ("KAFKA_A____B", "a-.b"),
            ("CAPEK_HTTP_LISTENERS", "capek.http.listeners"),
        ] {
            assert_eq!(config_name(variable).as_deref(), Some(name), "{variable}");
        }
    }

    #[test]
    fn variables_of_others_are_passed_over() {
        for variable in [
            "PATH",
            "KAFKA_HEAP_OPTS",
            "KAFKA_JMX_PORT",
            "KAFKA_LOG4J_LOGGERS",
            "KAFKA_",
            "CAPEK_BOOTSTRAP",
            "KAFKA_OPTS",
        ] {
            assert_eq!(config_name(variable), None, "{variable}");
        }
    }

    #[test]
    fn what_kubernetes_injects_is_passed_over() {
        let environment = read_pairs(&[
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
            ("KAFKA_SERVICE_PORT_CLIENT", "9092"),
            ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("CAPEK_SERVICE_HOST", "10.0.0.1"),
        ]);
        assert_eq!(environment, Environment::default());
    }

    #[test]
    fn a_file_variable_brings_the_content_of_the_file() {
        let environment = read_pairs(&[
            ("KAFKA_SSL_KEYSTORE_PASSWORD_FILE", "/run/secret"),
            ("KAFKA_SASL_TOKEN_FILE", "/run/token"),
            ("KAFKA_NUM_PARTITIONS_FILE", "/nowhere"),
        ]);
        let values: Vec<_> = environment.values.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        assert_eq!(values, [("sasl.token.file", "/run/token"), ("ssl.keystore.password", "s3cret")]);
        assert_eq!(environment.problems, ["KAFKA_NUM_PARTITIONS_FILE: cannot read /nowhere: no such file"]);
    }

    #[test]
    fn the_plain_name_wins_over_its_alias() {
        let environment = read_pairs(&[("KAFKA_NUM_PARTITIONS", "2"), ("KAFKA_CFG_NUM_PARTITIONS", "1")]);
        assert_eq!(environment.values.last().unwrap().value, "2");
    }

    #[test]
    fn special_variables_are_kept_apart() {
        let environment = read_pairs(&[
            ("KAFKA_ZOOKEEPER_CONNECT", "zookeeper:2181"),
            ("KAFKA_CREATE_TOPICS", "a:1:1"),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "WARN"),
            ("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw"),
        ]);
        assert_eq!(environment.ignored, ["KAFKA_ZOOKEEPER_CONNECT has no effect: there is no ZooKeeper here"]);
        assert_eq!(environment.create_topics.as_deref(), Some("a:1:1"));
        assert_eq!(environment.log_level.as_deref(), Some("WARN"));
        assert_eq!(environment.values[0].name, "cluster.id");
    }
}
