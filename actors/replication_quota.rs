//! How fast throttled replicas are copied: Kafka's `leader.replication.throttled.rate` for what this broker gives, and
//! `follower.replication.throttled.rate` for what it takes. All who are throttled share one account; whoever is in sync is not
//! throttled, or a low rate would throw it out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use capek_state::cluster::Image;
use capek_state::config::ThrottledReplicas;
use capek_wire::ids::PartitionIndex;

use crate::config::BrokerConfig;
use crate::throttle::Throttle;

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
/// Whoever pauses looks again so often, at least: the rate may have changed.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// See the head of this file.
pub struct ReplicationQuota {
    setting: &'static str,
    config: Arc<BrokerConfig>,
    image: Arc<ArcSwap<Image>>,
    account: Mutex<Account>,
}

struct Account {
    /// What was taken was paid for at this rate, in bytes a second.
    rate: i64,
    throttle: Throttle,
}

impl ReplicationQuota {
    pub fn of_leaders(config: Arc<BrokerConfig>, image: Arc<ArcSwap<Image>>) -> Self {
        Self::new(LEADER_RATE, config, image)
    }

    pub fn of_followers(config: Arc<BrokerConfig>, image: Arc<ArcSwap<Image>>) -> Self {
        Self::new(FOLLOWER_RATE, config, image)
    }

    fn new(setting: &'static str, config: Arc<BrokerConfig>, image: Arc<ArcSwap<Image>>) -> Self {
        let account = Account { rate: i64::MAX, throttle: Throttle::new(Instant::now()) };
        Self { setting, config, image, account: Mutex::new(account) }
    }

    /// Whether this broker's replica of the partition is among these.
    pub fn is_for(&self, replicas: &ThrottledReplicas, partition: PartitionIndex) -> bool {
        replicas.contains(partition, self.config.node_id)
    }

    /// Bytes that may be taken at once, at most.
    pub fn burst_bytes(&self) -> usize {
        usize::try_from(self.rate()).unwrap_or(0).max(1)
    }

    /// How long to wait before more is taken; None: go on.
    pub fn pause(&self) -> Option<Duration> {
        let pause = self.with_account(|rate, throttle, now| throttle.take(0, rate, now));
        (pause > Duration::ZERO).then(|| pause.min(PAUSE_MAX))
    }

    pub fn take(&self, bytes: usize) {
        self.with_account(|rate, throttle, now| throttle.take(bytes as u64, rate, now));
    }

    fn with_account<T>(&self, work: impl FnOnce(f64, &mut Throttle, Instant) -> T) -> T {
        let (rate, now) = (self.rate(), Instant::now());
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        if account.rate != rate {
            // What was taken at another rate is forgiven: else whoever raises it would wait as long as before.
            *account = Account { rate, throttle: Throttle::new(now) };
        }
        work(rate as f64, &mut account.throttle, now)
    }

    fn rate(&self) -> i64 {
        self.config.number(&self.image.load(), self.setting)
    }
}
