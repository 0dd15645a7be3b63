//! A partition that another broker leads, as readers here know it: what its leader last said of it.
//!
//! One task for each partition that is read here asks the leader for news with a long poll, wherever the leader is meanwhile
//! (also here), and wakes whoever waits. It ends some time after its last reader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};
use capek_wire::peer::calls::{CallRequest, CallResponse, PartitionState, WatchCall};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broker::BrokerShared;
use crate::call_lane::Call;
use crate::local::LocalClient;
use crate::shared::PartitionShared;
use crate::waiters::Waiters;

/// How long a leader holds the question for news.
const WATCH_MS: u32 = 2_000;
/// Whatever a peer says, its question is not held longer.
const WATCH_MS_MAX: u32 = 30_000;
/// An answer takes its way, too.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Clients that poll come back: until then the news go on.
const LINGER: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(320);

/// See the head of this file.
pub struct RemotePartition {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// None until the leader has said it for the first time.
    state: Mutex<Option<PartitionState>>,
    is_deleted: AtomicBool,
    /// A reader stands beyond the end that is known: is it the log's? -1: none does.
    doubted: AtomicI64,
    /// It is; said once for each doubt.
    settled: AtomicI64,
    /// Look now.
    poke: Notify,
    waiters: Waiters,
}

impl RemotePartition {
    fn new(topic: Arc<str>, topic_id: TopicId, partition: PartitionIndex) -> Self {
        Self {
            topic,
            topic_id,
            partition,
            state: Mutex::default(),
            is_deleted: AtomicBool::new(false),
            doubted: AtomicI64::new(-1),
            settled: AtomicI64::new(-1),
            poke: Notify::new(),
            waiters: Waiters::default(),
        }
    }

    pub fn state(&self) -> Option<PartitionState> {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    pub fn register(&self, waiter: &Arc<Notify>) {
        self.waiters.register(waiter);
    }

    /// What the leader has said; whoever waits looks again.
    pub fn learned(&self, said: PartitionState) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let merged = state.map_or(said, |known| known.merged(said));
            if *state == Some(merged) {
                return;
            }
            *state = Some(merged);
        }
        self.waiters.wake();
    }

    /// Whether `offset`, which is beyond the end that is known here, is beyond the log's too. When that is not known the leader
    /// is asked, and whoever waits is woken.
    pub fn is_beyond_end(&self, offset: Offset) -> bool {
        if self.settled.compare_exchange(offset, -1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.doubted.store(offset, Ordering::Release);
        self.poke.notify_one();
        false
    }

    fn delete(&self) {
        self.is_deleted.store(true, Ordering::Release);
        self.waiters.wake();
    }
}

/// Those that are read here.
#[derive(Default)]
pub struct RemotePartitions(Mutex<HashMap<(TopicId, PartitionIndex), Weak<RemotePartition>>>);

impl RemotePartitions {
    /// The one that is known already, or a new one whose news begin now.
    pub fn follow(
        &self,
        client: &LocalClient,
        topic: &Arc<str>,
        topic_id: TopicId,
        partition: PartitionIndex,
    ) -> Arc<RemotePartition> {
        let mut known = self.lock();
        if let Some(found) = known.get(&(topic_id, partition)).and_then(Weak::upgrade) {
            return found;
        }
        let new = Arc::new(RemotePartition::new(topic.clone(), topic_id, partition));
        known.insert((topic_id, partition), Arc::downgrade(&new));
        let arbiters = &client.broker.data_arbiters;
        // Without an arbiter the broker stops, and there are no more news.
        arbiters[partition.unsigned_abs() as usize % arbiters.len()].spawn(keep_watch(client.clone(), new.clone()));
        new
    }

    /// Nobody has read it for a while: true if so it is still, and then it is not found any more.
    fn leave(&self, partition: &Arc<RemotePartition>) -> bool {
        let mut known = self.lock();
        // Whoever looks for it meanwhile waits for the lock.
        let is_left = Arc::strong_count(partition) == 1;
        if is_left {
            known.remove(&(partition.topic_id, partition.partition));
        }
        is_left
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TopicId, PartitionIndex), Weak<RemotePartition>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_watch(client: LocalClient, partition: Arc<RemotePartition>) {
    let mut backoff = BACKOFF_FIRST;
    let mut last_read = Instant::now();
    loop {
        if Arc::strong_count(&partition) > 1 {
            last_read = Instant::now();
        } else if last_read.elapsed() >= LINGER && client.broker.remote_partitions.leave(&partition) {
            return;
        }
        let doubted = partition.doubted.swap(-1, Ordering::AcqRel);
        let known = partition.state().filter(|_| doubted < 0);
        let asking = ask_leader(&client, &partition, known, WATCH_MS);
        let answered = tokio::select! {
            answered = asking => answered,
            () = partition.poke.notified() => continue,
        };
        match answered {
            Ok(()) => {
                backoff = BACKOFF_FIRST;
                if doubted >= 0 {
                    partition.settled.store(doubted, Ordering::Release);
                    partition.waiters.wake();
                }
            }
            Err(ErrorCode::UnknownTopicId) => {
                partition.delete();
                tokio::time::sleep(LINGER).await;
            }
            Err(_) => {
                if doubted >= 0 {
                    // Still to be asked, unless a reader doubts another meanwhile.
                    let _ = partition.doubted.compare_exchange(-1, doubted, Ordering::AcqRel, Ordering::Acquire);
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Learns what the leader says, at once or when it is something else than what is known. UNKNOWN_TOPIC_ID: there is no such
/// topic any more; any other error may pass.
async fn ask_leader(
    client: &LocalClient,
    partition: &RemotePartition,
    known: Option<PartitionState>,
    max_wait_ms: u32,
) -> Result<(), ErrorCode> {
    let (topic_id, index) = (partition.topic_id, partition.partition);
    let call = WatchCall { topic_id, partition: index, known, max_wait_ms };
    let leader = client.leader_by_id(topic_id, index)?;
    let state = if leader == client.broker.config.node_id {
        watch_here(&client.broker, call).await?
    } else {
        let within = Duration::from_millis(u64::from(max_wait_ms)) + ANSWERED_WITHIN;
        let request = CallRequest::Watch(call);
        let asked = Call { request: &request, body: Bytes::new(), paid: None, within };
        match client.call(leader, asked).await {
            Ok((CallResponse::Watched(watched), _)) => watched.map_err(passing)?,
            Ok(_) => return Err(ErrorCode::UnknownServerError),
            Err(_) => return Err(ErrorCode::NotLeaderOrFollower),
        }
    };
    partition.learned(state);
    Ok(())
}

/// Only the metadata here say that a topic is gone: another broker may not have heard of it yet.
fn passing(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::UnknownTopicId { ErrorCode::NotLeaderOrFollower } else { code }
}

/// What the leader says now, asked again for a while when there is none.
pub async fn refresh(client: &LocalClient, partition: &RemotePartition, patience: Duration) -> Result<(), ErrorCode> {
    let deadline = Instant::now() + patience;
    let mut backoff = BACKOFF_FIRST;
    loop {
        match ask_leader(client, partition, None, 0).await {
            Ok(()) => return Ok(()),
            Err(ErrorCode::UnknownTopicId) => {
                partition.delete();
                return Err(ErrorCode::UnknownTopicOrPartition);
            }
            Err(code) if !code.is_retriable() || Instant::now() + backoff > deadline => return Err(code),
            Err(_) => tokio::time::sleep(backoff).await,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// A partition that this broker leads.
pub fn led_here(
    broker: &BrokerShared,
    topic_id: TopicId,
    partition: PartitionIndex,
) -> Result<Arc<PartitionShared>, ErrorCode> {
    let route = broker.routes.topic_by_id(topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    Ok(route.leading(partition)?.shared.clone())
}

pub fn state_of(shared: &PartitionShared) -> PartitionState {
    PartitionState {
        leader_epoch: shared.leader_epoch(),
        log_start: shared.log_start(),
        high_watermark: shared.high_watermark(),
    }
}

/// Answers a long poll of a partition that this broker leads.
pub async fn watch_here(broker: &BrokerShared, call: WatchCall) -> Result<PartitionState, ErrorCode> {
    let deadline = Instant::now() + Duration::from_millis(u64::from(call.max_wait_ms.min(WATCH_MS_MAX)));
    let waiter = Arc::new(Notify::new());
    led_here(broker, call.topic_id, call.partition)?.register(&waiter);
    loop {
        let mut changed = std::pin::pin!(waiter.notified());
        changed.as_mut().enable(); // from here on no change is missed, even before the await
        let shared = led_here(broker, call.topic_id, call.partition)?;
        // A new leader's high watermark may be older than what its predecessor showed (KIP-207).
        let state = shared.knows_committed_end().then(|| state_of(&shared));
        if let Some(state) = state.filter(|state| Some(*state) != call.known) {
            return Ok(state);
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            return state.ok_or(ErrorCode::OffsetNotAvailable);
        }
    }
}

#[cfg(test)]
mod tests {
    use capek_wire::ids::Uuid;

    use super::*;

    fn state(leader_epoch: i32, log_start: Offset, high_watermark: Offset) -> PartitionState {
        PartitionState { leader_epoch, log_start, high_watermark }
    }

    fn partition() -> RemotePartition {
        RemotePartition::new("t".into(), Uuid([1; 16]), 0)
    }

    #[actix_rt::test]
    async fn whoever_waits_hears_of_news_and_of_nothing_else() {
        let (partition, waiter) = (partition(), Arc::new(Notify::new()));
        partition.register(&waiter);
        let is_woken = async |said| {
            let mut changed = std::pin::pin!(waiter.notified());
            changed.as_mut().enable();
            partition.learned(said);
            tokio::time::timeout(Duration::ZERO, changed).await.is_ok()
        };
        assert!(is_woken(state(1, 0, 5)).await);
        assert!(!is_woken(state(1, 0, 5)).await, "it is known");
        assert!(!is_woken(state(1, 0, 4)).await, "an answer that was overtaken");
        assert!(is_woken(state(2, 0, 4)).await, "another leader knows less");
        assert_eq!(partition.state(), Some(state(2, 0, 4)));
    }

    #[test]
    fn a_place_beyond_the_end_is_believed_once_the_leader_has_said_so() {
        let partition = partition();
        assert!(!partition.is_beyond_end(9));
        assert_eq!(partition.doubted.load(Ordering::Acquire), 9);
        partition.settled.store(9, Ordering::Release);
        assert!(!partition.is_beyond_end(8), "that was about another place");
        assert!(partition.is_beyond_end(9));
        assert!(!partition.is_beyond_end(9), "the log may have grown since");
    }
}
