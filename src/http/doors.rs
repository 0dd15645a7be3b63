//! What every handler may use.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use capek_actors::broker::BrokerShared;
use capek_actors::budget::MemoryBudget;
use capek_actors::consumer_instances::ConsumerInstances;
use capek_actors::http::Http;
use capek_actors::local::LocalClient;
use capek_wire::ids::BrokerId;
use capek_wire::partitioner::Sticky;

use super::body::Bodies;
use super::hosts::Hosts;
use super::metrics::HttpMetrics;
use super::origins::AllowedOrigins;

/// See the head of this file. One for the process, shared by all workers.
pub struct Doors {
    pub client: LocalClient,
    pub sessions: Addr<Http>,
    pub consumers: Addr<ConsumerInstances>,
    pub bodies: Bodies,
    /// `capek.http.allowed.origins`.
    pub allowed_origins: AllowedOrigins,
    pub hosts: Hosts,
    pub metrics: HttpMetrics,
    /// `capek.http.sse.rotate.ms`; None is never.
    pub rotate_sse_after: Option<Duration>,
    sticky: Mutex<Sticky>,
    in_flight: Arc<AtomicUsize>,
    is_stopping: AtomicBool,
}

/// A request or a stream that is being answered; counted until it is dropped.
#[derive(Default)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// After so many bytes without a key, another partition has its turn; Kafka's `batch.size`.
const STICKY_BYTES: usize = 16 << 10;

impl Doors {
    pub fn new(client: LocalClient, sessions: Addr<Http>, consumers: Addr<ConsumerInstances>, hosts: Hosts) -> Doors {
        let config = &client.broker.config;
        let image = client.image();
        let number = |name: &str| u64::try_from(config.number(&image, name)).unwrap_or(0);
        let bodies = Bodies {
            budget: MemoryBudget::new(config.memory_budget_bytes / 4),
            records_bytes_max: usize::try_from(number("capek.http.body.bytes.max")).unwrap_or(usize::MAX),
            due_within: Duration::from_millis(number("capek.http.body.timeout.ms")),
        };
        let rotate_sse_after = Some(number("capek.http.sse.rotate.ms")).filter(|ms| *ms > 0).map(Duration::from_millis);
        let allowed_origins = AllowedOrigins::parse(&config.text(&image, "capek.http.allowed.origins"));
        // Any seed will do: where a stream of records begins does not matter.
        let seed = std::process::id().into();
        Doors {
            client,
            sessions,
            consumers,
            bodies,
            allowed_origins,
            hosts,
            metrics: HttpMetrics::default(),
            rotate_sse_after,
            sticky: Mutex::new(Sticky::new(seed, STICKY_BYTES)),
            in_flight: Arc::default(),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub fn broker(&self) -> &BrokerShared {
        &self.client.broker
    }

    /// Those that may answer what is not known here.
    pub fn other_brokers(&self) -> Vec<BrokerId> {
        let (image, here) = (self.client.image(), self.broker().config.node_id);
        image.brokers().filter(|broker| broker.is_active() && broker.id != here).map(|broker| broker.id).collect()
    }

    /// The partition of a record without a key.
    pub fn sticky_partition(&self, partition_count: i32, record_bytes: usize) -> i32 {
        let mut sticky = self.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        sticky.partition(partition_count, record_bytes)
    }

    pub fn begin(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.in_flight.clone())
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub fn begin_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Waits until everything that was begun is answered, at most `grace`.
    pub async fn drained(&self, grace: Duration) {
        const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);
        let deadline = tokio::time::Instant::now() + grace;
        while self.in_flight.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}
