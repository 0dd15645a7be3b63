//! Health: is the process there, and should clients come here.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use capek_actors::broker::BrokerShared;
use capek_state::cluster::Broker;
use serde_json::json;

use super::doors::Doors;
use super::routes::{self, Answer, Endpoint};

const J: &str = "application/json";
const NOT_READY: &[Answer] = &[Answer { status: 503, media_type: Some(J), schema: "Health" }];

pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/healthz", || routes::get().to(alive), "Whether the process lives").answers(200, J, "Health"),
    Endpoint::get("/livez", || routes::get().to(alive), "Whether the process lives").answers(200, J, "Health"),
    Endpoint::get("/actuator/health", || routes::get().to(actuator), "Whether the broker serves (Spring)")
        .answers(200, J, "Health")
        .also(NOT_READY),
    Endpoint::get("/readyz", || routes::get().to(ready), "Whether the broker serves, with reasons")
        .answers(200, J, "Health")
        .also(NOT_READY),
];

/// An election takes a second or two, and a controller that stops hands over in less.
const UNDECIDED_FOR_MAX: Duration = Duration::from_secs(5);

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn actuator(doors: web::Data<Doors>) -> HttpResponse {
    if is_ready(&doors) {
        HttpResponse::Ok().json(json!({ "status": "UP" }))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "OUT_OF_SERVICE" }))
    }
}

async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    let broker = doors.broker();
    let obstacles = obstacles(&doors);
    let (status, mut answer) = match &obstacles[..] {
        [] => ("ready", HttpResponse::Ok()),
        _ if doors.is_stopping() => ("stopping", HttpResponse::ServiceUnavailable()),
        _ => ("unready", HttpResponse::ServiceUnavailable()),
    };
    let reasons: Vec<String> = obstacles.into_iter().chain(offline(broker)).collect();
    answer.json(json!({
        "status": status,
        "node": broker.config.node_id,
        "cluster": broker.cluster_id,
        "reasons": reasons,
    }))
}

/// A broker with a partition that it cannot serve is of use to all others: the reason is told, and it stays ready.
fn offline(broker: &BrokerShared) -> Option<String> {
    let offline: usize = broker.routes.topics().iter().map(|topic| topic.offline_count()).sum();
    (offline > 0).then(|| format!("{offline} partitions are offline: see the log for their files"))
}

/// Whether clients should come here; whoever asks under another name is told the same.
pub fn is_ready(doors: &Doors) -> bool {
    obstacles(doors).is_empty()
}

/// Why clients should go elsewhere.
fn obstacles(doors: &Doors) -> Vec<String> {
    let broker = doors.broker();
    let mut obstacles = Vec::new();
    if doors.is_stopping() {
        obstacles.push("the broker stops".to_owned());
    }
    // One by itself is its own quorum.
    if let Some(quorum) = &broker.quorum {
        let standing = Standing { unheard_for: quorum.unheard_for(), deaf_for: quorum.deaf_for() };
        let image = doors.client.image();
        obstacles.extend(standing.obstacles(image.broker(broker.config.node_id).map(|known| &**known)));
    }
    obstacles
}

/// How a broker of several stands.
struct Standing {
    /// No controller has answered it.
    unheard_for: Duration,
    /// It is the controller, and hears no majority.
    deaf_for: Duration,
}

impl Standing {
    fn obstacles(&self, registered: Option<&Broker>) -> Vec<String> {
        let mut obstacles = Vec::new();
        match registered {
            None => obstacles.push("the broker is not registered".to_owned()),
            Some(known) if known.fenced => {
                obstacles.push("the broker is fenced: it leads nothing until it has caught up".to_owned());
            }
            Some(_) => {}
        }
        if self.unheard_for > UNDECIDED_FOR_MAX {
            let seconds = self.unheard_for.as_secs();
            obstacles.push(format!(
                "no controller has answered this broker for {seconds} s: the quorum has no leader, or is out of reach"
            ));
        }
        if self.deaf_for > UNDECIDED_FOR_MAX {
            let seconds = self.deaf_for.as_secs();
            obstacles.push(format!("as the controller it has heard no majority of the quorum for {seconds} s"));
        }
        obstacles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(fenced: bool) -> Broker {
        Broker {
            id: 1,
            epoch: 1,
            incarnation: Default::default(),
            listeners: Vec::new(),
            rack: None,
            dirs: Vec::new(),
            fenced,
            in_controlled_shutdown: false,
        }
    }

    #[test]
    fn clients_go_elsewhere_when_nothing_can_be_decided_for_long() {
        let check = |registered: Option<&Broker>, unheard_s, deaf_s, expected: &[&str]| {
            let seconds = Duration::from_secs_f32;
            let standing = Standing { unheard_for: seconds(unheard_s), deaf_for: seconds(deaf_s) };
            let found = standing.obstacles(registered);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{found}");
            }
        };
        let (active, fenced) = (registered(false), registered(true));
        check(Some(&active), 0.0, 0.0, &[]);
        check(Some(&active), 4.5, 4.5, &[]);
        check(Some(&active), 5.5, 0.0, &["no controller has answered this broker for 5 s"]);
        check(Some(&active), 0.0, 12.0, &["no majority of the quorum for 12 s"]);
        check(Some(&fenced), 0.0, 0.0, &["fenced"]);
        check(None, 9.0, 0.0, &["not registered", "no controller"]);
    }
}
