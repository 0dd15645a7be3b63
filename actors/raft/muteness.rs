//! A leader of the quorum that hears nobody falls silent.
//!
//! Raft's followers elect another leader when they hear nothing. One that is heard and hears nobody (a network that carries one
//! way only) would keep them from it for ever, and decide nothing itself; and as a broker it would lead for ever what nobody can
//! fetch from it, for nobody could depose it. So while no majority has answered for longer than the lease, it sends nothing for
//! as long as an election takes. The others elect another; to that one this broker never speaks (it takes itself for the
//! controller), so its session ends and its partitions are led by others in sync, in a new epoch.
//!
//! Why that is safe: for raft a message less is never wrong, and the end of a session is what it always was: who follows is in
//! sync, so it has all that was confirmed, and what the old leader takes now is confirmed by nobody, as nobody in sync fetches
//! it. Then it tries once more, because there may be nobody to elect another. A broker that is not the controller needs none
//! of this: it knows no controller when it hears none, and sends no heartbeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::warn;
use openraft::ServerState;

use super::types::Raft;

/// Longer than a lease: an election that is under way anyway is not disturbed.
const DEAF_AFTER: Duration = Duration::from_secs(3);
/// An election, and another one when the votes were split.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// Heartbeats in which an answer would come.
const LISTEN_FOR: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether what a leader says is held back. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Muteness(Arc<AtomicBool>);

impl Muteness {
    pub fn is_mute(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Watches for as long as raft runs.
    pub async fn watch(self, raft: Raft) {
        while raft.metrics().borrow().running_state.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
            if !is_deaf(&raft) {
                continue;
            }
            warn!("this controller hears no majority: it falls silent, so that the others can elect another");
            self.0.store(true, Ordering::Release);
            tokio::time::sleep(SILENT_FOR).await;
            self.0.store(false, Ordering::Release);
            tokio::time::sleep(LISTEN_FOR).await;
        }
    }
}

fn is_deaf(raft: &Raft) -> bool {
    deaf_for(raft) > DEAF_AFTER
}

/// For how long a leader has heard no majority; who does not lead need not.
pub(super) fn deaf_for(raft: &Raft) -> Duration {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    let silence_ms = metrics.millis_since_quorum_ack.filter(|_| metrics.state == ServerState::Leader);
    Duration::from_millis(silence_ms.unwrap_or(0))
}
