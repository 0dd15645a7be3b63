//! The envelope of every REST v3 answer: what it is, where it is, and where its relatives are.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::doors::Doors;
use super::super::links;
use super::super::problem::RestError;

pub type Answer = Result<HttpResponse, RestError>;

/// The cluster of a request: links begin with its address, names with its id.
pub struct Cluster {
    pub id: String,
    /// `http://host/v3/clusters/ID`, by the way that the client came.
    pub url: String,
}

impl Cluster {
    pub fn own(request: &HttpRequest, doors: &Doors) -> Cluster {
        let id = doors.broker().cluster_id.clone();
        Cluster { url: format!("{}/{}", clusters_url(request), links::segment(&id)), id }
    }

    /// Segments of a path below the cluster, each escaped.
    pub fn link(&self, segments: &[&str]) -> String {
        let mut link = self.url.clone();
        for segment in segments {
            link.push('/');
            link.push_str(&links::segment(segment));
        }
        link
    }

    pub fn related(&self, segments: &[&str]) -> Value {
        json!({ "related": self.link(segments) })
    }

    /// `names` are the parts of its resource name, `[("topic", "t"), ("partition", "0")]`.
    pub fn resource(&self, kind: &str, path: &[&str], names: &[(&str, &str)], fields: Value) -> Value {
        let mut name = format!("crn:///kafka={}", links::segment(&self.id));
        for (kind, part) in names {
            name.push_str(&format!("/{kind}={}", links::segment(part)));
        }
        let mut resource = Map::new();
        resource.insert("kind".to_owned(), json!(kind));
        resource.insert("metadata".to_owned(), json!({ "self": self.link(path), "resource_name": name }));
        resource.insert("cluster_id".to_owned(), json!(self.id));
        if let Value::Object(fields) = fields {
            resource.extend(fields);
        }
        Value::Object(resource)
    }

    pub fn list(&self, kind: &str, path: &[&str], data: Vec<Value>) -> Value {
        list(kind, &self.link(path), data)
    }
}

#[derive(Deserialize)]
struct Asked {
    cluster_id: String,
}

/// That of the path. There is one; any other id is not found.
impl FromRequest for Cluster {
    type Error = RestError;
    type Future = Ready<Result<Cluster, RestError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let doors = request.app_data::<web::Data<Doors>>().expect("every worker has it");
        // An id is whatever it was set to: `match_info` would leave a part of it escaped.
        let path = web::Path::<Asked>::from_request(request, payload).into_inner();
        let id = path.map_or_else(|_| String::new(), |path| path.into_inner().cluster_id);
        ready(match id == doors.broker().cluster_id {
            true => Ok(Cluster::own(request, doors)),
            false => Err(RestError::new(404, format!("Cluster {id} cannot be found."))),
        })
    }
}

/// `http://host/v3/clusters`, or with the prefix of Confluent's server.
pub fn clusters_url(request: &HttpRequest) -> String {
    let mount = if request.path().starts_with("/kafka/") { "/kafka/v3" } else { "/v3" };
    format!("{}{mount}/clusters", links::base_url(request))
}

pub fn list(kind: &str, url: &str, data: Vec<Value>) -> Value {
    json!({ "kind": kind, "metadata": { "self": url, "next": null }, "data": data })
}

pub fn ok(body: &Value) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(body.to_string())
}

pub fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// The words of REST v3 for a topic or a partition that there is not.
pub fn no_such_partition() -> RestError {
    RestError::new(40403, "This server does not host this topic-partition.")
}
