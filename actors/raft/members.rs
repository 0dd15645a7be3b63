//! Who votes: a broker becomes an observer, catches up, and then a voter; or it leaves. One change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capek_state::Refusal;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use log::info;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use serde::{Deserialize, Serialize};

use super::control_lane::LaneError;
use super::messages::{ControlRequest, ControlResponse};
use super::quorum::Quorum;
use super::types::{broker_of, node_of};

/// A new voter has caught up and a majority has agreed within this, or whoever asked is told that it is not known.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembersChange {
    /// With the address of its peer listener.
    Add {
        broker: BrokerId,
        address: String,
    },
    Remove {
        broker: BrokerId,
    },
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembersReply {
    Done,
    Refused(Refusal),
    NotController { controller: Option<BrokerId> },
}

impl Quorum {
    /// Makes the change here if this node leads, else has the leader make it.
    pub async fn change_members(&self, change: MembersChange) -> Result<(), Refusal> {
        let reply = match self.controller() {
            None => MembersReply::NotController { controller: None },
            Some(controller) if controller == self.id() => self.change_members_here(change).await,
            Some(controller) => self.carry_members_change(controller, change).await,
        };
        match reply {
            MembersReply::Done => Ok(()),
            MembersReply::Refused(refusal) => Err(refusal),
            MembersReply::NotController { .. } => {
                Err(Refusal::new(ErrorCode::NotController, "there is no controller now: try again"))
            }
        }
    }

    async fn carry_members_change(&self, controller: BrokerId, change: MembersChange) -> MembersReply {
        let Some(lane) = self.lane(controller) else { return MembersReply::NotController { controller: None } };
        match lane.request(&ControlRequest::ChangeMembers(change), DEADLINE).await {
            Ok(ControlResponse::ChangeMembers(reply)) => reply,
            Ok(_) | Err(LaneError::NotSent(_)) => MembersReply::NotController { controller: None },
            Err(_) => MembersReply::Refused(not_known()),
        }
    }

    pub(super) async fn change_members_here(&self, change: MembersChange) -> MembersReply {
        let changing = async {
            match change {
                MembersChange::Add { broker, address } => self.add(broker, address).await,
                MembersChange::Remove { broker } => self.remove(broker).await,
            }
        };
        tokio::time::timeout(DEADLINE, changing).await.unwrap_or_else(|_| MembersReply::Refused(not_known()))
    }

    async fn add(&self, broker: BrokerId, address: String) -> MembersReply {
        let view = self.view();
        if let Some(known) = view.voters.get(&broker) {
            let message = format!("broker {broker} is a voter already, at {known}");
            return MembersReply::Refused(Refusal::new(ErrorCode::DuplicateVoter, message));
        }
        if view.observers.get(&broker).is_some_and(|known| *known != address) {
            // Its address was wrong the last time; an observer may be taken out at any time.
            let removed = ChangeMembers::RemoveNodes(BTreeSet::from([node_of(broker)]));
            if let Some(failed) = failure(self.raft().change_membership(removed, true).await) {
                return failed;
            }
        }
        let added = self.raft().add_learner(node_of(broker), BasicNode::new(address), true).await;
        if let Some(failed) = failure(added) {
            return failed;
        }
        let promoted = ChangeMembers::AddVoterIds(BTreeSet::from([node_of(broker)]));
        match failure(self.raft().change_membership(promoted, false).await) {
            Some(failed) => failed,
            None => {
                info!("broker {broker} votes in the quorum");
                MembersReply::Done
            }
        }
    }

    async fn remove(&self, broker: BrokerId) -> MembersReply {
        let view = self.view();
        let node = BTreeSet::from([node_of(broker)]);
        let change = if view.voters.contains_key(&broker) {
            if view.voters.len() == 1 {
                let message = format!("broker {broker} is the only voter: without it there is no cluster");
                return MembersReply::Refused(Refusal::new(ErrorCode::InvalidRequest, message));
            }
            ChangeMembers::RemoveVoters(node)
        } else if view.observers.contains_key(&broker) {
            ChangeMembers::RemoveNodes(node)
        } else {
            let message = format!("broker {broker} is not a voter; those are {}", list(&view.voters));
            return MembersReply::Refused(Refusal::new(ErrorCode::VoterNotFound, message));
        };
        match failure(self.raft().change_membership(change, false).await) {
            Some(failed) => failed,
            None => {
                info!("broker {broker} votes no more");
                MembersReply::Done
            }
        }
    }
}

fn list(voters: &BTreeMap<BrokerId, String>) -> String {
    voters.iter().map(|(broker, address)| format!("{broker}@{address}")).collect::<Vec<_>>().join(",")
}

fn failure<T>(changed: Result<T, RaftError<u64, ClientWriteError<u64, BasicNode>>>) -> Option<MembersReply> {
    let refused = |code, message: String| Some(MembersReply::Refused(Refusal::new(code, message)));
    match changed {
        Ok(_) => None,
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Some(MembersReply::NotController { controller: forward.leader_id.map(broker_of) })
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)))) => {
            refused(ErrorCode::NotController, "another change of the voters is under way: try again".to_owned())
        }
        Err(error) => refused(ErrorCode::UnknownServerError, error.to_string()),
    }
}

fn not_known() -> Refusal {
    let message = "the quorum has not confirmed the change of its voters in time; see 'capek cluster status'";
    Refusal::new(ErrorCode::RequestTimedOut, message)
}
