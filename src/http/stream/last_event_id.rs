//! What a client of Server-Sent Events has seen: `Last-Event-ID`. The offsets in it are the next ones to send.
//!
//! ```text
//! [{"topic":"orders","partition":0,"offset":44},{"topic":"orders","partition":1,"timestamp":1700000000000}]
//! orders:0:44,orders:1:9          the short form, which we use beyond 16 partitions
//! earliest
//! ```

use std::collections::BTreeMap;

use capek_wire::ids::{Offset, PartitionIndex};
use serde::Deserialize;

use super::super::json;
use super::from::From;

/// Beyond this the id takes the short form: it travels with each event.
const LONG_FORM_PARTITIONS_MAX: usize = 16;

/// Where each partition goes on.
pub type Places = BTreeMap<PartitionIndex, From>;

#[derive(Deserialize)]
struct Entry {
    topic: String,
    partition: PartitionIndex,
    offset: Option<Offset>,
    timestamp: Option<i64>,
}

/// What an id says about `topic`; nothing for `earliest`, where every partition begins at its first record.
pub fn parse(id: &str, topic: &str) -> Result<Places, String> {
    let id = id.trim();
    if id == "earliest" {
        return Ok(Places::new());
    }
    if id.starts_with('[') {
        let entries: Vec<Entry> = serde_json::from_str(id).map_err(|error| format!("Last-Event-ID: {error}"))?;
        return entries.into_iter().filter(|entry| entry.topic == topic).map(place).collect();
    }
    let mut places = Places::new();
    for item in id.split(',') {
        // A topic's name has no colon in it.
        let mut parts = item.trim().splitn(3, ':');
        let place = (|| Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))();
        let (of_topic, partition, offset): (&str, PartitionIndex, Offset) = place
            .filter(|(_, _, offset)| *offset >= 0)
            .ok_or_else(|| format!("Last-Event-ID: '{item}' is no place"))?;
        if of_topic == topic {
            places.insert(partition, From::Offset(offset));
        }
    }
    Ok(places)
}

fn place(entry: Entry) -> Result<(PartitionIndex, From), String> {
    match (entry.offset, entry.timestamp) {
        (Some(offset), _) if offset >= 0 => Ok((entry.partition, From::Offset(offset))),
        (None, Some(timestamp)) if timestamp >= 0 => Ok((entry.partition, From::Time(timestamp))),
        _ => Err(format!("Last-Event-ID: partition {} has neither offset nor timestamp", entry.partition)),
    }
}

/// Appends the id for these next offsets.
pub fn put(out: &mut Vec<u8>, topic: &str, next: &BTreeMap<PartitionIndex, Offset>) {
    if next.len() <= LONG_FORM_PARTITIONS_MAX {
        return put_long(out, topic, next);
    }
    for (index, (partition, offset)) in next.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        out.extend_from_slice(format!("{comma}{topic}:{partition}:{offset}").as_bytes());
    }
}

/// The form in JSON.
pub fn put_long(out: &mut Vec<u8>, topic: &str, next: &BTreeMap<PartitionIndex, Offset>) {
    out.push(b'[');
    for (index, (partition, offset)) in next.iter().enumerate() {
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
        let mut out = Vec::new();
        put(&mut out, "orders", &(0..partitions).map(|partition| (partition, 40 + Offset::from(partition))).collect());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_says_what_comes_next_and_is_read_back() {
        assert_eq!(text(1), r#"[{"topic":"orders","partition":0,"offset":40}]"#);
        assert!(text(17).starts_with("orders:0:40,orders:1:41,"));
        for partitions in [1, 16, 17] {
            let places = parse(&text(partitions), "orders").unwrap();
            assert_eq!(places.len(), partitions as usize);
            assert_eq!(places[&(partitions - 1)], From::Offset(39 + i64::from(partitions)));
        }
    }

    #[test]
    fn ids_of_others_are_understood() {
        let id = r#"[{"topic":"t","partition":1,"timestamp":5},{"topic":"other","partition":0,"offset":1}]"#;
        assert_eq!(parse(id, "t").unwrap(), Places::from([(1, From::Time(5))]));
        assert_eq!(parse("earliest", "t"), Ok(Places::new()));
        assert_eq!(parse("t:0:44, u:1:9", "t").unwrap(), Places::from([(0, From::Offset(44))]));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for id in ["", "7", "t:0", "t:0:-1", "t:x:1", "[", r#"[{"topic":"t","partition":0}]"#, "t:0:1,"] {
            assert!(parse(id, "t").is_err(), "{id}");
        }
    }
}
