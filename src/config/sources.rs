//! Where values come from: gathers file, environment and flags into one [`EffectiveConfig`], the later source winning.

use std::path::{Path, PathBuf};

use capek_state::config::find_broker_config;

use super::effective::{EffectiveConfig, Loaded, Origin, Strictness};
use super::{ConfigProblems, environment, properties, topics};

/// Where Apache's image mounts its file: read when no `--config` names another.
const MOUNTED_FILE: &str = "/mnt/shared/config/server.properties";

/// The flags of `capek serve` that configure the broker, and the environment as it is.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// `--set NAME=VALUE`, in order.
    pub set: Vec<String>,
    pub data_dir: Option<String>,
    pub kafka: Option<String>,
    pub http: Option<String>,
    pub node_id: Option<i32>,
    pub environment: Vec<(String, String)>,
    pub strict: bool,
}

/// Gathers and checks the configuration. All problems come at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigProblems> {
    let mut loaded = Loaded::default();
    let mut problems = Vec::new();
    read_file(sources.file.as_deref(), &mut loaded.config, &mut problems);
    let default_advertised = read_environment(sources, &mut loaded, &mut problems);
    read_flags(sources, &mut loaded.config, &mut problems);
    if let Some(default) = default_advertised
        && loaded.config.set_value("listeners").is_none()
        && loaded.config.set_value("advertised.listeners").is_none()
    {
        let origin = Origin::Environment(environment::DEFAULT_ADVERTISED_LISTENERS.to_owned());
        loaded.config.set("advertised.listeners", &default, origin);
    }
    let strictness = if sources.strict { Strictness::Refuse } else { Strictness::Warn };
    match loaded.config.check(strictness) {
        Ok(warnings) => loaded.warnings.extend(warnings),
        Err(more) => problems.extend(more),
    }
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigProblems(problems)) }
}

fn read_file(file: Option<&Path>, config: &mut EffectiveConfig, problems: &mut Vec<String>) {
    let path = match file {
        Some(path) => path,
        None if Path::new(MOUNTED_FILE).exists() => Path::new(MOUNTED_FILE),
        None => return,
    };
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return problems.push(format!("the configuration file {shown} (--config) cannot be read: {error}"));
        }
    };
    match properties::parse(&text) {
        Ok(properties) => {
            for property in properties {
                let origin = Origin::File { path: shown.clone(), line: property.line };
                config.set(&property.name, &property.value, origin);
            }
        }
        Err(error) => problems.push(format!("{shown}: {error}")),
    }
}

/// Answers what an image advertises unless anything names listeners.
fn read_environment(sources: &Sources, loaded: &mut Loaded, problems: &mut Vec<String>) -> Option<String> {
    let is_known = |name: &str| find_broker_config(name).is_some();
    let read_secret = |path: &str| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let environment = environment::read(sources.environment.iter().cloned(), &is_known, &read_secret);
    for found in environment.values {
        loaded.config.set(&found.name, &found.value, Origin::Environment(found.variable));
    }
    if let Some(list) = environment.create_topics {
        let separator = environment.create_topics_separator.as_deref().unwrap_or(",");
        match topics::parse(&list, separator) {
            Ok(topics) => loaded.create_topics = topics,
            Err(problem) => problems.push(format!("KAFKA_CREATE_TOPICS: {problem}")),
        }
    }
    loaded.log_level = environment.log_level;
    loaded.warnings.extend(environment.ignored);
    problems.extend(environment.problems);
    environment.default_advertised_listeners
}

fn read_flags(sources: &Sources, config: &mut EffectiveConfig, problems: &mut Vec<String>) {
    for assignment in &sources.set {
        match assignment.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                config.set(name.trim(), value, Origin::Flag("--set".to_owned()));
            }
            _ => problems.push(format!("--set {assignment}: write NAME=VALUE")),
        }
    }
    let mut flag = |flag: &str, name: &str, value: Option<String>| {
        if let Some(value) = value {
            config.set(name, &value, Origin::Flag(flag.to_owned()));
        }
    };
    flag("--data-dir", "log.dirs", sources.data_dir.clone());
    flag("--kafka", "listeners", sources.kafka.as_deref().map(|list| with_scheme(list, "PLAINTEXT")));
    flag("--http", "capek.http.listeners", sources.http.as_deref().map(|list| with_scheme(list, "http")));
    flag("--node-id", "node.id", sources.node_id.map(|id| id.to_string()));
}

/// `--kafka :9092` and `--http 0.0.0.0:8080` need no scheme; a bare port is one on localhost.
fn with_scheme(list: &str, scheme: &str) -> String {
    let one = |item: &str| match item {
        "" => String::new(),
        _ if item.contains("://") => item.to_owned(),
        _ if item.bytes().all(|byte| byte.is_ascii_digit()) => format!("{scheme}://localhost:{item}"),
        _ => format!("{scheme}://{item}"),
    };
    list.split(',').map(|item| one(item.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn what_an_image_advertises_gives_way_to_any_listeners() {
        let image = ("CAPEK_DEFAULT_ADVERTISED_LISTENERS", "PLAINTEXT://localhost:9092");
        let listeners = |pairs: &[(&str, &str)]| {
            let config = load(&Sources { environment: environment(pairs), ..Sources::default() }).unwrap().config;
            let set = |name: &str| config.set_value(name).unwrap_or("").to_owned();
            [set("listeners"), set("advertised.listeners")]
        };
        assert_eq!(listeners(&[image]), ["", "PLAINTEXT://localhost:9092"]);
        assert_eq!(listeners(&[image, ("KAFKA_CFG_LISTENERS", "A://:1")]), ["A://:1", ""]);
        assert_eq!(listeners(&[image, ("KAFKA_ADVERTISED_LISTENERS", "B://b:2")]), ["", "B://b:2"]);
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let path = std::env::temp_dir().join(format!("capek-config-{}.properties", std::process::id()));
        std::fs::write(&path, "num.partitions=2\nlog.retention.hours=1\n\nlog.segment.bytes=2000000\n").unwrap();
        let mut sources = Sources { file: Some(path.clone()), ..Sources::default() };
        let file = |line| Origin::File { path: path.display().to_string(), line };
        sources.environment = environment(&[("KAFKA_LOG_RETENTION_HOURS", "2"), ("KAFKA_NUM_PARTITIONS", "3")]);
        sources.set = vec!["num.partitions=4".to_owned()];
        let config = load(&sources).unwrap().config;
        std::fs::remove_file(&path).unwrap();
        let check = |name: &str, value: &str, origin: Origin| {
            assert_eq!((config.get(name), config.origin(name)), (Some(value), origin), "{name}");
        };
        check("num.partitions", "4", Origin::Flag("--set".to_owned()));
        check("log.retention.hours", "2", Origin::Environment("KAFKA_LOG_RETENTION_HOURS".to_owned()));
        check("log.segment.bytes", "2000000", file(4));
        check("log.dirs", "./capek-data", Origin::Default);
    }

    #[test]
    fn short_flags_are_the_long_names() {
        let sources = Sources {
            kafka: Some("0.0.0.0:9092".to_owned()),
            http: Some("8081,https://x:1".to_owned()),
            data_dir: Some("/data".to_owned()),
            node_id: Some(7),
            ..Sources::default()
        };
        let config = load(&sources).unwrap().config;
        assert_eq!(config.get("listeners"), Some("PLAINTEXT://0.0.0.0:9092"));
        assert_eq!(config.get("capek.http.listeners"), Some("http://localhost:8081,https://x:1"));
        assert_eq!(config.get("log.dirs"), Some("/data"));
        assert_eq!(config.get("node.id"), Some("7"));
    }

    #[test]
    fn unknown_names_warn_or_are_refused_when_strict() {
        let mut sources = Sources { set: vec!["num.partition=3".to_owned()], ..Sources::default() };
        let warnings = load(&sources).unwrap().warnings;
        assert_eq!(warnings, ["unknown config num.partition (flag --set): did you mean num.partitions?"]);
        sources.strict = true;
        assert_eq!(load(&sources).unwrap_err().0, warnings);
    }

    #[test]
    fn a_bad_value_is_refused_with_its_origin() {
        let sources = Sources { environment: environment(&[("KAFKA_NUM_PARTITIONS", "many")]), ..Sources::default() };
        let problems = load(&sources).unwrap_err().0;
        assert!(problems[0].starts_with("num.partitions=many (environment KAFKA_NUM_PARTITIONS): "), "{problems:?}");
    }

    #[test]
    fn a_missing_file_and_a_bad_flag_come_together() {
        let file = Some(PathBuf::from("/nowhere/server.properties"));
        let sources = Sources { file, set: vec!["x".to_owned()], ..Sources::default() };
        assert_eq!(load(&sources).unwrap_err().0.len(), 2);
    }
}
