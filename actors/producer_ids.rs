//! Producer ids: handed out from a block that the controller has allocated, so that none ever repeats.
//!
//! A block is not used on when a broker or a topic has come: an id that is handed out afterwards is then larger than all that were
//! allocated before, and whoever was there already knows that this producer is new (`NewProducers` in capek-state).

use std::sync::atomic::{AtomicBool, Ordering};

use capek_state::Refusal;
use capek_state::cluster::{Command, Delta, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::ProducerId;
use tokio::sync::Mutex;

use crate::broker::BrokerShared;
use crate::topics::propose;

/// The rest of this broker's block. It is lost at a stop, or when it is outdated; ids are plenty.
#[derive(Debug, Default)]
pub struct ProducerIds {
    rest: Mutex<std::ops::Range<ProducerId>>,
    is_outdated: AtomicBool,
}

impl ProducerIds {
    /// This has changed in the cluster.
    pub fn observe(&self, delta: &Delta) {
        if !delta.brokers_changed.is_empty() || !delta.topics_created.is_empty() {
            self.is_outdated.store(true, Ordering::Release);
        }
    }

    /// A producer id that nobody else has or will have.
    pub async fn next(&self, broker: &BrokerShared) -> Result<ProducerId, Refusal> {
        let mut rest = self.rest.lock().await;
        // Asked before the next block is: what comes while that is on its way outdates it, too.
        if self.is_outdated.swap(false, Ordering::AcqRel) {
            *rest = 0..0;
        }
        if let Some(producer_id) = rest.next() {
            return Ok(producer_id);
        }
        let command = Command::AllocateProducerIds { broker: broker.config.node_id };
        let Outcome::ProducerIds(block) = propose(broker, command).await? else {
            return Err(Refusal::bare(ErrorCode::UnknownServerError));
        };
        *rest = block.first + 1..block.first + i64::from(block.count);
        Ok(block.first)
    }
}
