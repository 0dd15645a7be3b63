//! One configuration: what it is called, what it may be, what it does.
//!
//! The constructors are `const` and chain, so that a table of definitions reads line by line.

use super::valid::{Candidate, Valid};

/// Kafka's types; the wire code stands in DescribeConfigs responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    /// The number of the type in DescribeConfigs.
    pub fn wire_code(self) -> i8 {
        match self {
            ConfigType::Boolean => 1,
            ConfigType::String => 2,
            ConfigType::Int => 3,
            ConfigType::Short => 4,
            ConfigType::Long => 5,
            ConfigType::Double => 6,
            ConfigType::List => 7,
            ConfigType::Class => 8,
            ConfigType::Password => 9,
        }
    }

    /// As Kafka's documentation and error messages write it.
    pub fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }
}

/// How a configuration of the broker can change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dynamic {
    /// Only in the file, the environment or a flag, at a start.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or as a default for all.
    ClusterWide,
}

/// A configuration, as `config docs` prints it and DescribeConfigs describes it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: ConfigType,
    /// None: there is none, it is null until somebody sets it.
    pub default: Option<&'static str>,
    pub doc: &'static str,
    /// For a topic's configuration: the broker's that stand behind it, nearest first.
    /// For a broker's: an older name that is asked when it is not set.
    pub synonyms: &'static [&'static str],
    pub dynamic: Dynamic,
    pub valid: Valid,
    /// Why the default is not Kafka's.
    pub differs_from_kafka: Option<&'static str>,
    pub is_sensitive: bool,
    /// False: accepted, checked and described, but nothing acts upon it yet.
    pub honoured: bool,
}

impl ConfigDef {
    const fn new(name: &'static str, kind: ConfigType, default: &'static str, doc: &'static str) -> ConfigDef {
        ConfigDef {
            name,
            kind,
            default: Some(default),
            doc,
            synonyms: &[],
            dynamic: Dynamic::ReadOnly,
            valid: Valid::Any,
            differs_from_kafka: None,
            is_sensitive: false,
            honoured: false,
        }
    }

    /// No default: null until it is set.
    pub(super) const fn unset(self) -> ConfigDef {
        ConfigDef { default: None, ..self }
    }

    /// For the types whose constructor takes none.
    pub(super) const fn default_value(self, default: &'static str) -> ConfigDef {
        ConfigDef { default: Some(default), ..self }
    }

    pub(super) const fn synonyms(self, synonyms: &'static [&'static str]) -> ConfigDef {
        ConfigDef { synonyms, ..self }
    }

    pub(super) const fn valid(self, valid: Valid) -> ConfigDef {
        ConfigDef { valid, ..self }
    }

    pub(super) const fn at_least(self, minimum: i64) -> ConfigDef {
        self.valid(Valid::AtLeast(minimum))
    }

    pub(super) const fn one_of(self, values: &'static [&'static str]) -> ConfigDef {
        self.valid(Valid::OneOf(values))
    }

    pub(super) const fn per_broker(self) -> ConfigDef {
        ConfigDef { dynamic: Dynamic::PerBroker, ..self }
    }

    pub(super) const fn cluster_wide(self) -> ConfigDef {
        ConfigDef { dynamic: Dynamic::ClusterWide, ..self }
    }

    /// We act upon it.
    pub(super) const fn honoured(self) -> ConfigDef {
        ConfigDef { honoured: true, ..self }
    }

    pub(super) const fn differs(self, reason: &'static str) -> ConfigDef {
        ConfigDef { differs_from_kafka: Some(reason), ..self }
    }

    /// Is `value` acceptable? The error is Kafka's sentence.
    pub fn check(&self, value: &str) -> Result<(), String> {
        Candidate { name: self.name, value }.check(self.kind, self.valid)
    }

    /// A value that [`ConfigDef::check`] accepts, as tools are shown it: `" TRUE"` is `true`.
    pub fn normal(&self, value: &str) -> String {
        super::valid::normal(self.kind, value)
    }
}

pub(super) const fn boolean(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Boolean, default, doc)
}

pub(super) const fn string(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::String, default, doc)
}

pub(super) const fn int(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Int, default, doc)
}

pub(super) const fn short(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Short, default, doc)
}

pub(super) const fn long(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Long, default, doc)
}

pub(super) const fn double(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Double, default, doc)
}

pub(super) const fn list(name: &'static str, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::List, default, doc)
}

pub(super) const fn class(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef::new(name, ConfigType::Class, "", doc).unset()
}

pub(super) const fn password(name: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef { is_sensitive: true, ..ConfigDef::new(name, ConfigType::Password, "", doc).unset() }
}
