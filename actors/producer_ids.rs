//! Producer ids: handed out from a block that the controller has allocated, so that none ever repeats.
//!
//! A block is not used on when a broker or a topic has come: an id that is handed out afterwards is then larger than all that were
//! allocated before, and whoever was there already knows that this producer is new (`NewProducers` in capek-state).

use std::sync::atomic::{AtomicBool, Ordering};

use capek_state::Refusal;
use capek_state::cluster::{Command, Delta, Image, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, ProducerId};
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
    /// `delta` leads from the first image to the second.
    pub fn observe(&self, before: &Image, after: &Image, delta: &Delta) {
        let epoch = |image: &Image, broker| image.broker(broker).map(|known| known.epoch);
        let has_come = |broker: &BrokerId| epoch(after, *broker) > epoch(before, *broker);
        if !delta.topics_created.is_empty() || delta.brokers_changed.iter().any(has_come) {
            self.is_outdated.store(true, Ordering::Release);
        }
    }

    /// A producer id that nobody else has or will have.
    pub async fn next(&self, broker: &BrokerShared) -> Result<ProducerId, Refusal> {
        let mut rest = self.rest.lock().await;
        // Asked before the next block is: what comes while that is on its way outdates it, too.
        let is_outdated = self.is_outdated.swap(false, Ordering::AcqRel);
        if !is_outdated && let Some(producer_id) = rest.next() {
            return Ok(producer_id);
        }
        let command = Command::AllocateProducerIds { broker: broker.config.node_id };
        match propose(broker, command).await {
            Ok(Outcome::ProducerIds(block)) => {
                *rest = block.first + 1..block.first + i64::from(block.count);
                Ok(block.first)
            }
            Ok(_) => Err(Refusal::bare(ErrorCode::UnknownServerError)),
            // Nobody decides at the moment: an id that some leaders take for an older one is better than none.
            Err(refusal) => rest.next().ok_or(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use capek_state::cluster::Record;

    use super::*;
    use crate::departures::tests::registered;

    #[test]
    fn a_block_is_outdated_by_who_comes_and_not_by_who_goes() {
        let (ids, mut image) = (ProducerIds::default(), Image::default());
        let mut outdates = |record: Record| {
            let (before, mut delta) = (image.clone(), Delta::default());
            image.apply_into(&record, &mut delta);
            ids.observe(&before, &image, &delta);
            ids.is_outdated.swap(false, Ordering::AcqRel)
        };
        assert!(outdates(registered(1)), "its logs are opened");
        assert!(!outdates(Record::BrokerUnfenced { broker: 1, epoch: 1 }));
        assert!(!outdates(Record::BrokerFenced { broker: 1, epoch: 1 }));
        assert!(outdates(registered(5)), "started again");
        assert!(!outdates(Record::ProducerIdsAllocated { next: 1000 }));
        assert!(!outdates(Record::BrokerUnregistered { broker: 1, epoch: 5 }));
    }
}
