//! A resume token: where a reader stands in each partition, and what the log was then. It is told in heartbeats and in the
//! goodbye, and a client that brings it back goes on there, or hears of a gap.
//!
//! ```text
//!   base64url of   u8 version (1) │ topics │ 8 bytes of a SHA-1 over all before it: a token that was cut or mistyped is refused
//!   topic          u8 length, name │ topic id (16) │ u32 count │ count × { i32 partition │ i64 next │ i32 leader epoch }
//! ```
//!
//! It holds nothing that the client may not know, and gives it no right: so it has a checksum, and no signature.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut};
use capek_actors::stream_events::{Position, StreamPlace};
use capek_wire::ids::{TopicId, Uuid};
use sha1::{Digest, Sha1};

const PREFIX: &str = "r1.";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const PARTITION_BYTES: usize = 16;
/// More would be a heartbeat of tens of kilobytes, and no line of a request: such clients resume by offsets.
const PARTITIONS_MAX: usize = 1_000;

/// None for nothing, and for too much.
pub fn of(positions: &[Position]) -> Option<String> {
    if positions.is_empty() || positions.len() > PARTITIONS_MAX {
        return None;
    }
    let mut topics: BTreeMap<(&str, TopicId), Vec<&Position>> = BTreeMap::new();
    for position in positions {
        topics.entry((&position.place.topic, position.topic_id)).or_default().push(position);
    }
    let mut bytes = vec![VERSION];
    for ((topic, topic_id), positions) in topics {
        bytes.put_u8(u8::try_from(topic.len()).ok()?);
        bytes.put_slice(topic.as_bytes());
        bytes.put_slice(&topic_id.0);
        bytes.put_u32(u32::try_from(positions.len()).ok()?);
        for position in positions {
            bytes.put_i32(position.place.partition);
            bytes.put_i64(position.next);
            bytes.put_i32(position.leader_epoch);
        }
    }
    let checksum = checksum(&bytes);
    bytes.put_slice(&checksum);
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// None: this is no token at all.
pub fn parse(text: &str) -> Result<Option<Vec<Position>>, String> {
    let Some(text) = text.strip_prefix(PREFIX) else { return Ok(None) };
    let damaged = || "resume: this token is damaged".to_owned();
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| damaged())?;
    let body_bytes = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
    let (body, found) = bytes.split_at(body_bytes);
    if checksum(body)[..] != *found || body.first() != Some(&VERSION) {
        return Err(damaged());
    }
    read(&body[1..]).map(Some).ok_or_else(damaged)
}

fn read(mut bytes: &[u8]) -> Option<Vec<Position>> {
    let mut positions = Vec::new();
    while bytes.has_remaining() {
        let name_bytes = usize::from(bytes.get_u8());
        let topic = std::str::from_utf8(bytes.get(..name_bytes)?).ok()?.to_owned();
        bytes.advance(name_bytes);
        let topic_id = Uuid(*bytes.first_chunk()?);
        bytes.advance(topic_id.0.len());
        let count = if bytes.remaining() >= 4 { bytes.get_u32() as usize } else { return None };
        if count > bytes.remaining() / PARTITION_BYTES || positions.len() + count > PARTITIONS_MAX {
            return None;
        }
        for _ in 0..count {
            let place = StreamPlace::new(&topic, bytes.get_i32());
            let (next, leader_epoch) = (bytes.get_i64(), bytes.get_i32());
            if next < 0 {
                return None;
            }
            positions.push(Position { place, topic_id, next, leader_epoch });
        }
    }
    Some(positions)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha1::digest(bytes);
    *digest.first_chunk().expect("a digest has 20 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(topic: &str, partition: i32, next: i64) -> Position {
        Position { place: StreamPlace::new(topic, partition), topic_id: Uuid([9; 16]), next, leader_epoch: 3 }
    }

    #[test]
    fn a_token_is_read_back() {
        let positions = vec![position("orders", 0, 44), position("orders", 7, 0), position("t", 0, i64::MAX)];
        let token = of(&positions).unwrap();
        assert_eq!(parse(&token), Ok(Some(positions)));
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)), "{token}");
    }

    #[test]
    fn anything_else_is_refused_or_no_token() {
        let token = of(&[position("orders", 0, 44)]).unwrap();
        for at in PREFIX.len()..token.len() {
            assert!(parse(&token[..at]).is_err(), "cut at {at}");
        }
        let other = if token.ends_with('A') { "B" } else { "A" };
        assert!(parse(&format!("{}{other}", &token[..token.len() - 1])).is_err());
        assert_eq!(parse("orders:0:44"), Ok(None));
        assert_eq!(of(&[]), None);
        let many: Vec<_> = (0..=PARTITIONS_MAX as i32).map(|partition| position("t", partition, 0)).collect();
        assert_eq!(of(&many), None);
        assert!(of(&many[1..]).is_some());
    }
}
