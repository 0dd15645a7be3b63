//! What a client may say of a subscription: in a query, or in a frame, by the same names.

use std::sync::Arc;
use std::time::Duration;

use capek_actors::stream_group::Acknowledges;
use capek_actors::stream_places::StartAt;
use capek_actors::stream_subscription::FrameLimits;
use capek_state::stream::Credit;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{PartitionIndex, topic_name_problem};
use serde::Deserialize;

use super::super::groups;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::v1::check_topic_name;
use super::from;
use super::open::now_ms;
use super::values::Formats;
use super::wanted::{Comeback, MemberWish, Wanted};
use crate::expression::Expression;

const CREDIT_RECORDS: u64 = 500;
const CREDIT_BYTES: u64 = 1 << 20;
const FRAME_BYTES: u64 = 64 << 10;
const FRAME_BYTES_MAX: u64 = 1 << 20;
const FRAME_RECORDS_MAX: u64 = 10_000;
/// What a viewer sees unless it says otherwise: so many records, as often as that.
const CONFLATION_RECORDS: u64 = 500;
const CONFLATION_MS: u64 = 1_000;
const LINGER_MS_MAX: u64 = 60_000;
const TOPICS_MAX: usize = 64;
const FILTER_BYTES_MAX: usize = 4 << 10;
const UNACKNOWLEDGED: u64 = 10_000;
const UNACKNOWLEDGED_MAX: u64 = 100_000;
const STALLS_AT_MOST_MS: u64 = 300_000;
const STALLS_AT_MOST_MS_MIN: u64 = 1_000;
const STALLS_AT_MOST_MS_MAX: u64 = 3_600_000;

/// As they were said. Unknown names are passed over.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Options {
    topic: Option<String>,
    pub topics: Vec<String>,
    pub group: Option<String>,
    partitions: Option<Vec<PartitionIndex>>,
    from: Option<String>,
    to: Option<String>,
    pub resume: Option<String>,
    ack: Option<String>,
    credit: Option<CreditOption>,
    format: Option<String>,
    key_format: Option<String>,
    batch_records: Option<u64>,
    batch_bytes: Option<u64>,
    filter: Option<String>,
    key: Option<String>,
    include: Option<Vec<String>>,
    instance_id: Option<String>,
    strategy: Option<String>,
    max_unacked: Option<u64>,
    max_poll_interval_ms: Option<u64>,
    conflate: bool,
    linger_ms: Option<u64>,
    isolation: Option<String>,
    raw: bool,
    offset_str: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub struct CreditOption {
    pub records: Option<u64>,
    pub bytes: Option<u64>,
}

// The names of a query, as `openapi` tells of them: of every stream, and of some.
pub const COMMON: &[&str] = &[
    "from",
    "format",
    "key_format",
    "include",
    "offset_str",
    "isolation",
    "batch_records",
    "batch_bytes",
    "linger_ms",
    "conflate",
    "filter",
    "key",
    "heartbeat_ms",
];
pub const OF_RANGE: &[&str] = &["to", "partitions"];
pub const OF_MEMBER: &[&str] = &["topics", "ack", "instance_id", "strategy", "max_unacked", "max_poll_interval_ms"];
pub const OF_CREDIT: &[&str] = &["credit_records", "credit_bytes", "raw"];
pub const OF_SOCKET: &[&str] = &["resume", "session"];
pub const OF_EVENTS: &[&str] = &["envelope", "last_event_id"];

impl Options {
    pub fn of(query: &QueryPairs) -> Result<Options, Problem> {
        let text = |name: &str| query.get(name).map(str::to_owned);
        let list =
            |name: &str| query.get(name).map(|text| text.split(',').map(|item| item.trim().to_owned()).collect());
        let credit = CreditOption { records: query.number("credit_records")?, bytes: query.number("credit_bytes")? };
        Ok(Options {
            topic: None,
            topics: list("topics").unwrap_or_default(),
            group: text("group"),
            partitions: query.get("partitions").map(partitions).transpose()?,
            from: text("from"),
            to: text("to"),
            resume: text("resume"),
            ack: text("ack"),
            credit: Some(credit),
            format: text("format"),
            key_format: text("key_format"),
            batch_records: query.number("batch_records")?,
            batch_bytes: query.number("batch_bytes")?,
            filter: text("filter"),
            key: text("key"),
            include: list("include")
                .map(|names: Vec<String>| names.into_iter().filter(|name| !name.is_empty()).collect()),
            instance_id: text("instance_id"),
            strategy: text("strategy"),
            max_unacked: query.number("max_unacked")?,
            max_poll_interval_ms: query.number("max_poll_interval_ms")?,
            conflate: query.flag("conflate")?,
            linger_ms: query.number("linger_ms")?,
            isolation: text("isolation"),
            raw: query.flag("raw")?,
            offset_str: query.flag("offset_str")?,
        })
    }

    /// Of this topic alone.
    pub fn for_topic(self, topic: &str) -> Options {
        Options { topic: Some(topic.to_owned()), topics: Vec::new(), ..self }
    }

    pub fn for_group(self, group: String) -> Options {
        Options { group: Some(group), ..self }
    }

    /// The whole of it, or what is wrong with it.
    pub fn wanted(self) -> Result<Wanted, Problem> {
        let bad = |problem: String| Problem::bad_request(problem);
        let topics = self.checked_topics()?;
        let resumed = self.resume.as_deref().map(Comeback::parse).transpose().map_err(bad)?;
        let is_earliest = self.resume.as_deref() == Some("earliest");
        let member = self.member()?;
        let from = self.from.as_deref().unwrap_or(if member.is_some() { "committed" } else { "latest" });
        let start = match from {
            _ if is_earliest => StartAt::Earliest,
            // Nothing is passed over of which the group has committed nothing.
            "committed" if member.is_some() => StartAt::Earliest,
            text => from::parse(text, now_ms()).map_err(bad)?,
        };
        let end = self.to.as_deref().map(|text| from::parse(text, now_ms())).transpose();
        let end = end.map_err(|problem| bad(problem.replacen("from=", "to=", 1)))?;
        if member.is_some() && (end.is_some() || self.partitions.is_some()) {
            return Err(bad(
                "to and partitions are for readers: a group shares out whole topics without an end".to_owned()
            ));
        }
        if self.partitions.is_some() && topics.len() > 1 {
            return Err(bad("partitions are those of one topic".to_owned()));
        }
        self.check_isolation()?;
        self.check_raw()?;
        let included = Included::named(self.include.as_deref()).map_err(bad)?;
        let formats = Formats::named(self.format.as_deref(), self.key_format.as_deref()).map_err(bad)?;
        let credit = self.credit.unwrap_or_default();
        let (linger_ms, frame_records) =
            if self.conflate { (CONFLATION_MS, CONFLATION_RECORDS) } else { (0, FRAME_RECORDS_MAX) };
        Ok(Wanted {
            topics,
            partitions: self.partitions.map(|partitions| partitions.into_iter().collect()),
            start,
            end,
            resumed: resumed.unwrap_or_default(),
            formats: Formats {
                has_timestamp: included.timestamp,
                has_headers: included.headers,
                has_text_offsets: self.offset_str,
                ..formats
            },
            credit: Credit::limited(credit.records.unwrap_or(CREDIT_RECORDS), credit.bytes.unwrap_or(CREDIT_BYTES)),
            frame: FrameLimits {
                records: self.batch_records.unwrap_or(frame_records).clamp(1, FRAME_RECORDS_MAX),
                bytes: self.batch_bytes.unwrap_or(FRAME_BYTES).clamp(1, FRAME_BYTES_MAX),
            },
            linger_ms: self.linger_ms.unwrap_or(linger_ms).min(LINGER_MS_MAX),
            conflates: self.conflate,
            filter: self.filter.as_deref().map(parse_filter).transpose()?,
            key: self.key,
            tells_positions: included.positions,
            is_raw: self.raw,
            member,
        })
    }

    /// As Kafka's clients name them. As long as there are no transactions both are one: what is replicated is committed.
    fn check_isolation(&self) -> Result<(), Problem> {
        match self.isolation.as_deref() {
            None | Some("read_committed" | "read_uncommitted") => Ok(()),
            Some(other) => {
                Err(Problem::bad_request(format!("isolation={other} is not read_committed or read_uncommitted")))
            }
        }
    }

    fn check_raw(&self) -> Result<(), Problem> {
        let needs_records = [
            ("format", self.format.is_some()),
            ("key_format", self.key_format.is_some()),
            ("filter", self.filter.is_some()),
            ("key", self.key.is_some()),
            ("include", self.include.is_some()),
            ("conflate", self.conflate),
        ];
        match needs_records.iter().find(|(_, is_there)| self.raw && *is_there) {
            Some((name, _)) => {
                Err(Problem::bad_request(format!("{name} is not for raw batches: nobody opens them here")))
            }
            None => Ok(()),
        }
    }

    fn checked_topics(&self) -> Result<Vec<String>, Problem> {
        let mut topics: Vec<String> = Vec::new();
        for topic in self.topic.iter().chain(&self.topics) {
            check_topic_name(topic)?;
            if topics.contains(topic) {
                continue;
            }
            if topics.len() == TOPICS_MAX {
                return Err(Problem::bad_request(format!("topics are {TOPICS_MAX} at most")));
            }
            topics.push(topic.clone());
        }
        if topics.is_empty() { Err(Problem::bad_request("topics names no topic")) } else { Ok(topics) }
    }

    fn member(&self) -> Result<Option<MemberWish>, Problem> {
        let bad = |problem: &str| Err(Problem::bad_request(problem));
        let acknowledges = match self.ack.as_deref() {
            None => None,
            Some("explicit") => Some(Acknowledges::Explicit),
            Some("received") => Some(Acknowledges::Received),
            Some("none") => Some(Acknowledges::None),
            Some(other) => return Err(Problem::bad_request(format!("ack={other} is not explicit, received or none"))),
        };
        let Some(group) = &self.group else {
            return match (acknowledges, &self.instance_id, &self.strategy) {
                (None | Some(Acknowledges::None), None, None) => Ok(None),
                _ => bad("ack, instance_id and strategy are for the member of a group"),
            };
        };
        if let Some(problem) = groups::name_problem(group) {
            return Err(Problem::kafka(ErrorCode::InvalidGroupId, Some(problem)));
        }
        let instance_id = self.instance_id.as_deref().filter(|id| !id.is_empty());
        if let Some(problem) = instance_id.and_then(topic_name_problem) {
            return Err(Problem::bad_request(format!("this is no instance_id: {problem}")));
        }
        let stalls_ms = self.max_poll_interval_ms.unwrap_or(STALLS_AT_MOST_MS);
        Ok(Some(MemberWish {
            group: group.clone(),
            acknowledges: acknowledges.unwrap_or(Acknowledges::Explicit),
            instance_id: instance_id.map(str::to_owned),
            strategy: self.strategy.clone(),
            unacknowledged_max: self.max_unacked.unwrap_or(UNACKNOWLEDGED).clamp(1, UNACKNOWLEDGED_MAX),
            stalls_at_most: Duration::from_millis(stalls_ms.clamp(STALLS_AT_MOST_MS_MIN, STALLS_AT_MOST_MS_MAX)),
        }))
    }
}

/// What comes besides offset, key and value.
struct Included {
    timestamp: bool,
    headers: bool,
    positions: bool,
}

impl Included {
    /// All of a record, unless some of it is named, or nothing at all is.
    fn named(names: Option<&[String]>) -> Result<Included, String> {
        let Some(names) = names else { return Ok(Included { timestamp: true, headers: true, positions: false }) };
        for name in names {
            match name.as_str() {
                "headers" | "timestamp" | "resume" => {}
                "schema" => return Err("include=schema needs a schema registry: there is none yet".to_owned()),
                other => return Err(format!("include={other} is not headers, timestamp or resume")),
            }
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let is_all = !names.is_empty() && !has("headers") && !has("timestamp");
        Ok(Included {
            timestamp: is_all || has("timestamp"),
            headers: is_all || has("headers"),
            positions: has("resume"),
        })
    }
}

/// `0,3`.
fn partitions(text: &str) -> Result<Vec<PartitionIndex>, Problem> {
    let partition = |item: &str| {
        let partition = item.trim().parse().ok().filter(|partition| *partition >= 0);
        partition.ok_or_else(|| Problem::bad_request(format!("partitions={text}: '{item}' is no partition")))
    };
    text.split(',').map(partition).collect()
}

fn parse_filter(text: &str) -> Result<Arc<Expression>, Problem> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(Problem::bad_request(format!("a filter has {FILTER_BYTES_MAX} bytes at most")));
    }
    Expression::parse(text).map(Arc::new).map_err(|problem| Problem::bad_request(format!("filter: {problem}")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use capek_actors::stream_events::StreamPlace;
    use capek_wire::batch::Record;

    use super::*;

    fn of(query: &str) -> Result<Wanted, Problem> {
        Options::of(&QueryPairs::parse(query).unwrap())?.wanted()
    }

    #[test]
    fn a_query_and_a_frame_say_the_same() {
        let frame =
            r#"{"topics":["t"],"partitions":[0,3],"from":"-5","to":"latest","credit":{"records":7},"format":"hex"}"#;
        let by_frame = serde_json::from_str::<Options>(frame).unwrap().wanted().unwrap();
        let by_query = of("topics=t&partitions=0,3,0&from=-5&to=latest&credit_records=7&format=hex").unwrap();
        assert_eq!(format!("{by_frame:?}"), format!("{by_query:?}"));
        assert_eq!((by_query.start, by_query.end), (StartAt::BeforeLatest(5), Some(StartAt::Latest)));
        assert_eq!(by_query.credit, Credit { records: 7, bytes: CREDIT_BYTES });
    }

    #[test]
    fn a_member_acknowledges_unless_it_says_otherwise() {
        let member = of("topics=t,u&group=g").unwrap().member.unwrap();
        assert_eq!((member.group.as_str(), member.acknowledges), ("g", Acknowledges::Explicit));
        let wanted = of("topics=t&group=g&ack=received&from=latest&max_poll_interval_ms=1").unwrap();
        assert_eq!(wanted.start, StartAt::Latest);
        let member = wanted.member.unwrap();
        assert_eq!((member.acknowledges, member.stalls_at_most), (Acknowledges::Received, Duration::from_secs(1)));
    }

    #[test]
    fn a_record_has_all_of_its_parts_unless_some_are_named() {
        let check = |query: &str, expected: (bool, bool, bool)| {
            let wanted = of(&format!("topics=t{query}")).unwrap();
            let Formats { has_timestamp, has_headers, .. } = wanted.formats;
            assert_eq!((has_timestamp, has_headers, wanted.tells_positions), expected, "{query}");
        };
        check("", (true, true, false));
        check("&include=resume", (true, true, true));
        check("&include=", (false, false, false));
        check("&include=headers", (false, true, false));
        check("&include=timestamp,resume", (true, false, true));
    }

    #[test]
    fn a_viewer_looks_once_a_second_unless_it_says_otherwise() {
        let check = |query: &str, expected| {
            let wanted = of(&format!("topics=t{query}")).unwrap();
            assert_eq!((wanted.conflates, wanted.linger_ms, wanted.frame.records), expected, "{query}");
        };
        check("", (false, 0, FRAME_RECORDS_MAX));
        check("&conflate=true", (true, 1_000, 500));
        check("&conflate=1&linger_ms=5&batch_records=7", (true, 5, 7));
        check("&linger_ms=99999999", (false, LINGER_MS_MAX, FRAME_RECORDS_MAX));
    }

    #[test]
    fn both_isolations_are_accepted_and_flags_are_flags() {
        for isolation in ["read_committed", "read_uncommitted"] {
            assert!(of(&format!("topics=t&isolation={isolation}")).is_ok());
        }
        let wanted = of("topics=t&raw=1&offset_str=true").unwrap();
        assert!(wanted.is_raw && wanted.formats.has_text_offsets);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in [
            "",
            "topics=",
            "topics=a/b",
            "topics=t&from=committed",
            "topics=t&ack=explicit",
            "topics=t&instance_id=i",
            "topics=t&group=",
            "topics=t&group=g%0A",
            "topics=t&group=g&instance_id=a/b",
            "topics=t&group=g&to=latest",
            "topics=t&group=g&partitions=0",
            "topics=t,u&partitions=0",
            "topics=t&partitions=a",
            "topics=t&partitions=-1",
            "topics=t&to=tomorrow",
            "topics=t&filter=key%20=%201",
            "topics=t&include=schema",
            "topics=t&include=all",
            "topics=t&isolation=serializable",
            "topics=t&offset_str=yes",
            "topics=t&raw=1&filter=true",
            "topics=t&raw=1&format=json",
            "topics=t&conflate=yes",
            "topics=t&raw=1&conflate=1",
            "topics=t&linger_ms=-1",
            "topics=t&resume=x",
            "topics=t&credit_bytes=-1",
        ] {
            assert!(of(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_filter_sees_all_of_a_record() {
        let place = StreamPlace::new("t", 0);
        let record = |key: &'static str, value: &'static str| Record {
            offset: 5,
            timestamp: 0,
            key: Some(Bytes::from(key)),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        let filter = of("topics=t&filter=value.n%20%3E%202&key=k").unwrap().record_filter().unwrap();
        assert!(filter(&place, &record("k", r#"{"n":3}"#)));
        assert!(!filter(&place, &record("k", r#"{"n":2}"#)));
        assert!(!filter(&place, &record("kk", r#"{"n":3}"#)));
        assert!(of("topics=t").unwrap().record_filter().is_none());
    }
}
