//! Streams: a topic followed over a WebSocket, as Server-Sent Events, or as lines of JSON for `curl`.

mod body;
mod from;
mod last_event_id;
mod open;
mod sse;
mod values;
mod ws;
mod ws_frames;

use actix_web::web;

use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    let refused = || web::to(problem::no_such_method);
    config
        .service(web::resource("/v1/topics/{topic}/ws").get(ws::open).default_service(refused()))
        .service(web::resource("/v1/topics/{topic}/sse").get(sse::open).default_service(refused()));
}
