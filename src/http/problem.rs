//! Errors: `application/problem+json` (RFC 9457) for our own paths, Confluent's body for those of REST v2.

use std::fmt;

use actix_web::error::PathError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use capek_actors::consumer_commands::InstanceError;
use capek_actors::stream_events::Goodbye;
use capek_state::Refusal;
use capek_wire::error_code::ErrorCode;
use serde_json::json;

use super::cluster_admin::Refused;
use super::json;
use super::produce::NotStored;

/// An error of `/v1`, or one that comes before any path is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub detail: String,
    /// Kafka's code, when it is one of Kafka's errors.
    pub code: Option<ErrorCode>,
    /// Whether it may go away by itself.
    pub is_retriable: bool,
    /// Where the JSON is wrong.
    pub position: Option<JsonPosition>,
}

/// A place in a body, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonPosition {
    pub line: usize,
    pub column: usize,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), code: None, is_retriable: false, position: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    pub fn too_many(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// One of Kafka's errors; without a message of its own it has the code's.
    pub fn kafka(code: ErrorCode, message: Option<String>) -> Problem {
        let detail = message.unwrap_or_else(|| code.message().to_owned());
        let is_retriable = code.is_retriable();
        Problem { status: status_of(code), detail, code: Some(code), is_retriable, position: None }
    }

    /// Of a topic that is there.
    pub fn no_such_partition(detail: String) -> Problem {
        Problem { is_retriable: false, ..Problem::kafka(ErrorCode::UnknownTopicOrPartition, Some(detail)) }
    }

    /// In the numbers of REST, which frames of a WebSocket have, too.
    pub fn error_code(&self) -> u32 {
        match self.code {
            Some(ErrorCode::UnknownTopicOrPartition) if !self.is_retriable => PARTITION_NOT_FOUND,
            Some(code) => RestError::kafka(code, None).error_code,
            None => self.status.as_u16().into(),
        }
    }

    /// JSON that cannot be read, or is not what was to come; `line_offset` is how many lines of the body come before it.
    pub fn json(error: &serde_json::Error, line_offset: usize) -> Problem {
        let position = JsonPosition { line: error.line() + line_offset, column: error.column() };
        let what = json::what_is_wrong(error);
        let problem = if error.is_data() { "this JSON does not fit" } else { "this is not JSON" };
        let detail = format!("{problem}: {what} at line {} column {}", position.line, position.column);
        Problem { position: Some(position), ..Problem::bad_request(detail) }
    }

    /// The body, as it also stands in a line of NDJSON.
    pub fn body(&self) -> serde_json::Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(code) = self.code {
            body["error"] = json!(code.name());
            body["retriable"] = json!(self.is_retriable);
        }
        if let Some(position) = self.position {
            body["position"] = json!({ "line": position.line, "column": position.column });
        }
        body
    }
}

/// Kafka's errors in HTTP's words.
pub fn status_of(code: ErrorCode) -> StatusCode {
    use ErrorCode as Code;
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopicId | Code::GroupIdNotFound => StatusCode::NOT_FOUND,
        Code::TopicAlreadyExists | Code::NonEmptyGroup | Code::ReassignmentInProgress => StatusCode::CONFLICT,
        Code::TopicDeletionDisabled => StatusCode::FORBIDDEN,
        Code::ThrottlingQuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::MessageTooLarge | Code::RecordListTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::InvalidTopicException
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidRequiredAcks
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::InvalidReplicaAssignment
        | Code::InvalidRequest
        | Code::InvalidGroupId
        | Code::OffsetOutOfRange
        | Code::OffsetMetadataTooLarge
        | Code::UnsupportedVersion
        | Code::CorruptMessage => StatusCode::BAD_REQUEST,
        Code::OutOfOrderSequenceNumber => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RequestTimedOut => StatusCode::GATEWAY_TIMEOUT,
        Code::KafkaStorageError | Code::NotController => StatusCode::SERVICE_UNAVAILABLE,
        _ if code.is_retriable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::kafka(refusal.code, refusal.message.map(|message| message.into_owned()))
    }
}

impl From<&NotStored> for Problem {
    fn from(not_stored: &NotStored) -> Problem {
        let NotStored { code, message, is_retriable } = not_stored;
        Problem { is_retriable: *is_retriable, ..Problem::kafka(*code, message.clone()) }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        Problem::kafka(refused.code, Some(refused.message))
    }
}

impl From<InstanceError> for Problem {
    fn from(error: InstanceError) -> Problem {
        Refused::from(error).into()
    }
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Problem {
        Problem::kafka(code, None)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        respond(self.status, "application/problem+json", &self.body())
    }
}

/// An error of REST v2: `{"error_code":40401,"message":"Topic not found."}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestError {
    pub status: StatusCode,
    pub error_code: u32,
    pub message: String,
}

impl RestError {
    /// The status is the first three digits of the code.
    pub fn new(error_code: u32, message: impl Into<String>) -> RestError {
        let digits = if error_code >= 1000 { error_code / 100 } else { error_code };
        let status = u16::try_from(digits).ok().and_then(|digits| StatusCode::from_u16(digits).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        RestError { status, error_code, message: message.into() }
    }

    pub fn topic_not_found() -> RestError {
        RestError::new(40401, "Topic not found.")
    }

    pub fn partition_not_found() -> RestError {
        RestError::new(PARTITION_NOT_FOUND, "Partition not found.")
    }

    /// For an error that concerns the whole request.
    pub fn kafka(code: ErrorCode, message: Option<String>) -> RestError {
        let message = message.unwrap_or_else(|| code.message().to_owned());
        match code {
            ErrorCode::UnknownTopicOrPartition => RestError::topic_not_found(),
            ErrorCode::InvalidTopicException
            | ErrorCode::PolicyViolation
            | ErrorCode::InvalidReplicationFactor
            | ErrorCode::InvalidPartitions
            | ErrorCode::InvalidReplicaAssignment
            | ErrorCode::InvalidConfig
            | ErrorCode::InvalidRequest
            | ErrorCode::TopicAlreadyExists
            | ErrorCode::SecurityDisabled
            | ErrorCode::OffsetOutOfRange
            | ErrorCode::InvalidGroupId
            | ErrorCode::TopicDeletionDisabled
            | ErrorCode::UnsupportedVersion => RestError::new(40002, message),
            ErrorCode::LeaderNotAvailable => RestError::new(40404, message),
            ErrorCode::GroupIdNotFound => RestError::new(40405, "Consumer group id not found."),
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => RestError::new(413, message),
            ErrorCode::ThrottlingQuotaExceeded => RestError::new(42901, message),
            _ => RestError {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..RestError::new(record_code(code.is_retriable()), message)
            },
        }
    }
}

const PARTITION_NOT_FOUND: u32 = 40402;

/// The code of a single record that was not stored.
pub fn record_code(is_retriable: bool) -> u32 {
    if is_retriable { 50003 } else { 50002 }
}

impl fmt::Display for RestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl ResponseError for RestError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let body = json!({ "error_code": self.error_code, "message": self.message });
        respond(self.status, "application/json", &body)
    }
}

impl From<Refused> for RestError {
    fn from(refused: Refused) -> RestError {
        RestError::kafka(refused.code, Some(refused.message))
    }
}

/// What `/v1` says of a failure in reading the body, in REST v2's words.
impl From<Problem> for RestError {
    fn from(problem: Problem) -> RestError {
        let error_code = match problem.status {
            StatusCode::FORBIDDEN => 40301,
            StatusCode::TOO_MANY_REQUESTS => 42901,
            status => status.as_u16().into(),
        };
        RestError { status: problem.status, error_code, message: problem.detail }
    }
}

fn respond(status: StatusCode, content_type: &str, body: &serde_json::Value) -> HttpResponse {
    const RETRY_AFTER_S: &str = "1";
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, content_type));
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER_S));
    }
    if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
        response.force_close(); // what was not read of the body is not waited for
    }
    response.body(body.to_string())
}

/// Our own paths and Confluent's each have their own kind of error.
pub fn in_words_of(path: &str, problem: Problem) -> HttpResponse {
    if path.starts_with("/v1/") { problem.error_response() } else { RestError::from(problem).error_response() }
}

fn refuse(request: &HttpRequest, status: StatusCode) -> HttpResponse {
    let reason = status.canonical_reason().unwrap_or("Error");
    let detail = if request.path().starts_with("/v1/") {
        format!("{} {}: {}", request.method(), request.path(), reason.to_lowercase())
    } else {
        format!("HTTP {} {reason}", status.as_u16())
    };
    in_words_of(request.path(), Problem::new(status, detail))
}

/// A part of the path that should be a number and is none.
pub fn no_such_place(_: PathError, request: &HttpRequest) -> actix_web::Error {
    let answer = refuse(request, StatusCode::NOT_FOUND);
    actix_web::error::InternalError::from_response("no such place", answer).into()
}

pub async fn no_such_path(request: HttpRequest) -> HttpResponse {
    refuse(&request, StatusCode::NOT_FOUND)
}

pub async fn no_such_method(request: HttpRequest) -> HttpResponse {
    refuse(&request, StatusCode::METHOD_NOT_ALLOWED)
}

/// Why a stream ended, for those who are told in JSON.
pub fn goodbye_body(goodbye: &Goodbye) -> serde_json::Value {
    let mut body = json!({ "code": goodbye.code, "reason": goodbye.reason });
    if let Some(after_ms) = goodbye.reconnect_after_ms {
        body["reconnect_after_ms"] = json!(after_ms);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_json_is_told_with_its_place_in_the_body() {
        let error = serde_json::from_str::<serde_json::Value>("{\"n\":").unwrap_err();
        let problem = Problem::json(&error, 1);
        assert_eq!(problem.position, Some(JsonPosition { line: 2, column: 5 }));
        assert_eq!(problem.detail, "this is not JSON: EOF while parsing a value at line 2 column 5");
        assert_eq!(problem.body()["position"], json!({"line": 2, "column": 5}));
        let error = serde_json::from_str::<Vec<u8>>("[\"n\"]").unwrap_err();
        assert!(Problem::json(&error, 0).detail.starts_with("this JSON does not fit: invalid type"), "{error}");
    }

    #[test]
    fn a_partition_that_is_not_there_is_not_waited_for() {
        let check = |problem: Problem, error_code: u32, is_retriable: bool| {
            assert_eq!((problem.error_code(), problem.body()["retriable"].clone()), (error_code, json!(is_retriable)));
            assert_eq!(problem.status, StatusCode::NOT_FOUND);
        };
        check(Problem::no_such_partition("m".to_owned()), 40402, false);
        check(Problem::kafka(ErrorCode::UnknownTopicOrPartition, None), 40401, true);
    }

    #[test]
    fn a_code_of_rest_v2_begins_with_its_status() {
        for (code, status) in [(40401, 404), (422, 422), (42206, 422), (50003, 500), (415, 415)] {
            assert_eq!(RestError::new(code, "").status.as_u16(), status, "{code}");
        }
    }

    #[test]
    fn kafkas_errors_have_a_status() {
        let check = |code, status: u16| assert_eq!(status_of(code).as_u16(), status, "{code:?}");
        check(ErrorCode::UnknownTopicOrPartition, 404);
        check(ErrorCode::MessageTooLarge, 413);
        check(ErrorCode::NotLeaderOrFollower, 503);
        check(ErrorCode::KafkaStorageError, 503);
        check(ErrorCode::NotEnoughReplicas, 503);
        check(ErrorCode::RequestTimedOut, 504);
        check(ErrorCode::UnknownServerError, 500);
    }
}
