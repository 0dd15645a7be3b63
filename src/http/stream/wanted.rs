//! What a client wants to read, understood as a whole: what its options come to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use capek_actors::stream_events::{Filter, Position, StreamPlace};
use capek_actors::stream_group::Acknowledges;
use capek_actors::stream_places::StartAt;
use capek_actors::stream_subscription::FrameLimits;
use capek_state::stream::Credit;
use capek_wire::batch::Record;
use capek_wire::ids::PartitionIndex;

use super::values::Formats;
use super::{last_event_id, token};
use crate::expression::{Expression, Subject};

/// Where a client goes on that was here before.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Comeback {
    /// With what the log was then.
    pub positions: BTreeMap<StreamPlace, Position>,
    pub places: last_event_id::Places,
    /// Those that it had, whichever of their partitions.
    topics: BTreeSet<Arc<str>>,
}

impl Comeback {
    /// A token, or an id of Server-Sent Events.
    pub fn parse(text: &str) -> Result<Comeback, String> {
        let mut comeback = Comeback::default();
        if let Some(positions) = token::parse(text)? {
            let positions = positions.into_iter().map(|position| (position.place.clone(), position));
            comeback.positions = positions.collect();
        } else {
            let places = last_event_id::parse(text);
            comeback.places = places.map_err(|problem| problem.replacen("Last-Event-ID", "resume", 1))?;
        }
        let places = comeback.positions.keys().chain(comeback.places.keys());
        comeback.topics = places.map(|place| place.topic.clone()).collect();
        Ok(comeback)
    }

    pub fn knows_topic(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }
}

/// How a client takes part in a group.
#[derive(Debug, Clone)]
pub struct MemberWish {
    pub group: String,
    pub acknowledges: Acknowledges,
    pub instance_id: Option<String>,
    pub strategy: Option<String>,
    pub unacknowledged_max: u64,
    pub stalls_at_most: Duration,
}

/// What a client wants to read.
#[derive(Debug)]
pub struct Wanted {
    pub topics: Vec<String>,
    /// None: all, and those that are added later.
    pub partitions: Option<BTreeSet<PartitionIndex>>,
    pub start: StartAt,
    /// Exclusive.
    pub end: Option<StartAt>,
    pub resumed: Comeback,
    pub formats: Formats,
    pub credit: Credit,
    pub frame: FrameLimits,
    pub linger_ms: u64,
    pub conflates: bool,
    pub filter: Option<Arc<Expression>>,
    pub key: Option<String>,
    pub tells_positions: bool,
    /// Batches as they are stored.
    pub is_raw: bool,
    pub member: Option<MemberWish>,
}

impl Wanted {
    /// Only records that the client wants to see.
    pub fn record_filter(&self) -> Option<Filter> {
        let (expression, key) = (self.filter.clone(), self.key.clone());
        if expression.is_none() && key.is_none() {
            return None;
        }
        Some(Box::new(move |place, record| {
            let has_key = key.as_ref().is_none_or(|key| record.key.as_deref() == Some(key.as_bytes()));
            has_key && expression.as_ref().is_none_or(|expression| accepts(expression, place, record))
        }))
    }
}

fn accepts(expression: &Expression, place: &StreamPlace, record: &Record) -> bool {
    let headers: Vec<_> = record.headers.iter().map(|header| (&header.key[..], header.value.as_deref())).collect();
    expression.accepts(&Subject {
        topic: &place.topic,
        partition: place.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
    })
}
