//! One table of endpoints: what the router serves is what `/openapi.json` tells of.

use std::collections::BTreeMap;

use actix_web::{Route, guard, web};

use super::problem;

/// One method of one path.
pub struct Endpoint {
    pub method: &'static str,
    /// In the words of both actix and OpenAPI: `/topics/{topic}`.
    pub path: &'static str,
    /// A few words; a longer sentence is not needed to find it.
    pub summary: &'static str,
    /// The names of what its query may say, in groups that others share.
    query: [&'static [&'static str]; 4],
    /// The names of the headers that mean something here.
    pub headers: &'static [&'static str],
    /// The media types and the schema of the body that it takes.
    pub body: Option<Body>,
    /// What it answers when all is well.
    pub answer: Answer,
    /// What else may be answered, that is no error of the usual form.
    pub also: &'static [Answer],
    route: fn() -> Route,
}

#[derive(Clone, Copy)]
pub struct Body {
    pub media_types: &'static [&'static str],
    /// A schema of `openapi`.
    pub schema: &'static str,
}

#[derive(Clone, Copy)]
pub struct Answer {
    pub status: u16,
    /// None: without a body.
    pub media_type: Option<&'static str>,
    pub schema: &'static str,
}

impl Endpoint {
    const fn new(method: &'static str, path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        let answer = Answer { status: 200, media_type: Some("application/json"), schema: "Any" };
        Endpoint { method, path, summary, query: [&[]; 4], headers: &[], body: None, answer, also: &[], route }
    }

    pub const fn get(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        Endpoint::new("get", path, route, summary)
    }

    pub const fn post(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        Endpoint::new("post", path, route, summary)
    }

    pub const fn put(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        Endpoint::new("put", path, route, summary)
    }

    pub const fn patch(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        Endpoint::new("patch", path, route, summary)
    }

    pub const fn delete(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
        Endpoint::new("delete", path, route, summary).nothing()
    }

    pub const fn query(self, query: &'static [&'static str]) -> Endpoint {
        self.queries([query, &[], &[], &[]])
    }

    pub const fn queries(self, query: [&'static [&'static str]; 4]) -> Endpoint {
        Endpoint { query, ..self }
    }

    /// The names of what its query may say.
    pub fn query_names(&self) -> impl Iterator<Item = &'static str> {
        self.query.into_iter().flatten().copied()
    }

    pub const fn headers(self, headers: &'static [&'static str]) -> Endpoint {
        Endpoint { headers, ..self }
    }

    pub const fn body(self, media_types: &'static [&'static str], schema: &'static str) -> Endpoint {
        Endpoint { body: Some(Body { media_types, schema }), ..self }
    }

    pub const fn answers(self, status: u16, media_type: &'static str, schema: &'static str) -> Endpoint {
        Endpoint { answer: Answer { status, media_type: Some(media_type), schema }, ..self }
    }

    pub const fn also(self, also: &'static [Answer]) -> Endpoint {
        Endpoint { also, ..self }
    }

    /// 204.
    pub const fn nothing(self) -> Endpoint {
        Endpoint { answer: Answer { status: 204, media_type: None, schema: "" }, ..self }
    }
}

/// GET, and HEAD, which has the same answer: its body is left out where it is sent. Not for what has no end, nor for a read that
/// moves somebody on.
pub fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Serves them under `prefix`, each path with all of its methods. A path with a literal where another has a name comes first
/// when it stands first in the table.
pub fn serve(config: &mut web::ServiceConfig, prefix: &str, endpoints: &[Endpoint]) {
    let mut order: Vec<&str> = Vec::new();
    let mut by_path: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        let of_path = by_path.entry(endpoint.path).or_default();
        if of_path.is_empty() {
            order.push(endpoint.path);
        }
        of_path.push(endpoint);
    }
    for path in order {
        let mut resource = web::resource(format!("{prefix}{path}"));
        for endpoint in &by_path[path] {
            resource = resource.route((endpoint.route)());
        }
        config.service(resource.default_service(web::to(problem::no_such_method)));
    }
}
