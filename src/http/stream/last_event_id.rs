//! What a client of Server-Sent Events has seen: `Last-Event-ID`. The offsets in it are the next ones to send.
//!
//! ```text
//! [{"topic":"orders","partition":0,"offset":44},{"topic":"orders","partition":1,"timestamp":1700000000000}]
//! orders:0:44,orders:1:9          the short form, which we use beyond 16 partitions
//! earliest
//! ```

use std::collections::BTreeMap;

use capek_actors::stream_events::StreamPlace;
use capek_actors::stream_places::StartAt;
use capek_wire::ids::{Offset, PartitionIndex};
use serde::Deserialize;

use super::super::json;
use super::super::objects;

/// Beyond this the id takes the short form: it travels with each event.
const LONG_FORM_PARTITIONS_MAX: usize = 16;

/// Where each partition goes on.
pub type Places = BTreeMap<StreamPlace, StartAt>;

#[derive(Deserialize)]
struct Entry {
    topic: String,
    partition: PartitionIndex,
    offset: Option<Offset>,
    timestamp: Option<i64>,
}

/// What an id says; nothing for `earliest`, where every partition begins at its first record.
pub fn parse(id: &str) -> Result<Places, String> {
    let id = id.trim();
    if id == "earliest" {
        return Ok(Places::new());
    }
    if id.starts_with('[') {
        let entries: Vec<Entry> = objects::from_str(id).map_err(|error| format!("Last-Event-ID: {error}"))?;
        return entries.into_iter().map(place).collect();
    }
    let mut places = Places::new();
    for item in id.split(',') {
        // A topic's name has no colon in it.
        let mut parts = item.trim().splitn(3, ':');
        let place = (|| Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))();
        let (topic, partition, offset): (&str, PartitionIndex, Offset) = place
            .filter(|(_, _, offset)| *offset >= 0)
            .ok_or_else(|| format!("Last-Event-ID: '{item}' is no place"))?;
        places.insert(StreamPlace::new(topic, partition), StartAt::Offset(offset));
    }
    Ok(places)
}

fn place(entry: Entry) -> Result<(StreamPlace, StartAt), String> {
    let place = StreamPlace::new(&entry.topic, entry.partition);
    match (entry.offset, entry.timestamp) {
        (Some(offset), _) if offset >= 0 => Ok((place, StartAt::Offset(offset))),
        (None, Some(timestamp)) if timestamp >= 0 => Ok((place, StartAt::Time(timestamp))),
        _ => Err(format!("Last-Event-ID: partition {} has neither offset nor timestamp", entry.partition)),
    }
}

/// Appends the id for these next offsets.
pub fn put(out: &mut Vec<u8>, next: &BTreeMap<StreamPlace, Offset>) {
    if next.len() <= LONG_FORM_PARTITIONS_MAX {
        return put_long(out, next);
    }
    for (index, (StreamPlace { topic, partition }, offset)) in next.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        out.extend_from_slice(format!("{comma}{topic}:{partition}:{offset}").as_bytes());
    }
}

/// The form in JSON.
fn put_long(out: &mut Vec<u8>, next: &BTreeMap<StreamPlace, Offset>) {
    out.push(b'[');
    for (index, (StreamPlace { topic, partition }, offset)) in next.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"topic\":" } else { b",{\"topic\":" });
        json::put_string(out, topic);
        out.extend_from_slice(format!(",\"partition\":{partition},\"offset\":{offset}}}").as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(partitions: i32) -> String {
        let next = |partition| (StreamPlace::new("orders", partition), 40 + Offset::from(partition));
        let mut out = Vec::new();
        put(&mut out, &(0..partitions).map(next).collect());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_says_what_comes_next_and_is_read_back() {
        assert_eq!(text(1), r#"[{"topic":"orders","partition":0,"offset":40}]"#);
        for partitions in [1, 16, 17, 200] {
            let places = parse(&text(partitions)).unwrap();
            assert_eq!(places.len(), partitions as usize);
            let last = StreamPlace::new("orders", partitions - 1);
            assert_eq!(places[&last], StartAt::Offset(39 + i64::from(partitions)));
        }
        assert!(text(17).starts_with("orders:0:40,orders:1:41"), "{}", text(17));
    }

    #[test]
    fn times_and_several_topics_are_understood() {
        let id = r#"[{"topic":"t","partition":1,"timestamp":5},{"topic":"u","partition":1,"offset":5}]"#;
        let (first, second) = (StreamPlace::new("t", 1), StreamPlace::new("u", 1));
        let expected = Places::from([(first, StartAt::Time(5)), (second.clone(), StartAt::Offset(5))]);
        assert_eq!(parse(id).unwrap(), expected);
        assert_eq!(parse("earliest").unwrap(), Places::new());
        assert_eq!(parse(" u:1:9").unwrap(), Places::from([(second, StartAt::Offset(9))]));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = ["", "x", "t:0", "t:x:1", "t:0:-1", "[", "[{}]", r#"[{"topic":"t","partition":0}]"#];
        for id in bad.into_iter().chain([r#"[{"topic":"t","partition":0,"offset":-1}]"#]) {
            assert!(parse(id).is_err(), "{id}");
        }
    }
}
