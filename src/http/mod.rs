//! HTTP: plain produce, REST v2, WebSocket, Server-Sent Events, health, and the actors seen from outside.
//!
//! ```text
//!   server      the actix-web server: start, limits, drain      produce   records in, for all doors: partitions, batches, retries
//!   doors       what every handler may use                      v1        POST /v1/topics/{t}: the body is the record
//!   guard       what holds for every request                    rest_v2   /topics…: Confluent's REST v2
//!   body        a request's body, bounded in bytes and time     stream    /v1/topics/{t}/ws and /sse
//!   problem     errors of /v1 (RFC 9457) and of REST v2         actors, health
//! ```

mod actors;
mod body;
mod doors;
mod guard;
mod health;
mod json;
mod problem;
mod produce;
mod query;
mod rest_v2;
mod server;
mod sockets;
mod stream;
mod v1;

pub use server::HttpServer;
pub use sockets::bind_all;
