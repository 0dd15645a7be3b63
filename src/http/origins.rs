//! Which web pages of other origins may be here: none, unless `capek.http.allowed.origins` names them. A browser asks before it
//! writes (a preflight), and shows a page what it read only when the answer names the page's origin (CORS).

use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::hosts::without_port;

/// See the head of this file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    origins: Vec<String>,
}

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// What a page may send and may see beside what every page may.
const REQUEST_HEADERS: &str =
    "Content-Type, Content-Encoding, Accept, Idempotency-Key, Last-Event-ID, Prefer, Capek-Key, Capek-Partition";
const ANSWER_HEADERS: &str = "Location, Preference-Applied, Retry-After, Capek-Resumed-From";
/// For how long a browser need not ask again.
const MAX_AGE_S: &str = "600";

impl AllowedOrigins {
    pub fn parse(list: &str) -> AllowedOrigins {
        let origins = list.split(',').map(|origin| origin.trim().trim_end_matches('/').to_ascii_lowercase());
        AllowedOrigins { origins: origins.filter(|origin| !origin.is_empty()).collect() }
    }

    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }

    /// Whether a page of this host may be here, and so call us by its name: it is served by a proxy before us.
    pub fn names_host(&self, host: &str) -> bool {
        let name = without_port(host);
        let is_it = |allowed: &String| {
            allowed.split_once("://").is_some_and(|(_, of)| without_port(of).eq_ignore_ascii_case(name))
        };
        self.origins.iter().any(|allowed| allowed == "*" || is_it(allowed))
    }

    /// The page that asks, when it is one of another origin that may be here.
    pub fn page(&self, head: &RequestHead) -> Option<HeaderValue> {
        let origin = head.headers().get(header::ORIGIN)?;
        origin.to_str().is_ok_and(|origin| self.allows(origin)).then(|| origin.clone())
    }
}

/// A browser asks whether a page may send what it is about to.
pub fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS && head.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

pub fn answer_preflight(page: &HeaderValue) -> HttpResponse {
    let mut answer: HttpResponseBuilder = HttpResponse::build(StatusCode::NO_CONTENT);
    answer
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S));
    let mut answer = answer.finish();
    put(answer.headers_mut(), page.clone());
    answer
}

/// The page may see this answer. Cookies and the like stay out: there is nothing here that is known by them.
pub fn put(headers: &mut HeaderMap, page: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_allowed() {
        let check = |list: &str, origin: &str, expected: bool| {
            assert_eq!(AllowedOrigins::parse(list).allows(origin), expected, "{origin} of {list}");
        };
        check("", "http://a.example", false);
        check("", "", false);
        check("http://a.example, https://B.example:8443/", "https://b.example:8443", true);
        check("http://a.example", "http://a.example", true);
        check("http://a.example", "https://a.example", false);
        check("http://a.example", "http://a.example.evil.example", false);
        check("http://a.example", "null", false);
        check("*", "http://a.example", true);
    }

    #[test]
    fn a_host_is_named_by_its_origin() {
        let check = |list: &str, host: &str, expected: bool| {
            assert_eq!(AllowedOrigins::parse(list).names_host(host), expected, "{host} of {list}");
        };
        check("", "a.example", false);
        check("https://a.example:8443", "A.example", true);
        check("https://a.example:8443,http://b.example", "b.example:80", true);
        check("http://a.example", "evil.a.example", false);
        check("http://a.example", "", false);
        check("*", "a.example", true);
    }
}
