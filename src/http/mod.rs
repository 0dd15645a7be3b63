//! HTTP: plain produce, REST v2 and v3, WebSocket, Server-Sent Events, health, and the actors seen from outside.
//!
//! ```text
//!   server      the actix-web server: start, limits, drain      produce   records in, for all doors: partitions, batches, retries
//!   doors       what every handler may use                      v1        /v1: records as they are, small JSON for scripts
//!   guard       what holds for every request                    rest_v2   /topics…, /consumers…: Confluent's REST v2
//!   body, unread   a request's body, bounded in bytes and time  stream    /v1/topics/{t}/ws and /sse
//!   problem     errors of /v1 (RFC 9457) and of REST v2         actors, health
//!   idempotency, grown   Idempotency-Key: stored once           origins   which web pages may be here (CORS)
//!   gather      single records of one turn, in one batch        hosts     the names by which this host may be called
//!   routes      one table of endpoints                          openapi   the document made of it, /docs
//!   rest_v3     /v3/clusters…: Confluent's REST v3              cluster_admin, groups, offsets   what doors ask Kafka
//!   metrics     /metrics, for Prometheus                      objects   JSON as requests have it
//! ```

mod actors;
mod body;
mod carried;
mod chunks;
mod cluster_admin;
mod door;
mod doors;
#[cfg(test)]
mod fuzz;
mod gather;
mod groups;
mod grown;
mod guard;
mod health;
mod hosts;
mod idempotency;
mod json;
mod links;
mod metrics;
mod objects;
mod offsets;
mod openapi;
mod openapi_schemas;
mod origins;
mod problem;
mod produce;
mod query;
mod rest_v2;
mod rest_v3;
mod routes;
mod server;
mod sockets;
mod stream;
mod unread;
mod v1;

pub use server::HttpServer;
pub use sockets::bind_all;
