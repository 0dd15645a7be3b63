//! Health: is the process there, and can it be used.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::doors::Doors;
use super::routes::{self, Endpoint};

pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/healthz", || web::get().to(alive), "Whether the process lives"),
    Endpoint::get("/livez", || web::get().to(alive), "Whether the process lives"),
    Endpoint::get("/actuator/health", || web::get().to(actuator), "Whether the broker serves (Spring)"),
    Endpoint::get("/readyz", || web::get().to(ready), "Whether the broker serves, with reasons"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn actuator(doors: web::Data<Doors>) -> HttpResponse {
    if doors.is_stopping() {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "OUT_OF_SERVICE" }))
    } else {
        HttpResponse::Ok().json(json!({ "status": "UP" }))
    }
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
