//! Who serves what on this broker: a table that connections read without a lock and without asking an actor.
//!
//! Each topic has an `Arc` of slots that are swapped one by one as incarnations come and go; a shard of the outer map is
//! replaced only when topics do.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use actix::Addr;
use arc_swap::{ArcSwap, ArcSwapOption};
use capek_wire::ids::{LeaderEpoch, PartitionIndex, TopicId};

use crate::census::ActorEntry;
use crate::partition::Partition;
use crate::shared::PartitionShared;
use crate::supervision::Incarnation;

/// Where a partition's leader lives right now.
pub struct PartitionRoute {
    pub shared: Arc<PartitionShared>,
    pub leader_epoch: LeaderEpoch,
    pub incarnation: Incarnation,
    /// None while the partition is being restarted, or is offline: fetches still read what is committed.
    pub leader: Option<Addr<Partition>>,
    pub entry: Arc<ActorEntry>,
    /// The replica could not be opened, or has spent its restarts.
    pub is_offline: bool,
}

/// A topic's partitions on this broker, by index.
pub struct TopicRoute {
    pub name: Arc<str>,
    pub id: TopicId,
    slots: Vec<Arc<ArcSwapOption<PartitionRoute>>>,
}

impl TopicRoute {
    pub fn partition(&self, index: PartitionIndex) -> Option<arc_swap::Guard<Option<Arc<PartitionRoute>>>> {
        let slot = self.slots.get(usize::try_from(index).ok()?)?.load();
        slot.is_some().then_some(slot)
    }

    pub fn partitions(&self) -> impl Iterator<Item = Arc<PartitionRoute>> + '_ {
        self.slots.iter().filter_map(|slot| slot.load_full())
    }
}

const SHARDS: usize = 64;

type Shard<K> = ArcSwap<HashMap<K, Arc<TopicRoute>>>;

/// See the head of this file. One writer: ReplicaManager.
pub struct Routes {
    by_name: Vec<Shard<Arc<str>>>,
    by_id: Vec<Shard<TopicId>>,
    hasher: RandomState,
}

impl Default for Routes {
    fn default() -> Self {
        let shards = |_| ArcSwap::from_pointee(HashMap::new());
        let id_shards = |_| ArcSwap::from_pointee(HashMap::new());
        Self {
            by_name: (0..SHARDS).map(shards).collect(),
            by_id: (0..SHARDS).map(id_shards).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Routes {
    pub fn topic(&self, name: &str) -> Option<Arc<TopicRoute>> {
        self.by_name[self.shard_of(name)].load().get(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<TopicRoute>> {
        self.by_id[self.shard_of(&id)].load().get(&id).cloned()
    }

    /// Every topic that has a route, in no order.
    pub fn topics(&self) -> Vec<Arc<TopicRoute>> {
        self.by_name.iter().flat_map(|shard| shard.load().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Makes room for a topic's first `partition_count` partitions; those that it has keep their slots.
    pub fn enter_topic(&self, name: &Arc<str>, id: TopicId, partition_count: usize) {
        let known = self.topic(name).filter(|topic| topic.id == id);
        let mut slots = known.map(|topic| topic.slots.clone()).unwrap_or_default();
        while slots.len() < partition_count {
            slots.push(Arc::new(ArcSwapOption::empty()));
        }
        let route = Arc::new(TopicRoute { name: name.clone(), id, slots });
        replace(&self.by_name[self.shard_of(&**name)], |map| {
            map.insert(name.clone(), route.clone());
        });
        replace(&self.by_id[self.shard_of(&id)], |map| {
            map.insert(id, route.clone());
        });
    }

    pub fn leave_topic(&self, name: &str, id: TopicId) {
        replace(&self.by_name[self.shard_of(name)], |map| {
            // A topic of the same name may have been made again meanwhile.
            if map.get(name).is_some_and(|topic| topic.id == id) {
                map.remove(name);
            }
        });
        replace(&self.by_id[self.shard_of(&id)], |map| {
            map.remove(&id);
        });
    }

    pub fn set(&self, route: PartitionRoute) {
        let key = &route.shared.key;
        let Some(topic) = self.topic_by_id(key.topic_id) else { return };
        let Some(slot) = usize::try_from(key.partition).ok().and_then(|index| topic.slots.get(index)) else { return };
        slot.store(Some(Arc::new(route)));
    }

    fn shard_of<K: Hash + ?Sized>(&self, key: &K) -> usize {
        (self.hasher.hash_one(key) as usize) % SHARDS
    }
}

fn replace<K: Clone + Eq + Hash>(shard: &Shard<K>, change: impl FnOnce(&mut HashMap<K, Arc<TopicRoute>>)) {
    let mut map = HashMap::clone(&shard.load());
    change(&mut map);
    shard.store(Arc::new(map));
}
