//! The effective configuration: for each name the value that won, and where it came from.

use std::collections::BTreeMap;
use std::fmt;

use capek_state::config::{ConfigDef, broker_configs, find_broker_config, nearest_name};

use super::no_effect;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line, as it was written (`--set`, `--kafka`).
    Flag(String),
    /// An environment variable.
    Environment(String),
    File {
        path: String,
        line: usize,
    },
    Default,
}

/// A value that was set, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigValue {
    pub value: String,
    pub origin: Origin,
}

/// All values that were set; [`EffectiveConfig::get`] falls back to the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectiveConfig {
    explicit: BTreeMap<String, ConfigValue>,
}

/// What to do with names that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Warn and go on, as Kafka does.
    Warn,
    Refuse,
}

/// A configuration, and what its owner should hear about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub config: EffectiveConfig,
    pub warnings: Vec<String>,
    pub create_topics: Vec<super::TopicToCreate>,
    /// The log level that the environment asks for, in log4j's words.
    pub log_level: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(formatter, "flag {flag}"),
            Origin::Environment(variable) => write!(formatter, "environment {variable}"),
            Origin::File { path, line } => write!(formatter, "file {path}:{line}"),
            Origin::Default => write!(formatter, "default"),
        }
    }
}

impl EffectiveConfig {
    /// Sets a value; a later call wins.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) {
        let value = ConfigValue { value: value.trim().to_owned(), origin };
        self.explicit.insert(name.to_owned(), value);
    }

    /// The value that holds: the one set, by this name or an older one for it, else the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.lookup(name).map(|value| value.value.as_str()).or_else(|| default_of(name))
    }

    fn lookup(&self, name: &str) -> Option<&ConfigValue> {
        let older = || synonyms_of(name).iter().find_map(|synonym| self.explicit.get(*synonym));
        self.explicit.get(name).or_else(older)
    }

    /// The value only if someone set it.
    pub fn set_value(&self, name: &str) -> Option<&str> {
        self.explicit.get(name).map(|value| value.value.as_str())
    }

    /// A boolean in Kafka's spelling.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Where the value that holds comes from.
    pub fn origin(&self, name: &str) -> Origin {
        self.lookup(name).map_or(Origin::Default, |value| value.origin.clone())
    }

    /// All values that were set, by name.
    pub fn explicit(&self) -> &BTreeMap<String, ConfigValue> {
        &self.explicit
    }

    /// Every name with the value that holds and its origin, secrets hidden; with `defaults` also of what nobody set.
    pub fn all(&self, defaults: bool) -> Vec<(String, Option<String>, Origin)> {
        let hidden = |name: &str| find_broker_config(name).is_some_and(|definition| definition.is_sensitive);
        let mut names: Vec<&str> = self.explicit.keys().map(String::as_str).collect();
        if defaults {
            names.extend(broker_configs().map(|definition| definition.name));
            names.sort_unstable();
            names.dedup();
        }
        let shown = |name: &str| match self.get(name) {
            Some(_) if hidden(name) => Some("[hidden]".to_owned()),
            value => value.map(str::to_owned),
        };
        names.into_iter().map(|name| (name.to_owned(), shown(name), self.origin(name))).collect()
    }

    /// Checks names and values: warnings in `Ok`, problems in `Err`.
    pub fn check(&self, strictness: Strictness) -> Result<Vec<String>, Vec<String>> {
        let mut warnings = Vec::new();
        let mut problems = Vec::new();
        for (name, ConfigValue { value, origin }) in &self.explicit {
            match find_broker_config(name) {
                Some(definition) => problems.extend(problem_of(definition, value, origin)),
                None if no_effect::is_known(name) => {}
                None => match strictness {
                    Strictness::Warn => warnings.push(unknown(name, origin)),
                    Strictness::Refuse => problems.push(unknown(name, origin)),
                },
            }
        }
        if problems.is_empty() { Ok(warnings) } else { Err(problems) }
    }
}

fn synonyms_of(name: &str) -> &'static [&'static str] {
    find_broker_config(name).map_or(&[], |definition| definition.synonyms)
}

/// The default of a broker config: its own, or that of an older name for it.
pub fn default_of(name: &str) -> Option<&'static str> {
    let definition = find_broker_config(name)?;
    definition.default.or_else(|| definition.synonyms.iter().find_map(|synonym| find_broker_config(synonym)?.default))
}

fn problem_of(definition: &ConfigDef, value: &str, origin: &Origin) -> Option<String> {
    let problem = definition.check(value).err()?;
    let shown = if definition.is_sensitive { "[hidden]" } else { value };
    Some(format!("{}={shown} ({origin}): {problem}", definition.name))
}

fn unknown(name: &str, origin: &Origin) -> String {
    match nearest_name(name) {
        Some(nearest) => format!("unknown config {name} ({origin}): did you mean {nearest}?"),
        None => format!("unknown config {name} ({origin}): it has no effect"),
    }
}
