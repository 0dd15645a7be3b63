//! `/metrics`: what there is to say of this broker, in the words of kafka_exporter, of the JMX exporter with Strimzi's and with
//! Confluent's rules, and in our own (`capek_*`).
//!
//! ```text
//!   exposition   the text: Prometheus 0.0.4, OpenMetrics 1.0       partitions   topics and partitions
//!   settings     capek.metrics.*                                   groups       consumer groups
//!   requests     HTTP's own requests and streams                   broker       everything else of Kafka
//!   process      the process and its disks
//! ```
//!
//! Almost nothing is counted for it: a scrape reads the state that is there, on a thread where it may read from the disk.

mod broker;
mod exposition;
mod groups;
mod partitions;
mod process;
mod requests;
mod settings;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::group_survey::{self, GroupSurvey};
use capek_wire::batch::{Codec, compress_at};
use tokio::sync::Semaphore;

use self::exposition::{Exposition, Format, Kind, Vocabulary};
use self::groups::Groups;
use self::partitions::Partitions;
use self::settings::Settings;
use super::doors::Doors;
use super::problem::Problem;
use super::routes::{self, Endpoint};

pub use requests::{Asked, HttpMetrics};

pub const ENDPOINTS: &[Endpoint] =
    &[Endpoint::get("/metrics", || routes::get().to(metrics), "What Prometheus reads").answers(
        200,
        "text/plain",
        "Text",
    )];

/// Scrapes that are being answered; others wait.
const SCRAPES_MAX: usize = 2;
static SCRAPES: Semaphore = Semaphore::const_new(SCRAPES_MAX);
/// Text shrinks to a tenth at the fastest already.
const GZIP_LEVEL: i32 = 1;
/// Coordinators that have not answered by then are counted as silent.
const SURVEY_WITHIN: Duration = Duration::from_secs(2);

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

async fn metrics(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let format = Format::of(accept);
    let _place = SCRAPES.acquire().await.map_err(|_| Problem::unavailable("nothing is scraped any more"))?;
    let began = Instant::now();
    let settings = Settings::of(doors.broker(), &doors.client.image());
    let survey = group_survey::survey(doors.broker(), settings.series_max, SURVEY_WITHIN).await;
    let is_gzip = takes_gzip(&request);
    let rendered = web::block(move || {
        let text = render(&doors, format, &settings, survey, began);
        if is_gzip { compress_at(Codec::Gzip, Some(GZIP_LEVEL), text.as_bytes()) } else { Ok(text.into_bytes()) }
    });
    let rendered = rendered.await.map_err(|error| Problem::unavailable(error.to_string()))?;
    let body = rendered.map_err(|error| Problem::unavailable(error.to_string()))?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(format.content_type()).insert_header((header::VARY, "Accept-Encoding"));
    if is_gzip {
        answer.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(answer.body(body))
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let lists = request.headers().get_all(header::ACCEPT_ENCODING).filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|one| {
        let (coding, quality) = one.split_once(';').unwrap_or((one, ""));
        coding.trim().eq_ignore_ascii_case("gzip") && !["q=0", "q=0.0"].contains(&quality.trim())
    })
}

fn render(doors: &Doors, format: Format, settings: &Settings, survey: GroupSurvey, began: Instant) -> String {
    let (broker, image) = (doors.broker(), doors.client.image());
    let is_controller = broker.is_controller();
    let mut out = Exposition::new(format, settings.vocabularies);
    broker::write(&mut out, broker, &image, doors.is_stopping());
    let budgets = [
        ("requests", &broker.request_budget),
        ("fetches", &broker.fetch_budget),
        ("http_bodies", &doors.bodies.budget),
    ];
    broker::write_budgets(&mut out, budgets);
    doors.metrics.write(&mut out);
    Partitions::gather(broker, &image, is_controller, settings).write(&mut out, settings.level, is_controller);
    Groups::gather(broker, survey, settings, now_ms()).write(&mut out);
    process::write(&mut out, &broker.config.data_dirs);
    let samples = out.samples();
    out.one(Vocabulary::Own, "capek_metrics_samples", Kind::Gauge, "Samples of this answer before this one.", samples);
    let help = "How long this answer took, from when its turn came.";
    let took = began.elapsed().as_secs_f64();
    out.one(Vocabulary::Own, "capek_metrics_duration_seconds", Kind::Gauge, help, took);
    out.finish()
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
