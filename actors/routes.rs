//! Who serves what on this broker: a table that connections read without a lock and without asking an actor.
//!
//! Each topic has an `Arc` of slots that are swapped one by one as incarnations come and go; a shard of the outer map is
//! replaced only when topics do.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::Addr;
use arc_swap::{ArcSwap, ArcSwapOption};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, PartitionIndex, TopicId};

use crate::census::ActorEntry;
use crate::partition::Partition;
use crate::shared::{PartitionKey, PartitionShared};
use crate::supervision::Incarnation;
use crate::traffic::TopicTraffic;

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
    pub traffic: Arc<TopicTraffic>,
    slots: Vec<Arc<Slot>>,
}

/// A partition's place in the table; empty while this broker has no replica of it.
#[derive(Default)]
struct Slot {
    route: ArcSwapOption<PartitionRoute>,
    /// There is a replica here, but its log could not be opened: there is nothing that a route could lead to.
    is_unopened: AtomicBool,
}

/// A route for as long as somebody looks at it, without a count of references that all connections would share.
pub struct RouteGuard(arc_swap::Guard<Option<Arc<PartitionRoute>>>);

impl Deref for RouteGuard {
    type Target = Arc<PartitionRoute>;

    fn deref(&self) -> &Arc<PartitionRoute> {
        self.0.as_ref().expect("a guard is made of a route that is there")
    }
}

impl TopicRoute {
    /// The route of a replica that serves, or the error that tells a client why there is none.
    pub fn serving(&self, index: PartitionIndex) -> Result<RouteGuard, ErrorCode> {
        let slot = usize::try_from(index).ok().and_then(|index| self.slots.get(index));
        let slot = slot.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let route = slot.route.load();
        match &*route {
            Some(found) if found.is_offline => Err(ErrorCode::KafkaStorageError),
            Some(_) => Ok(RouteGuard(route)),
            None if slot.is_unopened.load(Ordering::Acquire) => Err(ErrorCode::KafkaStorageError),
            None => Err(ErrorCode::NotLeaderOrFollower), // the partition exists, elsewhere
        }
    }

    /// The route of a replica that leads, for what only a leader may answer.
    pub fn leading(&self, index: PartitionIndex) -> Result<RouteGuard, ErrorCode> {
        let route = self.serving(index)?;
        if route.shared.is_leader() { Ok(route) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }

    /// The replicas whose log is open, those that are offline too.
    pub fn partitions(&self) -> impl Iterator<Item = Arc<PartitionRoute>> + '_ {
        self.slots.iter().filter_map(|slot| slot.route.load_full())
    }

    /// The replica of this partition, whatever it is good for.
    pub fn partition(&self, index: PartitionIndex) -> Option<Arc<PartitionRoute>> {
        self.slots.get(usize::try_from(index).ok()?)?.route.load_full()
    }

    /// Replicas of this broker that serve nobody.
    pub fn offline_count(&self) -> usize {
        let is_offline = |slot: &&Arc<Slot>| match &*slot.route.load() {
            Some(route) => route.is_offline,
            None => slot.is_unopened.load(Ordering::Acquire),
        };
        self.slots.iter().filter(is_offline).count()
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
        let traffic = known.as_ref().map(|topic| topic.traffic.clone()).unwrap_or_default();
        let mut slots = known.map(|topic| topic.slots.clone()).unwrap_or_default();
        while slots.len() < partition_count {
            slots.push(Arc::default());
        }
        let route = Arc::new(TopicRoute { name: name.clone(), id, traffic, slots });
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
        self.change_slot(&key.clone(), |slot| {
            slot.is_unopened.store(false, Ordering::Release);
            slot.route.store(Some(Arc::new(route)));
        });
    }

    /// This broker has no replica any more.
    pub fn clear(&self, key: &PartitionKey) {
        self.change_slot(key, |slot| {
            slot.is_unopened.store(false, Ordering::Release);
            slot.route.store(None);
        });
    }

    /// The log of a replica could not be opened.
    pub fn set_unopened(&self, key: &PartitionKey) {
        self.change_slot(key, |slot| slot.is_unopened.store(true, Ordering::Release));
    }

    fn change_slot(&self, key: &PartitionKey, change: impl FnOnce(&Slot)) {
        let topic = self.topic_by_id(key.topic_id);
        let index = usize::try_from(key.partition).ok();
        if let (Some(topic), Some(index)) = (topic, index)
            && let Some(slot) = topic.slots.get(index)
        {
            change(slot);
        }
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
