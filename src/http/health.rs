//! Health: is the process there, and can it be used.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::doors::Doors;
use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    for path in ["/healthz", "/livez"] {
        config.service(web::resource(path).get(alive).default_service(web::to(problem::no_such_method)));
    }
    config.service(web::resource("/readyz").get(ready).default_service(web::to(problem::no_such_method)));
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// A broker with a partition that it cannot serve is of use to all others; the reason is told, and it stays ready.
async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let broker = doors.broker();
    let offline: usize = broker.routes.topics().iter().map(|topic| topic.offline_count()).sum();
    let mut reasons = Vec::new();
    if offline > 0 {
        reasons.push(format!("{offline} partitions are offline: see the log for their files"));
    }
    if doors.is_stopping() {
        reasons.push("the broker stops".to_owned());
    }
    let status = if doors.is_stopping() { "stopping" } else { "ready" };
    let body = json!({
        "status": status,
        "node": broker.config.node_id,
        "cluster": broker.cluster_id,
        "reasons": reasons,
    });
    if doors.is_stopping() { HttpResponse::ServiceUnavailable().json(body) } else { HttpResponse::Ok().json(body) }
}
