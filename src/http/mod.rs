//! HTTP: plain produce, REST v2, WebSocket, Server-Sent Events, health, and the actors seen from outside.

mod sockets;

pub use sockets::bind_all;

use std::net::TcpListener;

use capek_actors::broker::RunningBroker;

/// The HTTP server of one broker.
pub struct HttpServer {}

impl HttpServer {
    pub fn start(_broker: &RunningBroker, _sockets: Vec<TcpListener>) -> std::io::Result<HttpServer> {
        Ok(HttpServer {})
    }

    pub async fn stop(self) {}
}
