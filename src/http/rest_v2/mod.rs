//! Confluent's REST v2, as interfaces from its public description, and what Strimzi's bridge adds to it.
//!
//! ```text
//!   topics      what there is                     consumers     consumer instances: made, found, deleted
//!   produce     records in                        subscription  what an instance reads
//!   records     records out                       offsets       what a group has committed, and where it reads on
//!   formats     JSON, binary and text             admin         Strimzi's additions
//! ```

mod admin;
mod consumers;
mod formats;
mod offsets;
mod produce;
mod records;
mod subscription;
mod topics;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::de::DeserializeOwned;

use super::body::{self, Size};
use super::doors::Doors;
use super::objects;
use super::problem::RestError;
use super::routes::{self, Endpoint};

pub use consumers::{caller, instance_of_path, knows_no_instance, owner_of};

pub const V2_JSON: &str = "application/vnd.kafka.v2+json";
const JSON_TYPES: &[&str] = &[V2_JSON, "application/json"];
const RECORD_TYPES: &[&str] = &[
    "application/vnd.kafka.json.v2+json",
    "application/vnd.kafka.binary.v2+json",
    "application/vnd.kafka.text.v2+json",
    "application/json",
];

const INSTANCE: &str = "/consumers/{group}/instances/{instance}";

macro_rules! of_instance {
    ($rest:literal) => {
        concat!("/consumers/{group}/instances/{instance}", $rest)
    };
}

pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/", || routes::get().to(alive), "Whether somebody answers"),
    Endpoint::post("/", || web::post().to(alive), "Whether somebody answers"),
    Endpoint::get("/topics", || routes::get().to(topics::list), "The names of all topics")
        .answers(200, V2_JSON, "Names"),
    Endpoint::get("/topics/{topic}", || routes::get().to(topics::describe), "A topic, its configs and partitions")
        .answers(200, V2_JSON, "V2Topic"),
    Endpoint::post("/topics/{topic}", || web::post().to(produce::post), "Stores records")
        .query(&["async"])
        .body(RECORD_TYPES, "V2Produce")
        .answers(200, V2_JSON, "V2Produced"),
    Endpoint::get("/topics/{topic}/partitions", || routes::get().to(topics::partitions), "A topic's partitions")
        .answers(200, V2_JSON, "V2Partitions"),
    Endpoint::get("/topics/{topic}/partitions/{partition}", || routes::get().to(topics::partition), "A partition")
        .answers(200, V2_JSON, "V2Partition"),
    Endpoint::post(
        "/topics/{topic}/partitions/{partition}",
        || web::post().to(produce::post_to_partition),
        "Stores records in one partition",
    )
    .query(&["async"])
    .body(RECORD_TYPES, "V2Produce")
    .answers(200, V2_JSON, "V2Produced"),
    Endpoint::get(
        "/topics/{topic}/partitions/{partition}/offsets",
        || routes::get().to(topics::offsets),
        "Where a partition begins and ends",
    )
    .answers(200, V2_JSON, "V2PartitionOffsets"),
    Endpoint::get(
        "/topics/{topic}/partitions/{partition}/records",
        || routes::get().to(records::of_partition),
        "Reads records from an offset on, without a consumer",
    )
    .query(&["offset", "timeout", "max_bytes"])
    .answers(200, "application/vnd.kafka.binary.v2+json", "V2Records"),
    Endpoint::get("/brokers", || routes::get().to(topics::brokers), "The ids of all brokers").answers(
        200,
        V2_JSON,
        "V2Brokers",
    ),
    Endpoint::post("/consumers/{group}", || web::post().to(consumers::create), "Makes a consumer instance")
        .body(JSON_TYPES, "V2CreateConsumer")
        .answers(200, V2_JSON, "V2Consumer"),
    Endpoint::delete(INSTANCE, || web::delete().to(consumers::delete), "Ends a consumer instance"),
    Endpoint::post(of_instance!("/subscription"), || web::post().to(subscription::subscribe), "Subscribes to topics")
        .body(JSON_TYPES, "V2Subscription")
        .nothing(),
    Endpoint::get(
        of_instance!("/subscription"),
        || routes::get().to(subscription::describe),
        "The topics subscribed to",
    )
    .answers(200, V2_JSON, "V2Topics"),
    Endpoint::delete(of_instance!("/subscription"), || web::delete().to(subscription::unsubscribe), "Unsubscribes"),
    Endpoint::post(of_instance!("/assignments"), || web::post().to(subscription::assign), "Reads these partitions")
        .body(JSON_TYPES, "V2Places")
        .nothing(),
    Endpoint::get(
        of_instance!("/assignments"),
        || routes::get().to(subscription::assignments),
        "The partitions it reads",
    )
    .answers(200, V2_JSON, "V2Places"),
    Endpoint::get(
        of_instance!("/records"),
        || web::get().to(records::of_instance),
        "Reads on; waits for the first record",
    )
    .query(&["timeout", "max_bytes"])
    .answers(200, "application/vnd.kafka.binary.v2+json", "V2Records"),
    Endpoint::post(of_instance!("/offsets"), || web::post().to(offsets::commit), "Commits offsets")
        .query(&["async"])
        .body(JSON_TYPES, "V2Offsets")
        .answers(200, V2_JSON, "Nothing"),
    Endpoint::get(of_instance!("/offsets"), || routes::get().to(offsets::committed), "What the group has committed")
        .query(&["partitions"])
        .answers(200, V2_JSON, "V2Offsets"),
    Endpoint::post(
        of_instance!("/positions"),
        || web::post().to(offsets::seek),
        "Reads on from these offsets or times",
    )
    .body(JSON_TYPES, "V2Positions")
    .nothing(),
    Endpoint::post(
        of_instance!("/positions/beginning"),
        || web::post().to(offsets::seek_to_beginning),
        "Reads on from the beginning",
    )
    .body(JSON_TYPES, "V2Places")
    .nothing(),
    Endpoint::post(of_instance!("/positions/end"), || web::post().to(offsets::seek_to_end), "Reads on from the end")
        .body(JSON_TYPES, "V2Places")
        .nothing(),
    Endpoint::post("/admin/topics", || web::post().to(admin::create_topic), "Creates a topic (Strimzi)")
        .body(JSON_TYPES, "StrimziCreateTopic")
        .answers(201, V2_JSON, "Empty"),
    Endpoint::get("/healthy", || routes::get().to(admin::healthy), "Whether the process lives (Strimzi)").nothing(),
    Endpoint::get("/ready", || routes::get().to(admin::ready), "Whether the broker serves (Strimzi)").nothing(),
    Endpoint::get("/status/ready", || routes::get().to(admin::status_ready), "Whether the broker serves (Redpanda)"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

async fn alive(request: HttpRequest) -> HttpResponse {
    answer(&request).body("{}")
}

/// The type that the client accepts, of the two that Confluent answers with.
fn answer(request: &HttpRequest) -> HttpResponseBuilder {
    let accepted = accepted(request);
    let wants_plain = accepted.contains("application/json") && !accepted.contains(V2_JSON);
    let mut response = HttpResponse::Ok();
    response.content_type(if wants_plain { "application/json" } else { V2_JSON });
    response
}

fn accepted(request: &HttpRequest) -> &str {
    request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn media_type(request: &HttpRequest) -> &str {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// The body of anything but records; None: there is none.
async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    doors: &Doors,
) -> Result<Option<T>, RestError> {
    let body = body::read(request, payload, Size::Small, &doors.bodies).await?;
    if body.bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // curl says this of `-d` by itself, and Confluent takes JSON where nothing is said.
    if !["", "*/*", "application/x-www-form-urlencoded"].contains(&media_type(request))
        && !JSON_TYPES.contains(&media_type(request))
    {
        return Err(RestError::new(415, "HTTP 415 Unsupported Media Type"));
    }
    match objects::from_slice(&body.bytes) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_data() => Err(RestError::new(422, error.to_string())),
        Err(error) => Err(RestError::new(400, error.to_string())),
    }
}

fn missing_body() -> RestError {
    RestError::new(422, "the body must not be empty")
}

/// For the fuzzer: whatever this is, it is answered.
#[cfg(test)]
pub fn read_any(input: &[u8]) {
    for format in [formats::Format::Json, formats::Format::Binary, formats::Format::Text] {
        let _ = produce::parse(input, format);
    }
}
