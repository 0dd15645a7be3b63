//! The actix-web server: its start, its limits and its drain.

use std::any::Any;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_web::dev::{Extensions, ServerHandle, Service as _, ServiceRequest, ServiceResponse};
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, web};
use capek_actors::broker::RunningBroker;
use capek_actors::consumer_instances::{ConsumerInstances, EndInstances};
use capek_actors::http::{EndAllStreams, Http};
use capek_actors::local::LocalClient;
use capek_actors::stream_events::Goodbye;
use capek_wire::ids::BrokerId;
use tokio::sync::mpsc;

use super::doors::Doors;
use super::gather::Gatherer;
use super::guard::{self, ConnectionLimits, Connections};
use super::hosts::Hosts;
use super::metrics::Asked;
use super::{actors, carried, health, metrics, openapi, origins, problem, rest_v2, rest_v3, stream, unread, v1};
use crate::config::Endpoint;

/// One worker answers what one broker can store; more would cost memory and threads while idle.
const WORKERS: usize = 1;
const CONNECTIONS_MAX: usize = 20_000;
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long what was begun may take at a stop.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// How long streams may take to hand over their goodbye.
const GOODBYE_GRACE: Duration = Duration::from_secs(1);

/// The HTTP server of one broker.
pub struct HttpServer {
    doors: Arc<Doors>,
    /// None when HTTP is not served.
    handle: Option<ServerHandle>,
}

impl HttpServer {
    /// Serves on `sockets`, which listen already, as `endpoints` says.
    pub fn start(broker: &RunningBroker, endpoints: &[Endpoint], sockets: Vec<TcpListener>) -> io::Result<HttpServer> {
        let hosts = hosts(broker, endpoints, &sockets);
        let sessions = Http::new(broker.shared.clone(), broker.exit_signal("http")).start();
        let client = LocalClient::new(broker.shared.clone());
        let consumers = ConsumerInstances::new(broker.shared.clone(), broker.exit_signal("consumer-instances")).start();
        let doors = Arc::new(Doors::new(client, sessions, consumers, hosts));
        let handle = if sockets.is_empty() { None } else { Some(listen(&doors, sockets)?) };
        Ok(HttpServer { doors, handle })
    }

    fn goodbye(&self) -> Goodbye {
        let is_served_elsewhere = !self.doors.other_brokers().is_empty();
        if is_served_elsewhere { Goodbye::DRAIN } else { Goodbye::RESTART }
    }

    /// Streams say goodbye, what was begun is answered, and nothing new is.
    pub async fn stop(self) {
        self.doors.begin_stopping();
        // An error says that the supervisor has gone, and its sessions with it.
        let _ = self.doors.sessions.send(EndAllStreams { goodbye: self.goodbye(), grace: GOODBYE_GRACE }).await;
        let _ = self.doors.consumers.send(EndInstances { grace: GOODBYE_GRACE }).await;
        self.doors.drained(DRAIN_GRACE).await;
        if let Some(handle) = &self.handle {
            handle.stop(false).await;
        }
    }
}

fn hosts(broker: &RunningBroker, endpoints: &[Endpoint], sockets: &[TcpListener]) -> Hosts {
    let is_loopback = |socket: &TcpListener| socket.local_addr().is_ok_and(|address| address.ip().is_loopback());
    if !sockets.iter().all(is_loopback) {
        return Hosts::any();
    }
    let configured = endpoints.iter().map(|endpoint| endpoint.host.clone());
    let listeners = broker.shared.config.listeners.iter();
    Hosts::of_loopback(configured.chain(listeners.map(|listener| listener.advertised_host.clone())))
}

/// Who answers a request.
enum Answered<F> {
    Here(ServiceResponse),
    /// What there is most of takes the shortest way.
    Posted(ServiceRequest),
    By(F),
    /// One of the brokers that may have what it is about.
    Elsewhere(Vec<BrokerId>, ServiceRequest),
}

/// A request that has no answer yet. One whose client hangs up never has, and is counted all the same.
struct Unanswered {
    doors: web::Data<Doors>,
    asked: Option<Asked>,
}

impl Unanswered {
    fn answered(
        mut self,
        answered: Result<ServiceResponse, actix_web::Error>,
    ) -> Result<ServiceResponse, actix_web::Error> {
        let Some(asked) = self.asked.take() else { return answered };
        match answered {
            Ok(response) => Ok(self.doors.metrics.answered(&asked, response)),
            Err(error) => {
                self.doors.metrics.failed(&asked, error.as_response_error().status_code());
                Err(error)
            }
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            self.doors.metrics.hung_up(asked);
        }
    }
}

fn listen(doors: &Arc<Doors>, sockets: Vec<TcpListener>) -> io::Result<ServerHandle> {
    let config = &doors.broker().config;
    // How long the first line and the headers may take.
    let head_within = config.number(&doors.client.image(), "capek.http.header.timeout.ms");
    let head_within = Duration::from_millis(u64::try_from(head_within).unwrap_or(0).max(1));
    let beyond_loopback = config.number(&doors.client.image(), "capek.http.connections.per.ip");
    let connections = Connections::new(ConnectionLimits {
        any: config.connections_per_ip_max,
        beyond_loopback: usize::try_from(beyond_loopback).unwrap_or(usize::MAX),
    });
    let shared = web::Data::from(doors.clone());
    let factory = move || {
        let doors = shared.clone();
        App::new()
            .app_data(shared.clone())
            .app_data(Rc::new(Gatherer::default()))
            .app_data(web::PathConfig::default().error_handler(problem::no_such_place))
            .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")))
            .wrap_fn(move |mut request, service| {
                unread::hold_chunks(&mut request);
                let checked = guard::check(&doors, &request);
                let in_flight = doors.begin();
                let is_closed = doors.is_stopping() || guard::is_over_limit(&request);
                let page = doors.allowed_origins.page(request.head());
                let (asked, doors) = (Asked::of(&request), doors.clone());
                let answered = match (checked, &page) {
                    (Err(problem), _) => {
                        let refusal = problem::in_words_of(request.path(), problem);
                        Answered::Here(request.into_response(refusal))
                    }
                    (Ok(()), Some(page)) if origins::is_preflight(request.head()) => {
                        Answered::Here(request.into_response(origins::answer_preflight(page)))
                    }
                    (Ok(()), _) if v1::posted_topic(request.head()).is_some() => Answered::Posted(request),
                    (Ok(()), _) => match carried::asked_elsewhere(&doors, &request) {
                        asked if asked.is_empty() => Answered::By(service.call(request)),
                        asked => Answered::Elsewhere(asked, request),
                    },
                };
                async move {
                    let unanswered = Unanswered { doors: doors.clone(), asked: Some(asked) };
                    let answered = match answered {
                        Answered::Here(response) => Ok(response),
                        Answered::Posted(request) => Ok(v1::post_directly(request, &doors).await),
                        Answered::By(handler) => handler.await,
                        Answered::Elsewhere(asked, request) => {
                            Ok(Box::pin(carried::carry(&doors, asked, request)).await)
                        }
                    };
                    let mut response = unanswered.answered(answered)?;
                    if let Some(page) = page {
                        origins::put(response.headers_mut(), page);
                    }
                    if is_closed {
                        response.response_mut().head_mut().set_connection_type(actix_http::ConnectionType::Close);
                    }
                    drop(in_flight);
                    Ok(response)
                }
            })
            .configure(routes)
    };
    let (to_carry, carried) = mpsc::channel(carried::CARRIED_MAX);
    if doors.broker().carried_http.set(to_carry).is_ok() {
        actix_rt::spawn(carried::serve(factory(), web::Data::from(doors.clone()), carried));
    }
    let on_connect = move |io: &dyn Any, extensions: &mut Extensions| connections.opened(io, extensions);
    let mut server = actix_web::HttpServer::new(factory)
        .workers(WORKERS)
        .max_connections(config.connections_max.min(CONNECTIONS_MAX))
        .client_request_timeout(head_within)
        .client_disconnect_timeout(DISCONNECT_WITHIN)
        .keep_alive(KEEP_ALIVE)
        // A read that waits must end with its client: what it brought later would be handed to nobody, and a member of a group
        // would keep its partitions until a write fails.
        .h1_allow_half_closed(false)
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

/// The router tries one path after the other: records come first.
fn routes(config: &mut web::ServiceConfig) {
    v1::routes(config);
    rest_v2::routes(config);
    rest_v3::routes(config);
    stream::routes(config);
    health::routes(config);
    metrics::routes(config);
    actors::routes(config);
    openapi::routes(config);
    config.default_service(web::to(problem::no_such_path));
}
