//! Confluent's REST v2, as interfaces from its public description: topics and produce so far.

mod produce;
mod topics;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::problem;

pub const V2_JSON: &str = "application/vnd.kafka.v2+json";

pub fn routes(config: &mut web::ServiceConfig) {
    let refused = || web::to(problem::no_such_method);
    config
        .service(web::resource("/").get(alive).post(alive).default_service(refused()))
        .service(web::resource("/topics").get(topics::list).default_service(refused()))
        .service(web::resource("/topics/{topic}").get(topics::describe).post(produce::post).default_service(refused()))
        .service(web::resource("/topics/{topic}/partitions").get(topics::partitions).default_service(refused()))
        .service(
            web::resource("/topics/{topic}/partitions/{partition}")
                .get(topics::partition)
                .post(produce::post_to_partition)
                .default_service(refused()),
        )
        .service(
            web::resource("/topics/{topic}/partitions/{partition}/offsets")
                .get(topics::offsets)
                .default_service(refused()),
        )
        .service(web::resource("/brokers").get(topics::brokers).default_service(refused()));
}

async fn alive(request: HttpRequest) -> HttpResponse {
    answer(&request).body("{}")
}

/// The type that the client accepts, of the two that Confluent answers with.
fn answer(request: &HttpRequest) -> HttpResponseBuilder {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let wants_plain = accepted.contains("application/json") && !accepted.contains(V2_JSON);
    let mut response = HttpResponse::Ok();
    response.content_type(if wants_plain { "application/json" } else { V2_JSON });
    response
}
