//! Requests for what lives on one broker only, such as a consumer instance: whichever broker they come to, the one that has it
//! answers them.
//!
//! ```text
//!   client ─▶ any broker: whose is it? ──calls lane──▶ its owner: the same server, without a socket ─▶ and back
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use actix_http::{Payload, Request, h1};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::{self, MessageBody};
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::{FromRequest as _, HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use capek_actors::call_lane::CallError;
use capek_actors::call_server::CarriedHttp;
use capek_wire::ids::BrokerId;
use capek_wire::partitioner::murmur2;
use capek_wire::peer::calls::{HttpAnswer, HttpCall};
use tokio::sync::{mpsc, oneshot};

use super::body::{Size, read};
use super::doors::Doors;
use super::problem::RestError;
use super::rest_v2::{self, caller};

/// Carried requests that wait for the server of this broker; beyond it they are refused.
pub const CARRIED_MAX: usize = 256;
/// A read may wait for five minutes; its answer takes its way, too.
const ANSWERED_WITHIN: Duration = Duration::from_secs(310);
/// What says what is meant. The rest is about the connection, or of browsers, which were judged where they came in.
const CARRIED_HEADERS: [header::HeaderName; 5] =
    [header::HOST, header::CONTENT_TYPE, header::ACCEPT, header::CONTENT_ENCODING, header::USER_AGENT];

/// Of a request that came so: who carried it has looked already for whose it is.
struct Carried;

/// Whether another broker has carried it here.
pub fn is_carried(request: &impl HttpMessage) -> bool {
    request.extensions().contains::<Carried>()
}

/// The brokers that may have what this is about, the likeliest first; none: it is answered here.
pub fn asked_elsewhere(doors: &Doors, request: &ServiceRequest) -> Vec<BrokerId> {
    let Some((group, instance)) = rest_v2::instance_of_path(request.path()) else { return Vec::new() };
    if is_carried(request) {
        return Vec::new();
    }
    let here = doors.broker().config.node_id;
    let Some(owner) = rest_v2::owner_of(&instance) else {
        let homes = homes(doors, group, &instance);
        return if homes.len() > 1 { homes } else { Vec::new() };
    };
    // One that has died, or is gone, has taken its instances along: here nobody knows them either.
    let is_there = || doors.client.image().broker(owner).is_some_and(|broker| !broker.fenced);
    if owner != here && is_there() { vec![owner] } else { Vec::new() }
}

/// Where an instance with a name of its client's lives: on the first. The others may have it if the first was not there when it was made.
/// Whoever goes or comes changes nothing for the names of the others.
pub fn homes(doors: &Doors, group: &str, instance: &str) -> Vec<BrokerId> {
    let image = doors.client.image();
    let mut homes: Vec<_> = image.brokers().filter(|broker| broker.is_active()).map(|broker| broker.id).collect();
    homes.sort_by_cached_key(|id| murmur2(format!("{group}/{instance}/{id}").as_bytes()));
    homes
}

/// Has whoever has it answer it.
pub async fn carry(doors: &web::Data<Doors>, asked: Vec<BrokerId>, request: ServiceRequest) -> ServiceResponse {
    let (request, mut payload) = request.into_parts();
    let answer = match web::Payload::from_request(&request, &mut payload).await {
        Ok(payload) => match read(&request, payload, Size::Small, &doors.bodies).await {
            Ok(body) => ask_each(doors, &asked, &request, &body.bytes).await,
            Err(problem) => Err(RestError::from(problem)),
        },
        Err(error) => Err(RestError::new(400, error.to_string())),
    };
    let answer = answer.unwrap_or_else(|error| actix_web::ResponseError::error_response(&error));
    ServiceResponse::new(request, answer)
}

/// The answer of the first that knows the instance, or of the last.
async fn ask_each(
    doors: &Doors,
    asked: &[BrokerId],
    request: &HttpRequest,
    body: &Bytes,
) -> Result<HttpResponse, RestError> {
    let mut last = Err(RestError::new(50301, "no broker is there that could have this consumer instance"));
    for broker in asked {
        last = ask(doors, *broker, request, body.clone()).await;
        if !matches!(&last, Ok((answer, body)) if rest_v2::knows_no_instance(answer.status, body)) {
            break;
        }
    }
    last.map(response)
}

/// One broker's answer, as it is.
pub async fn ask_one(
    doors: &Doors,
    broker: BrokerId,
    request: &HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, RestError> {
    ask(doors, broker, request, body).await.map(response)
}

fn response((answer, bytes): (HttpAnswer, Bytes)) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = HttpResponseBuilder::new(status);
    for (name, value) in answer.headers {
        response.insert_header((name, value));
    }
    if bytes.is_empty() { response.finish() } else { response.body(bytes) }
}

/// One broker's answer to a request, with a body that may be another than it came with.
async fn ask(
    doors: &Doors,
    broker: BrokerId,
    request: &HttpRequest,
    body: Bytes,
) -> Result<(HttpAnswer, Bytes), RestError> {
    let text = |name: &HeaderName| Some((name.to_string(), request.headers().get(name)?.to_str().ok()?.to_owned()));
    let mut headers: Vec<_> = CARRIED_HEADERS.iter().filter_map(text).collect();
    // It was inflated on its way in.
    headers.retain(|(name, _)| *name != header::CONTENT_ENCODING.as_str());
    let call = HttpCall {
        ip: caller(request).ip,
        method: request.method().to_string(),
        target: request.uri().path_and_query().map_or_else(|| request.path().to_owned(), ToString::to_string),
        headers,
    };
    if broker == doors.broker().config.node_id {
        return ask_here(doors, call, body).await;
    }
    doors.client.carry_http(broker, call, body, ANSWERED_WITHIN).await.map_err(not_carried)
}

/// The same server, without a socket: as if another broker had asked.
async fn ask_here(doors: &Doors, call: HttpCall, body: Bytes) -> Result<(HttpAnswer, Bytes), RestError> {
    let stops = || RestError::new(50301, "the broker stops");
    let (reply, answered) = oneshot::channel();
    let server = doors.broker().carried_http.get().ok_or_else(stops)?;
    let too_many = |_| RestError::new(42901, "too many requests are on their way to their consumer instances");
    server.try_send(CarriedHttp { call, body, reply }).map_err(too_many)?;
    answered.await.map_err(|_| stops())
}

fn not_carried(error: CallError) -> RestError {
    let message = format!("the broker that has this consumer instance gave no answer: {error}");
    match error {
        CallError::NotSent(_) | CallError::Refused(_) => RestError::new(50301, message),
        CallError::Broken(_) | CallError::Deadline(_) | CallError::Malformed(_) => RestError::new(50401, message),
    }
}

/// Answers what other brokers carry here, until nobody can any more.
pub async fn serve<A, F, B>(app: A, doors: web::Data<Doors>, mut carried: mpsc::Receiver<CarriedHttp>)
where
    A: IntoServiceFactory<F, Request>,
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = actix_web::Error>,
    F::Service: 'static,
    F::InitError: std::fmt::Debug,
    B: MessageBody + 'static,
{
    let service = match app.into_factory().new_service(AppConfig::default()).await {
        Ok(service) => std::rc::Rc::new(service),
        Err(error) => return log::error!("what other brokers carry here cannot be served: {error:?}"),
    };
    while let Some(CarriedHttp { call, body, mut reply }) = carried.recv().await {
        let (service, open) = (service.clone(), doors.metrics.begin_carried());
        actix_rt::spawn(async move {
            let _open = open;
            let answered = tokio::select! {
                answered = answer(&*service, call, body) => answered,
                () = reply.closed() => return, // its client has gone
            };
            // It may have gone this very moment.
            let _ = reply.send(answered);
        });
    }
}

async fn answer<S, B>(service: &S, call: HttpCall, body: Bytes) -> (HttpAnswer, Bytes)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let failed = |status: u16| (HttpAnswer { status, headers: Vec::new() }, Bytes::new());
    let Some(request) = request_of(&call, body) else { return failed(400) };
    // As actix-web does before it calls its services.
    if std::future::poll_fn(|task| service.poll_ready(task)).await.is_err() {
        return failed(503);
    }
    let response = match service.call(request).await {
        Ok(response) => response.map_into_boxed_body().into_parts().1,
        Err(error) => error.error_response(),
    };
    let header = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    let headers = response.headers().iter().filter_map(header).collect();
    let status = response.status().as_u16();
    match body::to_bytes(response.into_body()).await {
        Ok(bytes) => (HttpAnswer { status, headers }, bytes),
        Err(_) => failed(500),
    }
}

fn request_of(call: &HttpCall, body: Bytes) -> Option<Request> {
    let (_, mut payload) = h1::Payload::create(true);
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.insert(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    payload.unread_data(body);
    let mut request = Request::with_payload(Payload::H1 { payload });
    let head = request.head_mut();
    head.method = Method::from_bytes(call.method.as_bytes()).ok()?;
    head.uri = call.target.parse::<Uri>().ok()?;
    head.headers = headers;
    head.peer_addr = Some(SocketAddr::new(call.ip, 0));
    request.extensions_mut().insert(Carried);
    Some(request)
}
