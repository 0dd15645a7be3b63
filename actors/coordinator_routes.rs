//! Which GroupCoordinator has which groups: a table that requests read without a lock and without asking an actor.

use std::sync::Arc;

use actix::Addr;
use arc_swap::ArcSwap;
use capek_state::group::{HeartbeatRequest, shard_of};
use capek_wire::error_code::ErrorCode;

use crate::census::ActorEntry;
use crate::group_beats::GroupBeats;
use crate::group_coordinator::GroupCoordinator;

/// The coordinator of one partition of `__consumer_offsets`.
#[derive(Clone)]
pub struct Shard {
    pub addr: Addr<GroupCoordinator>,
    pub entry: Arc<ActorEntry>,
    pub(crate) beats: Arc<GroupBeats>,
}

/// Where a shard is.
#[derive(Clone, Default)]
pub enum ShardRoute {
    /// Another broker's, or nobody's.
    #[default]
    NotHere,
    Here(Shard),
    /// Between two incarnations.
    Restarting,
    /// It has spent its restarts.
    Offline,
}

/// See the head of this file. One writer: CoordinatorManager.
#[derive(Default)]
pub struct CoordinatorRoutes {
    /// By partition; empty while there is no `__consumer_offsets`.
    shards: ArcSwap<Vec<ShardRoute>>,
}

impl CoordinatorRoutes {
    /// False until `__consumer_offsets` is there.
    pub fn has_shards(&self) -> bool {
        !self.shards.load().is_empty()
    }

    /// The coordinator of a group; the errors are those of the protocol.
    pub fn of_group(&self, group: &str) -> Result<Shard, ErrorCode> {
        let shards = self.shards.load();
        of_route(route_of(&shards, group).ok_or(ErrorCode::CoordinatorNotAvailable)?)
    }

    /// True: the member lives, and its coordinator will know. False: the coordinator has to be asked.
    pub fn beat(&self, request: &HeartbeatRequest) -> bool {
        match route_of(&self.shards.load(), &request.group) {
            Some(ShardRoute::Here(shard)) => shard.beats.beat(request),
            _ => false,
        }
    }

    /// All that are here, and an error for each that should be.
    pub fn all(&self) -> Vec<Result<Shard, ErrorCode>> {
        let shards = self.shards.load();
        let is_here = |route: &&ShardRoute| !matches!(route, ShardRoute::NotHere);
        shards.iter().filter(is_here).map(of_route).collect()
    }

    pub fn publish(&self, shards: Vec<ShardRoute>) {
        self.shards.store(Arc::new(shards));
    }
}

fn route_of<'a>(shards: &'a [ShardRoute], group: &str) -> Option<&'a ShardRoute> {
    let count = i32::try_from(shards.len()).ok().filter(|count| *count > 0)?;
    shards.get(shard_of(group, count) as usize)
}

fn of_route(route: &ShardRoute) -> Result<Shard, ErrorCode> {
    match route {
        ShardRoute::Here(shard) => Ok(shard.clone()),
        ShardRoute::NotHere => Err(ErrorCode::NotCoordinator),
        ShardRoute::Restarting => Err(ErrorCode::CoordinatorLoadInProgress),
        ShardRoute::Offline => Err(ErrorCode::CoordinatorNotAvailable),
    }
}
