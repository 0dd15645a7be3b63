//! Events and lines of what a session tells, for those who read without a WebSocket.

use std::collections::BTreeMap;

use bytes::Bytes;
use capek_actors::stream_cursors::GapReason;
use capek_actors::stream_events::{Encoder, Goodbye, Outgoing, StreamEvent, StreamPlace, StreamRecords};
use capek_wire::batch::Record;
use capek_wire::ids::Offset;
use serde_json::{Value, json};

use super::super::json;
use super::super::problem::goodbye_body;
use super::frames::{self, with_place};
use super::last_event_id;
use super::values::{Formats, put_record, put_value};

/// Makes events, or lines, of what the session tells.
pub struct EventWriter {
    pub formats: Formats,
    /// What the client has is everything below.
    pub next: BTreeMap<StreamPlace, Offset>,
    pub is_value_only: bool,
}

impl EventWriter {
    pub fn into_events(mut self) -> Encoder {
        Box::new(move |event| self.event(event).map(Outgoing::Text))
    }

    pub fn into_lines(mut self) -> Encoder {
        Box::new(move |event| self.lines(event).map(Outgoing::Text))
    }

    fn event(&mut self, event: &StreamEvent) -> Option<Bytes> {
        let mut out = Vec::new();
        match event {
            // Batches are for WebSockets, which the door sees to.
            StreamEvent::Subscribed | StreamEvent::Batches(_) => return None,
            StreamEvent::Records(records) => self.put_messages(&mut out, records),
            StreamEvent::Assigned { partitions, .. } => {
                self.next.extend(partitions.iter().map(|assigned| (assigned.place.clone(), assigned.next)));
                let partitions: Vec<_> =
                    partitions.iter().map(|assigned| frames::assignment(assigned, self.formats)).collect();
                put_event(&mut out, "assigned", &json!({ "partitions": partitions }));
            }
            StreamEvent::Revoked { partitions, reason, .. } => {
                self.next.retain(|place, _| !partitions.contains(place));
                let partitions: Vec<_> = partitions.iter().map(|place| with_place(place, [])).collect();
                let body = json!({ "partitions": partitions, "reason": frames::revoke_name(*reason) });
                put_event(&mut out, "revoked", &body);
            }
            StreamEvent::CaughtUp { place, next } => {
                // Also when a filter has let nothing through.
                self.next.insert(place.clone(), *next);
                self.put_id(&mut out);
                put_event(&mut out, "caught_up", &with_place(place, [("next", self.formats.offset(*next))]));
            }
            // What comes next lies within it: whoever comes back before that is sent it then.
            StreamEvent::Gap { reason: GapReason::Filtered { .. }, .. } => {
                put_event(&mut out, "gap", &gap(event, self.formats));
            }
            StreamEvent::Gap { place, resumed, .. } => {
                self.next.insert(place.clone(), *resumed);
                self.put_id(&mut out);
                put_event(&mut out, "gap", &gap(event, self.formats));
            }
            StreamEvent::Heartbeat { now_ms, .. } => {
                out.extend_from_slice(format!(": hb {}\n\n", now_ms / 1000).as_bytes());
            }
            StreamEvent::Problem { place, message, .. } => {
                put_event(&mut out, "error", &problem(place.as_ref(), message));
            }
            // An event source comes back by itself where it was.
            StreamEvent::Goodbye { goodbye, .. } if *goodbye == Goodbye::ROTATED => {
                out.extend_from_slice(b": come again\n\n");
            }
            // The goodbye comes right after it.
            StreamEvent::End => return None,
            StreamEvent::Goodbye { goodbye, .. } => put_event(&mut out, "end", &goodbye_body(goodbye)),
        }
        Some(out.into())
    }

    /// Records, and what must not pass in silence; each on a line.
    fn lines(&mut self, event: &StreamEvent) -> Option<Bytes> {
        let mut out = Vec::new();
        match event {
            StreamEvent::Records(records) => {
                for record in &records.records {
                    self.put_data(&mut out, &records.place, record);
                    out.push(b'\n');
                }
            }
            StreamEvent::Gap { .. } => {
                out.extend_from_slice(format!("{}\n", json!({ "gap": gap(event, self.formats) })).as_bytes());
            }
            StreamEvent::Problem { place, message, .. } => {
                let line = json!({ "error": problem(place.as_ref(), message) });
                out.extend_from_slice(format!("{line}\n").as_bytes());
            }
            _ => return None,
        }
        Some(out.into())
    }

    fn put_messages(&mut self, out: &mut Vec<u8>, records: &StreamRecords) {
        let count = records.records.len();
        for (index, record) in records.records.iter().enumerate() {
            let is_last = index + 1 == count;
            let next = if is_last { records.next } else { record.offset + 1 };
            self.next.insert(records.place.clone(), next);
            self.put_id(out);
            out.extend_from_slice(b"event: message\ndata: ");
            self.put_data(out, &records.place, record);
            out.extend_from_slice(b"\n\n");
        }
    }

    fn put_data(&self, out: &mut Vec<u8>, place: &StreamPlace, record: &Record) {
        if self.is_value_only {
            return put_value(out, record.value.as_deref(), self.formats.value);
        }
        out.extend_from_slice(b"{\"topic\":");
        json::put_string(out, &place.topic);
        out.extend_from_slice(format!(",\"partition\":{},", place.partition).as_bytes());
        put_record(out, record, self.formats);
        out.push(b'}');
    }

    /// A client without partitions keeps the id that it has.
    fn put_id(&self, out: &mut Vec<u8>) {
        if !self.next.is_empty() {
            out.extend_from_slice(b"id: ");
            last_event_id::put(out, &self.next);
            out.push(b'\n');
        }
    }
}

fn put_event(out: &mut Vec<u8>, name: &str, body: &Value) {
    out.extend_from_slice(format!("event: {name}\ndata: {body}\n\n").as_bytes());
}

fn gap(event: &StreamEvent, formats: Formats) -> Value {
    let StreamEvent::Gap { place, requested, resumed, reason } = event else { return Value::Null };
    with_place(place, frames::gap_fields(*requested, *resumed, *reason, formats))
}

fn problem(place: Option<&StreamPlace>, message: &str) -> Value {
    match place {
        Some(place) => with_place(place, [("message", json!(message))]),
        None => json!({ "message": message }),
    }
}

#[cfg(test)]
mod tests {
    use capek_actors::stream_events::RevokeReason;

    use super::*;

    fn place(partition: i32) -> StreamPlace {
        StreamPlace::new("orders", partition)
    }

    fn writer(is_value_only: bool) -> EventWriter {
        EventWriter {
            formats: Formats::default(),
            next: BTreeMap::from([(place(0), 43), (place(1), 9)]),
            is_value_only,
        }
    }

    fn records() -> StreamEvent {
        let record = |offset, value: &'static str| Record {
            offset,
            timestamp: 5,
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        StreamEvent::Records(StreamRecords {
            sequence: 1,
            place: place(0),
            records: vec![record(43, "{\"a\":\n1}"), record(44, "x\ny")],
            next: 47, // a control batch came after
            high_watermark: 50,
            size_bytes: 20,
            positions: None,
        })
    }

    fn text(bytes: Option<Bytes>) -> String {
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn an_event_has_the_next_offsets_as_its_id() {
        let expected = r#"id: [{"topic":"orders","partition":0,"offset":44},{"topic":"orders","partition":1,"offset":9}]
event: message
data: {"topic":"orders","partition":0,"offset":43,"ts":5,"key":"k","value":{"a":1}}

id: [{"topic":"orders","partition":0,"offset":47},{"topic":"orders","partition":1,"offset":9}]
event: message
data: {"topic":"orders","partition":0,"offset":44,"ts":5,"key":"k","value":"x\ny"}

"#;
        assert_eq!(text(writer(false).event(&records())), expected);
    }

    #[test]
    fn a_gap_and_catching_up_move_the_id() {
        let gap = StreamEvent::Gap { place: place(1), requested: 9, resumed: 30, reason: GapReason::Retention };
        let gap = text(writer(false).event(&gap));
        assert!(gap.contains(r#""partition":1,"offset":30"#) && gap.contains(r#""reason":"retention""#), "{gap}");
        let caught_up = text(writer(false).event(&StreamEvent::CaughtUp { place: place(0), next: 60 }));
        assert!(caught_up.starts_with(r#"id: [{"topic":"orders","partition":0,"offset":60}"#), "{caught_up}");
    }

    #[test]
    fn what_newer_records_stand_for_does_not_move_the_id() {
        let mut writer = writer(false);
        let reason = GapReason::Filtered { count: 3 };
        let gap = text(writer.event(&StreamEvent::Gap { place: place(0), requested: 43, resumed: 47, reason }));
        assert!(gap.starts_with("event: gap\n") && gap.contains(r#""reason":"filtered","count":3"#), "{gap}");
        assert!(text(writer.event(&records())).contains(r#""partition":0,"offset":47"#));
    }

    #[test]
    fn whoever_shall_come_again_is_not_told_of_an_end() {
        let goodbye = |goodbye| StreamEvent::Goodbye { goodbye, positions: Vec::new() };
        assert_eq!(text(writer(false).event(&goodbye(Goodbye::ROTATED))), ": come again\n\n");
        assert!(text(writer(false).event(&goodbye(Goodbye::DRAIN))).starts_with("event: end\ndata: {\"code\":4001,"));
    }

    #[test]
    fn what_is_given_up_is_not_in_the_id_any_more() {
        let mut writer = writer(false);
        let partitions = vec![place(0), place(1)];
        let reason = RevokeReason::Rebalance;
        let revoked = writer.event(&StreamEvent::Revoked { partitions, deadline: Default::default(), reason });
        assert!(text(revoked).starts_with("event: revoked\n"));
        assert!(text(writer.event(&records())).starts_with(r#"id: [{"topic":"orders","partition":0,"offset":44}]"#));
    }

    #[test]
    fn lines_and_bare_values() {
        let lines = text(writer(false).lines(&records()));
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines}");
        assert_eq!(text(writer(true).lines(&records())), "{\"a\":1}\n\"x\\ny\"\n");
    }
}
