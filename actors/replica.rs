//! What ReplicaManager knows of each replica here: what it shall be, and the actor that is it.

use std::sync::Arc;

use actix::Addr;
use capek_log::{LogConfig, LogId, LogSpec};
use capek_state::cluster::Partition;
use capek_state::config::{Flush, TopicConfig};
use capek_state::partition::{NewProducers, ReplicaSet};
use capek_wire::ids::{BrokerId, LeaderEpoch};
use tokio::sync::oneshot;

use crate::census::ActorEntry;
use crate::follower_replica::FollowerReplica;
use crate::partition::{self, ConfigChanged, StopPartition};
use crate::routes::{PartitionRoute, Routes};
use crate::shared::{EpochBegin, PartitionKey, PartitionShared, Role};
use crate::supervision::{Incarnation, RestartBudget};

/// What this broker shall be to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub role: Role,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub replicas: ReplicaSet,
}

impl Assignment {
    pub fn of(partition: &Partition, node_id: BrokerId) -> Assignment {
        let role = match partition.leader {
            leader if leader == node_id => Role::Leader,
            leader if leader >= 0 => Role::Follower,
            _ => Role::Idle,
        };
        Assignment {
            role,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: ReplicaSet {
                me: node_id,
                replicas: partition.replicas.clone(),
                in_sync: partition.isr.clone(),
                partition_epoch: partition.partition_epoch,
            },
        }
    }

    /// An actor lives for one role in one epoch.
    pub fn is_same_life(&self, other: &Assignment) -> bool {
        (self.role, self.leader, self.leader_epoch) == (other.role, other.leader, other.leader_epoch)
    }
}

/// The actor that does what the assignment says.
#[derive(Clone)]
pub enum Replica {
    Leader(Addr<partition::Partition>),
    Follower(Addr<FollowerReplica>),
}

impl Replica {
    pub fn stop(&self) {
        match self {
            Replica::Leader(addr) => addr.do_send(StopPartition),
            Replica::Follower(addr) => addr.do_send(StopPartition),
        }
    }

    pub fn reconfigure(&self) {
        match self {
            Replica::Leader(addr) => addr.do_send(ConfigChanged),
            Replica::Follower(addr) => addr.do_send(ConfigChanged),
        }
    }
}

pub struct Child {
    pub shared: Arc<PartitionShared>,
    pub assignment: Assignment,
    pub dir: usize,
    pub arbiter: usize,
    pub incarnation: Incarnation,
    pub budget: RestartBudget,
    /// How long a leader without room tries on before another one leads.
    pub patience: RestartBudget,
    pub entry: Arc<ActorEntry>,
    pub replica: Option<Replica>,
    /// The next incarnation waits for the journal, or for its back-off.
    pub is_restarting: bool,
    /// Someone waits for it to be gone for good.
    pub stopped: Vec<oneshot::Sender<()>>,
    pub is_stopping: bool,
}

impl Child {
    /// Whether another could lead what this one leads.
    pub fn can_be_relieved(&self) -> bool {
        self.shared.role() == Role::Leader && self.assignment.replicas.in_sync.len() > 1
    }
}

/// A life in another epoch or role begins where this broker's knowledge ends; a restart in the same one goes on.
pub fn begin_epoch(child: &Child) {
    let Assignment { role, leader_epoch, replicas, .. } = &child.assignment;
    let shared = &child.shared;
    if (shared.leader_epoch(), shared.role()) == (*leader_epoch, *role) && child.incarnation > 0 {
        return;
    }
    let log_end = shared.log.end_offset();
    let known = match child.incarnation {
        0 if replicas.replicas.len() <= 1 => log_end, // recovery has synced all that it kept
        0 => shared.log.high_watermark_at_start(),
        _ => shared.high_watermark(),
    };
    let high_watermark = known.clamp(shared.log.log_start().min(log_end), log_end);
    shared.begin_epoch(EpochBegin { role: *role, leader_epoch: *leader_epoch, high_watermark, log_end });
}

pub fn publish_route(routes: &Routes, child: &Child, is_ending: bool) {
    routes.set(PartitionRoute {
        shared: child.shared.clone(),
        leader_epoch: child.shared.leader_epoch(),
        incarnation: child.incarnation,
        leader: match &child.replica {
            Some(Replica::Leader(addr)) if !is_ending => Some(addr.clone()),
            _ => None,
        },
        entry: child.entry.clone(),
        is_offline: child.shared.is_offline(),
    });
}

/// A replica that shall exist here.
pub struct Wanted {
    pub key: PartitionKey,
    pub config: Arc<TopicConfig>,
    pub assignment: Assignment,
    pub dir: usize,
    pub new_producers: NewProducers,
}

pub fn spec(wanted: &Wanted) -> LogSpec {
    let PartitionKey { topic, topic_id, partition } = &wanted.key;
    LogSpec {
        id: LogId { topic: topic.clone(), topic_id: *topic_id, partition: *partition },
        config: log_config(&wanted.config),
    }
}

/// The part of a topic's configuration that the log needs.
pub fn log_config(config: &TopicConfig) -> LogConfig {
    // What may not wait for longer to be compacted must leave the active segment by then.
    let lag_ms = if config.cleanup_policy.compact { config.max_compaction_lag_ms.max(1) } else { i64::MAX };
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms.min(lag_ms),
        segment_index_bytes: config.segment_index_bytes,
        index_interval_bytes: config.index_interval_bytes,
        file_delete_delay_ms: config.file_delete_delay_ms,
        producer_expiration_ms: config.producer_id_expiration_ms,
        flush: match config.flush {
            Flush::Group => capek_log::Flush::Group,
            Flush::Async => capek_log::Flush::Async,
        },
    }
}
