//! How replicas end, and what brings them back: restarts within a budget, and one more try for what is offline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use capek_wire::ids::TopicId;
use log::{Level, debug, error, info, log, warn};

use super::ReplicaManager;
use crate::replica::{Assignment, publish_route};
use crate::replica_messages::ReplicaFailed;
use crate::shared::{PartitionKey, Role};
use crate::supervision::{ChildExited, ExitCause, Restart, Verdict};

/// How long a replica rests that could not be kept alive.
pub(super) const OFFLINE_RETRY: Duration = Duration::from_secs(30);

impl ReplicaManager {
    /// In a cluster an offline replica that was given no other life by now is tried once more: it may be the only one that has
    /// what was committed.
    fn retry_offline(&mut self, id: (TopicId, i32), context: &mut Context<Self>) {
        self.to_be_retried.remove(&id);
        let Some(child) = self.children.get_mut(&id) else { return self.retry_unopened(id, context) };
        if child.replica.is_none() && !child.is_restarting && !child.is_stopping && child.shared.is_offline() {
            info!("{}: trying its replica once more", child.shared.key);
            child.shared.set_online();
            self.restart_later(id, None, context);
        }
        self.tell_what_is_back(id);
    }

    /// A log that could not be opened: there may be room by now, or somebody who has what was in it.
    fn retry_unopened(&mut self, id: (TopicId, i32), context: &mut Context<Self>) {
        let Some(topic) = self.image.topic(id.0).cloned().filter(|_| !self.being_made.contains(&id)) else { return };
        let ours = topic.partition(id.1).filter(|partition| partition.replicas.contains(&self.config.node_id));
        let Some(partition) = ours else { return };
        let key = PartitionKey { topic: topic.name.clone(), topic_id: id.0, partition: id.1 };
        info!("{key}: trying to open its log once more");
        let config = self.topic_config(&self.image, &topic.name);
        let wanted = self.place(key, config, Assignment::of(partition, self.config.node_id));
        drop(self.make(vec![wanted], context));
    }

    /// Everything that was queued for the dead incarnation is done before the next one opens the log.
    /// With a back-off it is the same life once more.
    pub(super) fn restart_later(&mut self, id: (TopicId, i32), backoff: Option<Duration>, context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.is_restarting = true;
        let journal = self.dirs[child.dir].journal.clone();
        let log = child.shared.log.clone();
        let drained = async move {
            let drained = journal.drain(&log).await;
            if let Some(backoff) = backoff {
                tokio::time::sleep(backoff).await;
            }
            drained
        };
        context.spawn(drained.into_actor(self).map(move |drained, manager, context| {
            let is_wanted = manager.children.get(&id).is_some_and(|child| !child.is_stopping);
            match drained {
                Some(end_offset) if is_wanted => {
                    if let Some(child) = manager.children.get(&id) {
                        child.entry.restarts.fetch_add(u32::from(backoff.is_some()), Ordering::Relaxed);
                        let Assignment { role, leader_epoch, .. } = child.assignment;
                        debug!("{}: {role:?} in epoch {leader_epoch} from offset {end_offset}", child.shared.key);
                    }
                    manager.start_incarnation(id, context);
                }
                Some(_) => {
                    manager.children.remove(&id);
                }
                None => warn!("the journal has ended; its replicas stay offline"),
            }
        }));
    }
}

impl Handler<ChildExited<PartitionKey>> for ReplicaManager {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<PartitionKey>, context: &mut Self::Context) {
        let id = (exited.child.topic_id, exited.child.partition);
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.incarnation != exited.incarnation {
            return;
        }
        child.replica = None;
        if child.is_stopping {
            if let Some(child) = self.children.remove(&id) {
                for stopped in child.stopped {
                    // Whoever waited may have gone.
                    let _ = stopped.send(());
                }
            }
            return;
        }
        publish_route(&self.routes, child, false);
        let is_next_life = child.shared.leader_epoch() != child.assignment.leader_epoch
            || child.shared.role() != child.assignment.role;
        let verdict = match exited.cause {
            _ if is_next_life => return self.restart_later(id, None, context),
            cause if !Restart::Transient.wants(cause) => return,
            ExitCause::Refresh if self.peers.is_some() && child.can_be_relieved() => {
                child.patience.spend(Instant::now())
            }
            ExitCause::Refresh => Verdict::RestartAfter(refresh_after(child.shared.role())),
            ExitCause::Stopped | ExitCause::Failed | ExitCause::Panicked => child.budget.spend(Instant::now()),
        };
        match verdict {
            Verdict::RestartAfter(backoff) => {
                // Who asked for it has said why.
                let level = if exited.cause == ExitCause::Refresh { Level::Debug } else { Level::Warn };
                log!(level, "{} ended ({:?}), restarting after {backoff:?}", exited.child, exited.cause);
                self.restart_later(id, Some(backoff), context);
            }
            Verdict::Escalate => {
                let reason = match exited.cause {
                    ExitCause::Refresh => "its disk is full, and another in sync can lead it",
                    _ => "its restart budget is spent (capek.restart.max)",
                };
                context.notify(ReplicaFailed { partition: exited.child, reason: reason.to_string() });
            }
        }
    }
}

/// A leader's clients wait for it, and send less while they are refused. A follower's next fetch comes at once: while its disk
/// is full it would fail as often as it can.
fn refresh_after(role: Role) -> Duration {
    match role {
        Role::Leader | Role::Idle => Duration::from_millis(10),
        Role::Follower => Duration::from_secs(1),
    }
}

impl Handler<ReplicaFailed> for ReplicaManager {
    type Result = ();

    fn handle(&mut self, failed: ReplicaFailed, context: &mut Self::Context) {
        error!("{} is offline: {}", failed.partition, failed.reason);
        if let Some(child) = self.children.get(&(failed.partition.topic_id, failed.partition.partition)) {
            child.shared.set_offline();
            publish_route(&self.routes, child, true);
        }
        if let Some(peers) = &self.peers {
            let id = (failed.partition.topic_id, failed.partition.partition);
            if self.to_be_retried.insert(id) {
                context.run_later(OFFLINE_RETRY, move |manager, context| manager.retry_offline(id, context));
            }
            peers.proposer.replica_failed(failed.partition.topic_id, failed.partition.partition);
        }
    }
}
