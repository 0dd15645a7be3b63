//! Streams: topics followed, and written, over a WebSocket; topics followed as Server-Sent Events, or as lines of JSON for `curl`.
//!
//! ```text
//!   options,    what a subscription may say         frames, bin_frames   what clients are told       sse, events    without a WebSocket
//!   wanted      and what it comes to
//!   open        where it begins                     commands             what they ask for           acks           for members elsewhere
//!   token       where it goes on                    produce_frames       records that they bring     ws, ws_client  the upgrade, the socket
//! ```

mod acks;
mod bin_frames;
mod body;
mod commands;
mod events;
mod frames;
mod from;
mod last_event_id;
mod open;
mod options;
mod produce_frames;
mod sse;
mod token;
mod values;
mod wanted;
mod ws;
mod ws_client;

use actix_web::web;

use self::options::{COMMON, OF_CREDIT, OF_EVENTS, OF_MEMBER, OF_RANGE, OF_SOCKET};
use super::routes::{self, Answer, Endpoint};

pub use capek_actors::stream_places::StartAt;
pub use from::parse as parse_place;
pub use open::now_ms;
pub use values::{Formats, put_record, put_value};

/// For those who accept them.
const AS_LINES: &[Answer] = &[Answer { status: 200, media_type: Some("application/x-ndjson"), schema: "Text" }];

#[rustfmt::skip] // a table, one endpoint after the other
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/v1/stream/ws", || web::get().to(ws::open), "A WebSocket for subscriptions, groups and records to store")
        .query(&["heartbeat_ms", "session"]).answers(101, "text/plain", "Text"),
    Endpoint::get("/v1/topics/{topic}/ws", || web::get().to(ws::open_topic), "Follows a topic over a WebSocket")
        .queries([COMMON, OF_RANGE, OF_CREDIT, OF_SOCKET]).answers(101, "text/plain", "Text"),
    Endpoint::get("/v1/groups/{group}/ws", || web::get().to(ws::open_group), "Reads as a member of a group over a WebSocket")
        .queries([COMMON, OF_MEMBER, OF_CREDIT, &[]]).answers(101, "text/plain", "Text"),
    Endpoint::get("/v1/topics/{topic}/produce/ws", || web::get().to(ws::open_producer), "Stores records over a WebSocket")
        .query(&["heartbeat_ms", "session"]).answers(101, "text/plain", "Text"),
    Endpoint::get("/v1/topics/{topic}/sse", || web::get().to(sse::open_topic), "Follows a topic as Server-Sent Events, or as lines of JSON for those who accept them")
        .queries([COMMON, OF_RANGE, OF_EVENTS, &[]]).headers(&["Last-Event-ID"]).answers(200, "text/event-stream", "Text").also(AS_LINES),
    Endpoint::get("/v1/groups/{group}/sse", || web::get().to(sse::open_group), "Reads as a member of a group, as Server-Sent Events or as lines of JSON")
        .queries([COMMON, OF_MEMBER, OF_EVENTS, &[]]).headers(&["Last-Event-ID"]).answers(200, "text/event-stream", "Text").also(AS_LINES),
    Endpoint::post("/v1/groups/{group}/ack", || web::post().to(acks::post), "Acknowledges records that a stream of a group has sent")
        .body(&["application/json"], "V1Acks").answers(200, "application/json", "V1Acked"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

/// For the fuzzer: whatever this is, it is answered.
#[cfg(test)]
pub fn read_any(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = (parse_place(text, 1_700_000_000_000), last_event_id::parse(text), token::parse(text));
        if let Ok(query) = super::query::QueryPairs::parse(text) {
            let _ = options::Options::of(&query).and_then(options::Options::wanted);
        }
    }
    let _ = commands::parse(input, Some("orders"));
    let _ = produce_frames::parse(input, None);
    let _ = bin_frames::parse(bytes::Bytes::copy_from_slice(input));
    let mut out = Vec::new();
    for format in [values::Format::Auto, values::Format::Json, values::Format::Hex, values::Format::Base64] {
        put_value(&mut out, Some(input), format);
    }
}
