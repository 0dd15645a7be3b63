//! `POST …/records`: records in as JSON values that follow each other, a report out for each while the request is still open;
//! and `POST …/records:batch`.
//!
//! ```text
//!   body ──chunk──▶ Splitter ──whole values──▶ one produce for all that have come ──▶ reports (1) ──▶ response
//! ```
//!
//! While records are being stored nothing is read: the sender is held by its socket, and what is in memory is one chunk, one
//! value that is not whole, and one chunk of reports. A stream may be silent for long between two values, not within one.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_wire::batch::Codec;
use futures_core::Stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::super::body::{self, Paid, Size};
use super::super::chunks::Chunks;
use super::super::doors::Doors;
use super::super::objects;
use super::super::problem::RestError;
use super::super::produce::{NewRecord, NotStored, ProduceOptions, Stored, produce};
use super::record::{self, BadRecord, ReadyRecord, RequestRecord};
use super::resource::{Answer, Cluster};
use super::splitter::Splitter;

/// How long one request may stay open.
const OPEN_FOR_MAX: Duration = Duration::from_secs(86_400);
/// How often a stream that brings nothing looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many records of one chunk are stored at a time.
const RECORDS_AT_A_TIME: usize = 1_000;
const ENTRIES_MAX: usize = 1_000;
const ID_CHARS_MAX: usize = 80;

pub async fn post(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, topic) = path.into_inner();
    super::check_json(&request)?;
    if body::encoding(&request)? != Codec::None {
        return Err(RestError::new(415, "a stream of records is not compressed: records:batch may be"));
    }
    let (sender, reports) = Chunks::new(doors.begin());
    let stream = RecordStream {
        doors: doors.clone(),
        cluster_id: cluster.id,
        topic,
        splitter: Splitter::default(),
        begun: None,
        paid: Paid::default(),
        reports: sender,
    };
    actix_rt::spawn(stream.run(payload));
    Ok(HttpResponse::Ok().content_type("application/json").body(reports))
}

struct RecordStream {
    doors: web::Data<Doors>,
    cluster_id: String,
    topic: String,
    splitter: Splitter,
    /// When a value began that is not whole yet.
    begun: Option<Instant>,
    /// For that value, when it is large.
    paid: Paid,
    reports: Sender<Bytes>,
}

/// The stream is over, for its client's reasons or for ours.
struct Over;

impl RecordStream {
    async fn run(mut self, mut payload: web::Payload) {
        // An error is that the client has gone, or that it has been told.
        let _ = self.pump(&mut payload).await;
    }

    async fn pump(&mut self, payload: &mut web::Payload) -> Result<(), Over> {
        let opened = Instant::now();
        loop {
            let next = std::future::poll_fn(|task| Pin::new(&mut *payload).poll_next(task));
            let look = Instant::now() + LOOK_EVERY;
            match tokio::time::timeout_at(self.due().map_or(look, |due| due.min(look)), next).await {
                Ok(Some(Ok(chunk))) => {
                    self.splitter.push(&chunk);
                    self.store_whole(false).await?;
                    self.keep_rest().await?;
                }
                Ok(Some(Err(error))) => return self.end(400, &format!("the body cannot be read: {error}")).await,
                Ok(None) => return self.store_whole(true).await,
                Err(_) if self.reports.is_closed() => return Err(Over),
                Err(_) => {}
            }
            if self.doors.is_stopping() {
                return self.end(503, "the broker stops").await;
            }
            if self.due().is_some_and(|due| Instant::now() >= due) {
                return self.end(408, "the rest of a record did not come in time").await;
            }
            if opened.elapsed() >= OPEN_FOR_MAX {
                let message = "Streaming connection open for longer than allowed: Connection will be closed.";
                return self.end(408, message).await;
            }
        }
    }

    async fn store_whole(&mut self, is_last: bool) -> Result<(), Over> {
        loop {
            let mut values = Vec::new();
            while values.len() < RECORDS_AT_A_TIME {
                let value = if is_last { self.splitter.last_value() } else { self.splitter.next_value() };
                let Some(value) = value else { break };
                values.push(value);
            }
            if values.is_empty() {
                return Ok(());
            }
            self.store(values).await?;
        }
    }

    async fn store(&mut self, values: Vec<Bytes>) -> Result<(), Over> {
        let mut ready = Vec::with_capacity(values.len());
        let mut broken = None;
        for value in &values {
            // What is no JSON cannot be told from what follows it.
            if let Err(error) = serde_json::from_slice::<&RawValue>(value) {
                broken = Some(format!("Bad Request: Error processing JSON: {error}"));
                break;
            }
            ready.push(record::parse(value));
        }
        let outcomes = store(&self.doors, &self.topic, ready).await;
        let mut reports = Vec::with_capacity(outcomes.len() * 256);
        for outcome in outcomes {
            let report = match outcome {
                Ok((reported, stored)) => {
                    Value::Object(record::report(&self.cluster_id, &self.topic, &reported, &stored))
                }
                Err(bad) => failure(bad.code, &bad.message),
            };
            put_report(&mut reports, &report);
        }
        if let Some(broken) = &broken {
            put_report(&mut reports, &failure(400, broken));
        }
        // A value that was paid for is whole now, and stored. It is given back before its report is sent: when that is read is
        // for the client to choose.
        drop(values);
        (self.begun, self.paid) = (None, Paid::default());
        self.reports.send(reports.into()).await.map_err(|_| Over)?;
        if broken.is_some() { Err(Over) } else { Ok(()) }
    }

    /// When the rest of a value is due that has begun.
    fn due(&self) -> Option<Instant> {
        self.begun.map(|begun| self.doors.bodies.due(begun, self.splitter.held_bytes()))
    }

    /// A value that grows is paid for like any other body, has the same limit and the same time.
    async fn keep_rest(&mut self) -> Result<(), Over> {
        const FREE_BYTES: usize = 64 << 10;
        let held = self.splitter.held_bytes();
        if held == 0 {
            return Ok(());
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if held <= FREE_BYTES {
            return Ok(());
        }
        let bodies = &self.doors.bodies;
        let bytes_max = bodies.bytes_max(Size::Records);
        if held > bytes_max {
            return self.end(413, &format!("a record is larger than {bytes_max} bytes")).await;
        }
        match tokio::time::timeout_at(bodies.due(begun, held), self.paid.pay(&bodies.budget, held)).await {
            Ok(()) => Ok(()),
            Err(_) => self.end(429, "there is no memory for this record now").await,
        }
    }

    async fn end(&mut self, code: u32, message: &str) -> Result<(), Over> {
        // Before its client takes the report, which may be never.
        (self.splitter, self.paid) = (Splitter::default(), Paid::default());
        let mut report = Vec::new();
        put_report(&mut report, &failure(code, message));
        let _ = self.reports.send(report.into()).await;
        Err(Over)
    }
}

fn failure(code: u32, message: &str) -> Value {
    json!({ "error_code": code, "message": message })
}

fn put_report(out: &mut Vec<u8>, report: &Value) {
    out.extend_from_slice(report.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

type StoredRecord = (record::Reported, Stored);

/// An outcome for each, in their order; what is bad does not keep the others from being stored.
async fn store(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<Result<ReadyRecord, BadRecord>>,
) -> Vec<Result<StoredRecord, BadRecord>> {
    let mut good: Vec<NewRecord> = Vec::with_capacity(records.len());
    let mut outcomes: Vec<Result<record::Reported, BadRecord>> = Vec::with_capacity(records.len());
    for record in records {
        outcomes.push(record.map(|ready| {
            let (record, reported) = ready.split();
            good.push(record);
            reported
        }));
    }
    let stored =
        if good.is_empty() { Ok(Vec::new()) } else { produce(doors, topic, good, ProduceOptions::default()).await };
    let mut stored = match stored {
        Ok(stored) => stored.into_iter(),
        Err(refusal) => {
            let message = refusal.message.map(|text| text.into_owned());
            let refused = record::not_stored(&NotStored::new(refusal.code, message));
            return outcomes.into_iter().map(|outcome| outcome.and(Err(refused.clone()))).collect();
        }
    };
    let mut with_place = |reported| match stored.next() {
        Some(Ok(stored)) => Ok((reported, stored)),
        Some(Err(failed)) => Err(record::not_stored(&failed)),
        None => Err(BadRecord { code: 50002, message: "the record has no outcome".to_owned() }),
    };
    outcomes.into_iter().map(|outcome| outcome.and_then(&mut with_place)).collect()
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct EntryId {
    id: Option<String>,
}

pub async fn post_batch(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, topic) = path.into_inner();
    super::check_json(&request)?;
    let body = body::read(&request, payload, Size::Records, &doors.bodies).await?;
    let batch: Batch<'_> =
        objects::from_slice(&body.bytes).map_err(|error| RestError::new(400, format!("Bad Request: {error}")))?;
    let ids = ids(&batch.entries)?;
    let records = batch.entries.iter().map(|entry| {
        let record: Result<RequestRecord<'_>, _> = objects::from_str(entry.get());
        record
            .map_err(|error| BadRecord { code: 400, message: format!("Bad Request: {error}") })
            .and_then(record::ready)
    });
    let outcomes = store(&doors, &topic, records.collect()).await;
    let (mut successes, mut failures) = (Vec::new(), Vec::new());
    for (id, outcome) in ids.into_iter().zip(outcomes) {
        match outcome {
            Ok((reported, stored)) => {
                let mut report = serde_json::Map::from_iter([("id".to_owned(), json!(id))]);
                let of_stream = record::report(&cluster.id, &topic, &reported, &stored);
                report.extend(of_stream.into_iter().filter(|(name, _)| name != "error_code"));
                successes.push(Value::Object(report));
            }
            Err(bad) => failures.push(json!({ "id": id, "error_code": bad.code, "message": bad.message })),
        }
    }
    let body = json!({ "successes": successes, "failures": failures });
    Ok(HttpResponse::MultiStatus().content_type("application/json").body(body.to_string()))
}

/// Every entry has one, and no two the same.
fn ids(entries: &[&RawValue]) -> Result<Vec<String>, RestError> {
    const BATCH: u32 = 42208;
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return Err(RestError::new(BATCH, format!("Batch error. A batch has 1 to {ENTRIES_MAX} entries.")));
    }
    let mut ids = Vec::with_capacity(entries.len());
    let mut seen = BTreeSet::new();
    for entry in entries {
        let id = objects::from_str::<EntryId>(entry.get()).ok().and_then(|entry| entry.id);
        let id = id.filter(|id| !id.is_empty() && id.chars().count() <= ID_CHARS_MAX);
        let id = id.ok_or_else(|| {
            RestError::new(BATCH, format!("Batch error. Every entry has an id of 1 to {ID_CHARS_MAX} characters."))
        })?;
        if !seen.insert(id.clone()) {
            return Err(RestError::new(BATCH, format!("Batch error. The id {id} is not unique.")));
        }
        ids.push(id);
    }
    Ok(ids)
}
