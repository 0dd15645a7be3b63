//! Random messages of every API and version that `kafka-protocol` has: what we write, it reads and writes alike.

mod common;

use bytes::{Bytes, BytesMut};
use capek_wire::messages::{ApiVisitor, visit_apis};
use capek_wire::{ApiKey, Request};
use common::{Direction, Tally, for_every_sample};
use kafka_protocol::messages::{ApiKey as OracleKey, RequestKind, ResponseKind};

struct Oracle(Tally);

impl ApiVisitor for Oracle {
    fn visit<R: Request>(&mut self) {
        let Ok(key) = OracleKey::try_from(R::KEY.code()) else { return };
        let known = key.valid_versions();
        // It knows version 10 of these by name, but cannot read it.
        let known_max = if matches!(R::KEY, ApiKey::OffsetCommit | ApiKey::OffsetFetch) { 9 } else { known.max };
        let (low, high) = R::KEY.versions();
        for version in low.max(known.min)..=high.min(known_max) {
            for_every_sample::<R>(version, &mut self.0, |direction, bytes| echo(key, direction, bytes, version));
        }
    }
}

/// What the oracle writes after reading `bytes`.
fn echo(key: OracleKey, direction: Direction, mut bytes: Bytes, version: i16) -> Result<BytesMut, String> {
    let mut out = BytesMut::new();
    let written = match direction {
        Direction::Request => {
            RequestKind::decode(key, &mut bytes, version).and_then(|message| message.encode(&mut out, version))
        }
        Direction::Response => {
            ResponseKind::decode(key, &mut bytes, version).and_then(|message| message.encode(&mut out, version))
        }
    };
    written.map_err(|error| format!("{error:#}"))?;
    if bytes.is_empty() { Ok(out) } else { Err(format!("{} bytes left over", bytes.len())) }
}

#[test]
fn kafka_protocol_reads_and_writes_what_we_write() {
    let mut oracle = Oracle(Tally::default());
    visit_apis(&mut oracle);
    const LACKS: usize = 2; // StreamsGroupHeartbeat and StreamsGroupDescribe
    oracle.0.finish(ApiKey::all().len() - LACKS);
}
