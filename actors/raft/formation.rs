//! How a group begins, and how a node finds its place in one.
//!
//! A directory without a log asks all configured brokers first. Only when every one of them is as new as itself do they begin
//! a group together; if one of them is in a group, this node waits to be told of it. So a replaced disk never begins a second
//! cluster; and when its broker is registered already it is refused, because it has forgotten its votes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capek_wire::ids::BrokerId;
use log::{info, warn};

use super::control_lane::{ControlLane, ControlLanes};
use super::messages::{ControlRequest, ControlResponse, PeerStatus};
use super::quorum::{Quorum, QuorumError};
use crate::peer_transport::PeerIdentity;

const ASK_DEADLINE: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How often the log says what is being waited for.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a node without a log shall do.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// All are new: begin.
    Begin,
    /// There is a group of this id (None: it has none yet) that does not know this broker.
    Join(Option<String>),
}

/// Asks the configured brokers until it is clear what to do.
pub async fn find_place(
    me: &PeerIdentity,
    voters: &BTreeMap<BrokerId, String>,
    lanes: &ControlLanes,
) -> Result<Place, QuorumError> {
    let others = voters.iter().filter(|(broker, _)| **broker != me.broker);
    let others: Vec<_> = others.map(|(broker, address)| (*broker, address, lanes.lane(*broker, address))).collect();
    let mut answers = BTreeMap::new();
    let mut progress = Progress::default();
    loop {
        for (broker, _, lane) in &others {
            if let Some(status) = ask(lane).await {
                answers.insert(*broker, status);
            }
        }
        for (broker, status) in &answers {
            if let Some(place) = judge(me, *broker, status)? {
                return Ok(place);
            }
        }
        let missing: Vec<_> = others.iter().filter(|(broker, ..)| !answers.contains_key(broker)).collect();
        if missing.is_empty() {
            return Ok(Place::Begin);
        }
        let list = missing.iter().map(|(broker, address, lane)| describe(*broker, address, lane));
        let list = list.collect::<Vec<_>>().join(", ");
        progress.say(|| format!("a new cluster begins once every configured broker was reached; waiting for {list}"));
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn describe(broker: BrokerId, address: &str, lane: &ControlLane) -> String {
    let problem = lane.problem().map(|problem| format!(" ({problem})")).unwrap_or_default();
    format!("broker {broker} at {address}{problem}")
}

async fn ask(lane: &ControlLane) -> Option<PeerStatus> {
    match lane.request(&ControlRequest::Status, ASK_DEADLINE).await {
        Ok(ControlResponse::Status(status)) => Some(status),
        Ok(_) | Err(_) => None,
    }
}

/// What the answer of one broker means for a node without a log; None: nothing by itself.
fn judge(me: &PeerIdentity, broker: BrokerId, status: &PeerStatus) -> Result<Option<Place>, QuorumError> {
    if let (Some(ours), Some(theirs)) = (me.cluster_id(), &status.cluster_id)
        && ours != theirs
    {
        return Err(QuorumError::Refused(format!(
            "this data directory belongs to the cluster {ours}, but broker {broker} belongs to {theirs}: check \
             capek.cluster.peers and log.dirs"
        )));
    }
    if status.asker_incarnation.is_some() {
        let cluster_id = status.cluster_id.as_deref().unwrap_or_default();
        return Err(QuorumError::Refused(format!(
            "broker {} is a member of the cluster {cluster_id}, but this data directory has no metadata log: it was \
             replaced, or log.dirs points elsewhere. A voter that has forgotten its votes may not vote again. Bring the \
             directory back; or take the broker out with 'capek cluster remove {}' on another broker, and add it as a \
             new one",
            me.broker, me.broker
        )));
    }
    Ok(status.has_log.then(|| Place::Join(status.cluster_id.clone())))
}

/// Waits until a controller is known and the cluster has an id; says what it waits for.
pub async fn wait_for_controller(quorum: &Arc<Quorum>) -> (BrokerId, String) {
    let mut progress = Progress::default();
    loop {
        if let Some(controller) = quorum.controller()
            && let Some(cluster_id) = quorum.image().cluster_id()
        {
            return (controller, cluster_id.to_owned());
        }
        progress.say(|| waiting_for(quorum));
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn waiting_for(quorum: &Quorum) -> String {
    let view = quorum.view();
    let away = view.voters.iter().filter_map(|(broker, address)| {
        let lane = quorum.lanes().find(*broker).filter(|lane| !lane.is_connected())?;
        Some(describe(*broker, address, &lane))
    });
    let away = away.collect::<Vec<_>>().join(", ");
    match view.voters.len() {
        0 => "waiting for the controller to take this broker in".to_owned(),
        count if away.is_empty() => format!("waiting for an election among {count} voters"),
        count => format!("waiting for a majority of {count} voters; not reached: {away}"),
    }
}

/// Says something now and then.
#[derive(Default)]
struct Progress {
    said: Option<(Instant, u32)>,
}

impl Progress {
    fn say(&mut self, what: impl FnOnce() -> String) {
        let now = Instant::now();
        match self.said {
            // What is over in a moment needs no words.
            None => self.said = Some((now, 0)),
            Some((last, times)) => {
                let pause = if times == 0 { Duration::from_secs(1) } else { PROGRESS };
                if now.duration_since(last) >= pause {
                    self.said = Some((now, times + 1));
                    if times < 2 { info!("{}", what()) } else { warn!("{}", what()) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capek_wire::ids::Uuid;

    fn me(cluster_id: Option<&str>) -> PeerIdentity {
        PeerIdentity::new(3, Uuid([3; 16]), cluster_id.map(str::to_owned))
    }

    #[test]
    fn a_new_node_joins_a_group_that_does_not_know_it() {
        let status = PeerStatus { cluster_id: Some("a".to_owned()), has_log: true, ..PeerStatus::default() };
        let place = judge(&me(None), 1, &status).expect("nothing speaks against it");
        assert_eq!(place, Some(Place::Join(Some("a".to_owned()))));
        assert_eq!(judge(&me(None), 1, &PeerStatus::default()).expect("it is new, too"), None);
    }

    #[test]
    fn a_replaced_disk_is_refused_with_the_way_out() {
        let asker_incarnation = Some(Uuid([1; 16]));
        let status =
            PeerStatus { cluster_id: Some("a".to_owned()), has_log: true, asker_incarnation, ..Default::default() };
        let refused = judge(&me(None), 1, &status).expect_err("it has forgotten its votes").to_string();
        assert!(refused.contains("'capek cluster remove 3'"), "{refused}");
    }

    #[test]
    fn another_cluster_is_refused() {
        let status = PeerStatus { cluster_id: Some("b".to_owned()), has_log: true, ..PeerStatus::default() };
        let refused = judge(&me(Some("a")), 1, &status).expect_err("they are strangers").to_string();
        assert!(refused.contains("belongs to the cluster a, but broker 1 belongs to b"), "{refused}");
    }
}
