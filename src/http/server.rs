//! The actix-web server: its start, its limits and its drain.

use std::any::Any;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_web::dev::{Extensions, ServerHandle, Service as _};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, web};
use capek_actors::broker::RunningBroker;
use capek_actors::http::{EndAllStreams, Http};
use capek_actors::local::LocalClient;
use capek_actors::stream_session::Goodbye;

use super::doors::Doors;
use super::guard::{self, Connections};
use super::{actors, health, problem, rest_v2, stream, v1};

/// One worker answers what one broker can store; more would cost memory and threads while idle.
const WORKERS: usize = 1;
const CONNECTIONS_MAX: usize = 20_000;
/// How long the first line and the headers may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long what was begun may take at a stop.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// How long streams may take to hand over their goodbye.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);
const RESTART: Goodbye = Goodbye { code: 1012, reason: "the broker stops", reconnect_after_ms: Some(500) };

/// The HTTP server of one broker.
pub struct HttpServer {
    doors: Arc<Doors>,
    /// None when HTTP is not served.
    handle: Option<ServerHandle>,
}

impl HttpServer {
    /// Serves on `sockets`, which listen already.
    pub fn start(broker: &RunningBroker, sockets: Vec<TcpListener>) -> io::Result<HttpServer> {
        let is_loopback_only =
            sockets.iter().all(|socket| socket.local_addr().is_ok_and(|address| address.ip().is_loopback()));
        let sessions = Http::new(broker.shared.clone(), broker.exit_signal("http")).start();
        let client = LocalClient::new(broker.shared.clone());
        let doors = Arc::new(Doors::new(client, sessions, is_loopback_only));
        let handle = if sockets.is_empty() { None } else { Some(listen(&doors, sockets)?) };
        Ok(HttpServer { doors, handle })
    }

    /// Streams say goodbye, what was begun is answered, and nothing new is.
    pub async fn stop(self) {
        self.doors.begin_stopping();
        // An error says that the supervisor has gone, and its sessions with it.
        let _ = self.doors.sessions.send(EndAllStreams { goodbye: RESTART, grace: GOODBYE_GRACE }).await;
        self.doors.drained(DRAIN_GRACE).await;
        if let Some(handle) = &self.handle {
            handle.stop(false).await;
        }
    }
}

fn listen(doors: &Arc<Doors>, sockets: Vec<TcpListener>) -> io::Result<ServerHandle> {
    let config = &doors.broker().config;
    let connections = Connections::new(config.connections_per_ip_max);
    let shared = web::Data::from(doors.clone());
    let factory = move || {
        let doors = shared.clone();
        App::new()
            .app_data(shared.clone())
            .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")))
            .wrap_fn(move |request, service| {
                let checked = guard::check(&doors, &request);
                let in_flight = doors.begin();
                let is_stopping = doors.is_stopping();
                let answered = checked.map_or_else(Err, |()| Ok(service.call(request)));
                async move {
                    let mut response = answered.map_err(actix_web::Error::from)?.await?;
                    if is_stopping {
                        response.response_mut().head_mut().set_connection_type(actix_http::ConnectionType::Close);
                    }
                    drop(in_flight);
                    Ok(response)
                }
            })
            .configure(routes)
    };
    let on_connect = move |io: &dyn Any, extensions: &mut Extensions| connections.opened(io, extensions);
    let mut server = actix_web::HttpServer::new(factory)
        .workers(WORKERS)
        .max_connections(config.connections_max.min(CONNECTIONS_MAX))
        .client_request_timeout(HEAD_WITHIN)
        .client_disconnect_timeout(DISCONNECT_WITHIN)
        .keep_alive(KEEP_ALIVE)
        .on_connect(on_connect)
        .disable_signals();
    for socket in sockets {
        server = server.listen(socket)?;
    }
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

fn routes(config: &mut web::ServiceConfig) {
    health::routes(config);
    actors::routes(config);
    stream::routes(config);
    v1::routes(config);
    rest_v2::routes(config);
    config.default_service(web::to(problem::no_such_path));
}
