//! The frames of a WebSocket in JSON: what a client asks for.

use capek_actors::stream_commands::{Acknowledge, StreamCommand, StreamWish};
use capek_actors::stream_events::StreamPlace;
use capek_state::stream::Credit;
use capek_wire::ids::{Offset, PartitionIndex};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::objects;
use super::acks::GroupAck;
use super::options::Options;
use super::produce_frames::{self, ProduceFrame};
use super::values::Formats;

/// The only subscription of a socket that was opened for a topic or a group.
pub const FIRST_SUBSCRIPTION: u64 = 1;
/// How many places one frame may name.
const PLACES_MAX: usize = 1_000;

/// What a client sent.
#[derive(Debug)]
pub struct ClientFrame {
    /// Answered exactly once if it is there.
    pub id: Option<Value>,
    pub wish: Wish,
}

/// What it wants.
#[derive(Debug)]
pub enum Wish {
    Session(StreamCommand),
    Subscribe(Box<Options>),
    /// And how its answer is written.
    Acknowledge(Acknowledge, Formats),
    /// Of a member that reads elsewhere.
    AcknowledgeFor(GroupAck),
    Produce(ProduceFrame),
    Ping {
        t: Value,
    },
}

/// Why a frame was not understood; the connection stays.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError {
    pub id: Option<Value>,
    pub message: String,
}

/// Its id is read also where the type is none, so that the error has it.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<Value>,
    id: Option<Value>,
}

#[derive(Deserialize)]
struct RawCommand<'a> {
    sub: Option<u64>,
    #[serde(default)]
    records: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    to: Vec<RawPlace>,
    #[serde(borrow)]
    t: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAck {
    sub: Option<u64>,
    group: Option<String>,
    member: Option<String>,
    #[serde(default)]
    through: Vec<RawPlace>,
    #[serde(default)]
    records: Vec<RawPlace>,
}

#[derive(Deserialize)]
pub struct RawPlace {
    topic: Option<String>,
    partition: PartitionIndex,
    offset: RawOffset,
}

/// A number, or for those who read offsets as strings a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawNumber")]
struct RawOffset {
    offset: Offset,
    is_text: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawNumber {
    Number(Offset),
    Text(String),
}

impl TryFrom<RawNumber> for RawOffset {
    type Error = String;

    fn try_from(raw: RawNumber) -> Result<RawOffset, String> {
        match raw {
            RawNumber::Number(offset) => Ok(RawOffset { offset, is_text: false }),
            RawNumber::Text(text) => {
                let offset = text.parse().map_err(|_| format!("offset {} is no number", Value::from(text)))?;
                Ok(RawOffset { offset, is_text: true })
            }
        }
    }
}

/// Offsets come back as they were brought.
pub fn answered_as(through: &[RawPlace], records: &[RawPlace]) -> Formats {
    let has_text_offsets = through.iter().chain(records).any(|place| place.offset.is_text);
    Formats { has_text_offsets, ..Formats::default() }
}

/// Understands a frame. `topic` is meant where a frame names none. Unknown fields are passed over.
pub fn parse(text: &[u8], topic: Option<&str>) -> Result<ClientFrame, FrameError> {
    let no_frame = |problem: String| format!("this is no frame: {problem}");
    let Head { kind, id } = objects::from_slice(text)
        .map_err(|error: serde_json::Error| FrameError { id: None, message: no_frame(error.to_string()) })?;
    let wish = match kind {
        Some(Value::String(kind)) => wish(&kind, text, topic, id.clone()),
        Some(other) => Err(no_frame(format!("type={other} is no text"))),
        None => Err(no_frame("it has no type".to_owned())),
    };
    let wish = wish.map_err(|message| FrameError { id: id.clone(), message })?;
    Ok(ClientFrame { id, wish })
}

fn wish(kind: &str, text: &[u8], topic: Option<&str>, id: Option<Value>) -> Result<Wish, String> {
    match kind {
        "subscribe" => Ok(Wish::Subscribe(Box::new(fields(kind, text)?))),
        "produce" => produce_frames::parse(text, id).map(Wish::Produce),
        "ack" => acknowledge(fields(kind, text)?, topic),
        "ping" | "credit" | "pause" | "resume" | "seek" | "unsubscribe" => {
            let raw: RawCommand = fields(kind, text)?;
            if kind == "ping" {
                let t = raw.t.and_then(|t| serde_json::from_str(t.get()).ok());
                return Ok(Wish::Ping { t: t.unwrap_or(Value::Null) });
            }
            let subscription = raw.sub.unwrap_or(FIRST_SUBSCRIPTION);
            let wish = match kind {
                "credit" => StreamWish::Credit(Credit { records: raw.records, bytes: raw.bytes }),
                "pause" => StreamWish::Pause,
                "resume" => StreamWish::Resume,
                "unsubscribe" => StreamWish::Unsubscribe,
                _ if raw.to.is_empty() => return Err("seek needs to=[{topic, partition, offset}]".to_owned()),
                _ => StreamWish::Seek(places(raw.to, topic)?),
            };
            Ok(Wish::Session(StreamCommand { subscription, wish }))
        }
        "auth" => Err("there is no authentication yet".to_owned()),
        _ => Err(format!("unknown type {}", Value::from(kind))),
    }
}

fn fields<'a, T: Deserialize<'a>>(kind: &str, text: &'a [u8]) -> Result<T, String> {
    objects::from_slice(text).map_err(|error| format!("{kind}: {error}"))
}

fn acknowledge(raw: RawAck, topic: Option<&str>) -> Result<Wish, String> {
    if raw.through.is_empty() && raw.records.is_empty() {
        return Err("ack needs through=[{topic, partition, offset}], or records of the same kind".to_owned());
    }
    let formats = answered_as(&raw.through, &raw.records);
    let (through, records) = (places(raw.through, topic)?, places(raw.records, topic)?);
    match (raw.group, raw.sub) {
        (Some(_), Some(_)) => Err("ack is for a sub of this socket or for a group, not for both".to_owned()),
        (Some(group), None) => {
            let ack = GroupAck { group, member: raw.member, through, records, formats };
            ack.check()?;
            Ok(Wish::AcknowledgeFor(ack))
        }
        (None, subscription) => {
            if raw.member.is_some() {
                return Err("ack for a member needs the group".to_owned());
            }
            let subscription = Some(subscription.unwrap_or(FIRST_SUBSCRIPTION));
            Ok(Wish::Acknowledge(Acknowledge { subscription, member: None, through, records }, formats))
        }
    }
}

pub fn places(raw: Vec<RawPlace>, topic: Option<&str>) -> Result<Vec<(StreamPlace, Offset)>, String> {
    if raw.len() > PLACES_MAX {
        return Err(format!("a frame names {PLACES_MAX} places at most"));
    }
    let place = |raw: RawPlace| {
        let topic = raw.topic.as_deref().or(topic).ok_or("a place has no topic")?;
        Ok((StreamPlace::new(topic, raw.partition), raw.offset.offset))
    };
    raw.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn understood(text: &str) -> Wish {
        parse(text.as_bytes(), Some("orders")).unwrap().wish
    }

    #[test]
    fn commands_are_understood_and_unknown_fields_passed_over() {
        let check = |text: &str, subscription, expected: StreamWish| match understood(text) {
            Wish::Session(command) => assert_eq!(command, StreamCommand { subscription, wish: expected }, "{text}"),
            other => panic!("{other:?}"),
        };
        let credit = StreamWish::Credit(Credit { records: 500, bytes: 0 });
        check(r#"{"type":"credit","sub":1,"records":500,"later":[]}"#, 1, credit);
        check(r#"{"type":"pause","sub":7}"#, 7, StreamWish::Pause);
        check(r#"{"type":"unsubscribe"}"#, 1, StreamWish::Unsubscribe);
        let seek = StreamWish::Seek(vec![(StreamPlace::new("t", 0), 10), (StreamPlace::new("orders", 1), 2)]);
        check(r#"{"type":"seek","to":[{"topic":"t","partition":0,"offset":10},{"partition":1,"offset":2}]}"#, 1, seek);
        assert!(matches!(understood(r#"{"type":"ping","t":123}"#), Wish::Ping { t } if t == json!(123)));
        assert_eq!(parse(br#"{"type":"resume","id":"x"}"#, None).unwrap().id, Some(json!("x")));
        let ack =
            r#"{"type":"ack","sub":2,"through":[{"partition":0,"offset":4}],"records":[{"partition":0,"offset":6}]}"#;
        let Wish::Acknowledge(ack, formats) = understood(ack) else { panic!("an ack") };
        assert_eq!(ack.through, [(StreamPlace::new("orders", 0), 4)]);
        assert_eq!((ack.subscription, ack.records), (Some(2), vec![(StreamPlace::new("orders", 0), 6)]));
        assert!(!formats.has_text_offsets);
        let text = r#"{"type":"ack","through":[{"partition":0,"offset":"9007199254740993"}]}"#;
        let Wish::Acknowledge(ack, formats) = understood(text) else { panic!("an ack") };
        assert_eq!(ack.through, [(StreamPlace::new("orders", 0), (1 << 53) + 1)]);
        assert!(formats.has_text_offsets, "it is answered as it was asked");
        let Wish::Subscribe(options) = understood(r#"{"type":"subscribe","topics":["a"],"group":"g"}"#) else {
            panic!("a subscribe");
        };
        assert_eq!((options.topics, options.group.as_deref()), (vec!["a".to_owned()], Some("g")));
        let Wish::Produce(frame) = understood(r#"{"type":"produce","id":9,"records":[{}]}"#) else {
            panic!("a produce")
        };
        assert_eq!((frame.id, frame.records.len()), (Some(json!(9)), 1));
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_id() {
        let check = |text: &str, id: Option<Value>, part: &str| {
            let error = parse(text.as_bytes(), None).unwrap_err();
            assert_eq!(error.id, id, "{text}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check("{", None, "no frame");
        check("[]", None, "no frame");
        check(r#"["ping",4]"#, None, "expected an object");
        check(r#"{"type":"seek","to":[["t",0,1]]}"#, None, "expected an object");
        check(r#"{"type":5,"id":6}"#, Some(json!(6)), "no frame: type=5");
        check(r#"{"id":7}"#, Some(json!(7)), "no frame: it has no type");
        check(r#"{"type":"dance","id":4}"#, Some(json!(4)), r#"unknown type "dance""#);
        check(r#"{"type":"seek","id":1,"to":[{"partition":0,"offset":1}]}"#, Some(json!(1)), "no topic");
        check(r#"{"type":"seek"}"#, None, "needs to");
        check(r#"{"type":"ack"}"#, None, "needs through");
        check(
            r#"{"type":"ack","group":"g","sub":1,"through":[{"topic":"t","partition":0,"offset":4}]}"#,
            None,
            "not for both",
        );
        check(
            r#"{"type":"ack","member":"m","through":[{"topic":"t","partition":0,"offset":4}]}"#,
            None,
            "needs the group",
        );
        check(r#"{"type":"ack","through":[{"partition":0,"offset":"x"}]}"#, None, "is no number");
        check(r#"{"type":"credit","records":-1}"#, None, "credit:");
        check(r#"{"type":"auth","id":2}"#, Some(json!(2)), "no authentication");
    }
}
