//! One partition's way out of a producer: records gather in a batch, batches leave in order, several on their way.
//!
//! ```text
//! queue ──▶ open ──(full, or lingered)──▶ ready ──▶ in flight ──▶ confirmed
//!                                           ▲           │ retriable
//!                                           └─ recover ◀┘ waits for all that is in flight, then sends again in order
//! ```
//!
//! With a producer id the broker drops what it has already, so that trying again stores nothing twice.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_wire::batch::BatchBuilder;
use capek_wire::messages::ProduceResponse;
use capek_wire::{ErrorCode, Uuid};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};

use super::cluster::Client;
use super::connection::Connection;
use super::error::ClientError;
use super::producer::{Delivery, ProducerOptions, ProducerRecord, Queued};
use super::records::{ProduceCall, read_produced, send_produce};

const BACKOFF: Duration = Duration::from_millis(50);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Lane {
    client: Client,
    options: ProducerOptions,
    topic: Arc<str>,
    partition: i32,
    producer_id: Option<(i64, i16)>,
    next_sequence: i32,
    deliveries: mpsc::Sender<Delivery>,
    open: Option<Open>,
    ready: VecDeque<Batch>,
    in_flight: VecDeque<InFlight>,
    /// Where the batches on their way went.
    route: Option<(Connection, Uuid)>,
}

/// The batch that takes records.
struct Open {
    builder: BatchBuilder,
    permits: Vec<OwnedSemaphorePermit>,
    closes: Instant,
}

/// A batch that takes no more records.
struct Batch {
    bytes: Bytes,
    count: usize,
    gives_up: Instant,
    _permits: Vec<OwnedSemaphorePermit>,
}

struct InFlight {
    batch: Batch,
    whom: String,
    answer: Answering,
}

type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;
type Answered = Result<ProduceResponse, ClientError>;

/// Nothing more can be sent on this lane; the deliveries have said why.
struct GivenUp;

impl Lane {
    pub fn new(
        client: Client,
        options: ProducerOptions,
        topic: Arc<str>,
        partition: i32,
        producer_id: Option<(i64, i16)>,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Lane {
        Lane {
            client,
            options,
            topic,
            partition,
            producer_id,
            next_sequence: 0,
            deliveries,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            route: None,
        }
    }

    /// Runs until the queue is closed and everything is confirmed, or until a batch is given up.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut is_open = true;
        while is_open || !self.is_idle() {
            if self.send_ready().await.is_err() {
                return;
            }
            let takes_more = is_open && self.ready.is_empty();
            let closes = self.open.as_ref().map(|open| open.closes);
            tokio::select! {
                biased;
                answer = first_answer(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    if self.answered(answer).await.is_err() {
                        return;
                    }
                }
                queued = queue.recv(), if takes_more => match queued {
                    Some(queued) => self.take(queued),
                    None => {
                        is_open = false;
                        self.close_open();
                    }
                },
                () = sleep_until(closes.unwrap_or_else(Instant::now)), if closes.is_some() => self.close_open(),
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.in_flight.is_empty()
    }

    fn take(&mut self, Queued { record, permit }: Queued) {
        let is_full = |open: &Open| {
            open.builder.size_estimate_bytes() + record.size_bytes() > self.options.batch_bytes_max
                && !open.builder.is_empty()
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.close_open();
        }
        let closes = Instant::now() + self.options.linger;
        let codec = self.options.codec;
        let open =
            self.open.get_or_insert_with(|| Open { builder: BatchBuilder::new(codec), permits: Vec::new(), closes });
        push(&mut open.builder, &record);
        open.permits.push(permit);
    }

    fn close_open(&mut self) {
        let Some(Open { mut builder, permits, .. }) = self.open.take() else { return };
        let count = builder.len();
        if let Some((id, epoch)) = self.producer_id {
            builder.producer(id, epoch, self.next_sequence);
            // Sequences count to i32::MAX and go on at 0.
            self.next_sequence = ((i64::from(self.next_sequence) + count as i64) & i64::from(i32::MAX)) as i32;
        }
        let bytes = builder.build().expect("a batch with records in it, far below 2 GiB").freeze();
        let gives_up = Instant::now() + self.options.delivery_timeout;
        self.ready.push_back(Batch { bytes, count, gives_up, _permits: permits });
    }

    async fn send_ready(&mut self) -> Result<(), GivenUp> {
        while self.in_flight.len() < self.options.in_flight_max.max(1) {
            let Some(batch) = self.ready.pop_front() else { return Ok(()) };
            match self.send(&batch).await {
                Ok(Some((whom, answer))) => self.in_flight.push_back(InFlight { batch, whom, answer }),
                Ok(None) => self.deliver(&batch, Ok(-1)).await,
                Err(error) => {
                    let gives_up = batch.gives_up;
                    // What is on its way goes before it.
                    self.ready.push_front(batch);
                    self.recover(VecDeque::new(), gives_up, error).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch) -> Result<Option<(String, Answering)>, ClientError> {
        let (connection, topic_id) = self.route().await?;
        let call = ProduceCall {
            topic: &self.topic,
            topic_id,
            partition: self.partition,
            records: batch.bytes.clone(),
            acks: self.options.acks,
            timeout: REQUEST_TIMEOUT,
        };
        let answer = send_produce(&connection, call).await?;
        Ok(answer.map(|answer| (connection.whom().to_owned(), Box::pin(answer.get()) as Answering)))
    }

    /// The way to the leader. It changes only while nothing is on its way: what takes another may arrive first.
    async fn route(&mut self) -> Result<(Connection, Uuid), ClientError> {
        match self.route.take().filter(|_| !self.in_flight.is_empty()) {
            Some(route) => self.route = Some(route),
            None => {
                let (leader, topic_id) = self.client.leader(&self.topic, self.partition).await?;
                self.route = Some((self.client.broker(leader).await?, topic_id));
            }
        }
        Ok(self.route.clone().expect("both arms have set it"))
    }

    async fn answered(&mut self, answer: Answered) -> Result<(), GivenUp> {
        let Some(InFlight { batch, whom, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        match self.outcome(&whom, answer) {
            Ok(base_offset) => {
                self.deliver(&batch, Ok(base_offset)).await;
                Ok(())
            }
            Err(error) => {
                let gives_up = batch.gives_up;
                self.recover(VecDeque::from([batch]), gives_up, error).await
            }
        }
    }

    fn outcome(&self, whom: &str, answer: Answered) -> Result<i64, ClientError> {
        let doing = format!("Produce to {}-{}", self.topic, self.partition);
        match answer.and_then(|response| read_produced(whom, &doing, response)) {
            Ok(produced) => Ok(produced.base_offset),
            // It was stored by an earlier try; where, the broker no longer knows.
            Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => Ok(-1),
            Err(error) => Err(error),
        }
    }

    /// The first batches on their way failed: waits for those behind them, then puts all that failed back in order, to be
    /// sent again.
    async fn recover(
        &mut self,
        mut again: VecDeque<Batch>,
        gives_up: Instant,
        error: ClientError,
    ) -> Result<(), GivenUp> {
        if !error.is_retriable() || Instant::now() > gives_up {
            self.give_up(again, error).await;
            return Err(GivenUp);
        }
        log::debug!("{}-{}: sending again: {error}", self.topic, self.partition);
        while let Some(InFlight { batch, whom, answer }) = self.in_flight.pop_front() {
            let answer = answer.await;
            match self.outcome(&whom, answer) {
                Ok(base_offset) => self.deliver(&batch, Ok(base_offset)).await,
                // Its predecessor is missing: that is what is being mended.
                Err(error) if error.is_retriable() || error.code() == Some(ErrorCode::OutOfOrderSequenceNumber) => {
                    again.push_back(batch);
                }
                Err(error) => {
                    again.push_back(batch);
                    self.give_up(again, error).await;
                    return Err(GivenUp);
                }
            }
        }
        while let Some(batch) = again.pop_back() {
            self.ready.push_front(batch);
        }
        self.client.forget(&self.topic);
        tokio::time::sleep(BACKOFF).await;
        Ok(())
    }

    async fn give_up(&mut self, failed: VecDeque<Batch>, error: ClientError) {
        self.close_open();
        let on_their_way = self.in_flight.drain(..).map(|one| one.batch);
        let lost: Vec<Batch> = failed.into_iter().chain(on_their_way).chain(self.ready.drain(..)).collect();
        for batch in lost {
            self.deliver(&batch, Err(error.clone())).await;
        }
    }

    async fn deliver(&mut self, batch: &Batch, result: Result<i64, ClientError>) {
        let delivery = Delivery { topic: self.topic.clone(), partition: self.partition, count: batch.count, result };
        // Nobody listens: nobody wants to know.
        let _ = self.deliveries.send(delivery).await;
    }
}

async fn first_answer(in_flight: &mut VecDeque<InFlight>) -> Answered {
    match in_flight.front_mut() {
        Some(first) => (&mut first.answer).await,
        None => std::future::pending().await,
    }
}

fn push(builder: &mut BatchBuilder, record: &ProducerRecord) {
    let now_ms = || jiff::Timestamp::now().as_millisecond();
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        record.headers.iter().map(|(key, value)| (key.as_ref(), value.as_deref())).collect();
    let timestamp = record.timestamp.unwrap_or_else(now_ms);
    builder.push(timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
}
