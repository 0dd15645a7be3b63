//! Which brokers have just left: clients go on being told where they are for a little while, though they lead nothing any more.
//!
//! A client hears of both in one answer: who leads now, and who is in the cluster. librdkafka (seen with 2.16) then ends the thread
//! of a broker that is not named any more while it takes that one's partitions to their new leader; when the end comes first, they
//! have no leader for it until it asks again, up to a second later. So it is told first who leads, and some seconds later who
//! has gone. Kafka, too, goes on naming a broker that has died, until its session ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capek_state::cluster::{Broker, Delta, Image};
use capek_wire::ids::BrokerId;

/// Clients that are at work have found the new leaders within it, and a broker that is only restarted is back. Not longer: tools
/// that ask every broker which is named wait for this one.
const NAMED_FOR: Duration = Duration::from_secs(3);

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Departures(Mutex<BTreeMap<BrokerId, Instant>>);

impl Departures {
    /// `delta` leads from the first image to the second.
    pub fn observe(&self, before: &Image, after: &Image, delta: &Delta, now: Instant) {
        if delta.brokers_changed.is_empty() {
            return;
        }
        let is_fenced = |image: &Image, broker| image.broker(broker).map(|known| known.fenced);
        let mut departed = self.lock();
        departed.retain(|_, since| is_recent(*since, now));
        for &broker in &delta.brokers_changed {
            match (is_fenced(before, broker), is_fenced(after, broker)) {
                (Some(false), Some(true)) => _ = departed.insert(broker, now),
                // Registered anew it is fenced for a moment; an unregistered one has no address.
                (_, Some(true)) => {}
                (_, Some(false) | None) => _ = departed.remove(&broker),
            }
        }
    }

    /// Whether clients are told of this broker.
    pub fn is_named(&self, broker: &Broker, now: Instant) -> bool {
        !broker.fenced || self.lock().get(&broker.id).is_some_and(|since| is_recent(*since, now))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BrokerId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < NAMED_FOR
}

#[cfg(test)]
pub(crate) mod tests {
    use capek_state::cluster::{BrokerRecord, Record};
    use capek_wire::ids::Uuid;

    use super::*;

    /// An image, and what has been told of it.
    struct Told(Image, Departures);

    impl Told {
        fn apply(&mut self, record: Record, now: Instant) {
            let (before, mut delta) = (self.0.clone(), Delta::default());
            self.0.apply_into(&record, &mut delta);
            self.1.observe(&before, &self.0, &delta, now);
        }

        fn names(&self, now: Instant) -> bool {
            self.0.broker(1).is_some_and(|broker| self.1.is_named(broker, now))
        }
    }

    /// Broker 1, fenced.
    pub(crate) fn registered(epoch: i64) -> Record {
        let broker = BrokerRecord {
            broker: 1,
            epoch,
            incarnation: Uuid::ZERO,
            listeners: Vec::new(),
            rack: None,
            dirs: Vec::new(),
            fenced: true,
        };
        Record::BrokerRegistered(broker)
    }

    #[test]
    fn who_leaves_is_named_for_a_while_and_who_never_came_is_not() {
        let start = Instant::now();
        let mut told = Told(Image::default(), Departures::default());
        told.apply(registered(0), start);
        assert!(!told.names(start), "it has not come yet");
        told.apply(Record::BrokerUnfenced { broker: 1, epoch: 0 }, start);
        assert!(told.names(start + NAMED_FOR));
        told.apply(Record::BrokerFenced { broker: 1, epoch: 0 }, start);
        assert!(told.names(start) && !told.names(start + NAMED_FOR));
        let soon = start + NAMED_FOR / 2;
        told.apply(registered(5), soon);
        assert!(told.names(soon), "a restart does not end it");
        assert!(!told.names(start + NAMED_FOR), "nor does it make it longer");
        told.apply(Record::BrokerUnfenced { broker: 1, epoch: 5 }, soon);
        assert!(told.names(start + NAMED_FOR));
        told.apply(registered(9), soon);
        assert!(told.names(soon), "registered anew it has left for a moment, too");
        told.apply(Record::BrokerUnregistered { broker: 1, epoch: 9 }, soon);
        assert!(!told.names(soon));
        told.apply(registered(12), soon);
        assert!(!told.names(soon), "it comes as a stranger");
    }
}
