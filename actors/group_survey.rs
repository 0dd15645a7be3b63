//! What groups this broker coordinates and how far each is, asked of all its coordinators at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use capek_state::group::SurveyedGroup;
use tokio::sync::oneshot;

use crate::broker::BrokerShared;
use crate::group_coordinator::{Ask, SurveyGroups};

/// What the coordinators have answered.
#[derive(Debug, Default)]
pub struct GroupSurvey {
    pub groups: Vec<SurveyedGroup>,
    pub shards: usize,
    /// Coordinators that load, restart, or did not answer in time: their groups are not among these.
    pub shards_silent: usize,
}

/// Asks all of them; who has not answered within `patience` is left out.
pub async fn survey(broker: &BrokerShared, offsets_max: usize, patience: Duration) -> GroupSurvey {
    let mut survey = GroupSurvey::default();
    let mut asked = Vec::new();
    for shard in broker.coordinators.all() {
        survey.shards += 1;
        match shard {
            Ok(shard) => {
                let (reply, answer) = oneshot::channel();
                shard.entry.mailbox.fetch_add(1, Ordering::Relaxed);
                shard.addr.do_send(Ask { request: SurveyGroups { offsets_max }, reply });
                asked.push(answer);
            }
            Err(_) => survey.shards_silent += 1,
        }
    }
    let deadline = tokio::time::Instant::now() + patience;
    for answer in asked {
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Ok(groups))) => survey.groups.extend(groups),
            _ => survey.shards_silent += 1,
        }
    }
    survey
}
