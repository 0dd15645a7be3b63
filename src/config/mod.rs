//! The broker's configuration: Kafka's names from flags, the environment, a properties file and defaults, in that order
//! of precedence, each value with its origin. [`load`] gathers and checks the values; [`Settings`] are what they mean.

mod broker_config;
mod docs;
mod effective;
mod environment;
mod listeners;
mod no_effect;
mod peer_tls;
mod peers;
mod properties;
mod settings;
mod sources;
mod topics;

pub use docs::{DocsFormat, write_docs};
pub use effective::{EffectiveConfig, Loaded, Origin};
pub use listeners::{Endpoint, Listener};
pub use properties::parse as parse_properties;
pub use settings::{Settings, host_name};
pub use sources::{Sources, load};
pub use topics::TopicToCreate;

/// Everything that is wrong with a configuration: one sentence each, naming the value's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<String>);

impl std::fmt::Display for ConfigProblems {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigProblems {}
