//! Producer ids: handed out from a block that the controller has allocated, so that none ever repeats.

use capek_state::Refusal;
use capek_state::cluster::{Command, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::ProducerId;
use tokio::sync::Mutex;

use crate::broker::BrokerShared;
use crate::topics::propose;

/// The rest of this broker's block. A block is lost at a stop; ids are plenty.
#[derive(Default)]
pub struct ProducerIds {
    rest: Mutex<std::ops::Range<ProducerId>>,
}

impl ProducerIds {
    /// A producer id that nobody else has or will have.
    pub async fn next(&self, broker: &BrokerShared) -> Result<ProducerId, Refusal> {
        let mut rest = self.rest.lock().await;
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
