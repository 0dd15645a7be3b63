//! What `/metrics` is to say: `capek.metrics.*`, as it is set now.

use capek_actors::broker::BrokerShared;
use capek_state::cluster::Image;

use super::exposition::Vocabularies;

/// `capek.metrics.topic.partition.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Each partition.
    Full,
    /// Sums by topic.
    Topic,
    /// Neither.
    Off,
}

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub vocabularies: Vocabularies,
    pub level: Level,
    /// So many series of partitions, and so many of groups, at most.
    pub series_max: usize,
}

impl Settings {
    pub fn of(broker: &BrokerShared, image: &Image) -> Settings {
        let text = |name| broker.config.text(image, name);
        let level = match text("capek.metrics.topic.partition.level").as_str() {
            "off" => Level::Off,
            "topic" => Level::Topic,
            _ => Level::Full,
        };
        let series_max = broker.config.number(image, "capek.metrics.series.max");
        Settings {
            vocabularies: Vocabularies::parse(&text("capek.metrics.compat")),
            level,
            series_max: usize::try_from(series_max).unwrap_or(0),
        }
    }
}
