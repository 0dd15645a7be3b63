//! Single records that requests bring in the same turn of their worker's event loop become one batch for each partition, as with a
//! Kafka producer that does not linger: a hundred requests cost their partition, the journal and the way there and back as much as
//! one.
//!
//! ```text
//!   request ─┐
//!   request ─┼─▶ Gathering (topic, partition, acks, time) ──end of the turn──▶ one batch ──▶ its answer, to each its own offset
//!   request ─┘
//! ```
//!
//! Nobody is refused because of a neighbour: what the partition could refuse one record of a batch for is looked at before it
//! joins, and such a record goes alone. What it refuses a whole batch for, it would have refused each of them for.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::{HttpRequest, web};
use capek_actors::produce::{Acks, PartitionAnswer};
use capek_state::Refusal;
use capek_state::config::TopicConfig;
use capek_wire::batch::HEADER_BYTES;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;

use super::body::Body;
use super::doors::{Doors, InFlight};
use super::produce::{self, Counts, NewRecord, NotStored, ProduceOptions, Stored, To};

/// A batch with this many records is complete.
const RECORDS_MAX: usize = 1_000;
/// And one of so many bytes: four times Kafka's `batch.size`.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// So many are open in one turn; records for other partitions go alone.
const GATHERINGS_MAX: usize = 64;

/// What gathers on one worker. See the head of this file.
#[derive(Default)]
pub struct Gatherer {
    open: RefCell<Vec<Rc<Gathering>>>,
}

/// One batch, from its first record to its answer.
struct Gathering {
    topic: String,
    place: Place,
    limits: Limits,
    size_bytes: Cell<usize>,
    records: RefCell<Vec<NewRecord>>,
    /// Paid for until there is an answer: who asked may have gone by then.
    bodies: RefCell<Vec<Body>>,
    answer: RefCell<Option<Answer>>,
    /// One for each record, in their order.
    wakers: RefCell<Vec<Option<Waker>>>,
}

struct Answer {
    answer: PartitionAnswer,
    timestamp_ms: i64,
}

/// Records of one batch have all of this in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    partition: PartitionIndex,
    acks: Acks,
    timeout: Duration,
}

/// What a partition takes without looking at each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    batch_bytes_max: usize,
    /// Compacted topics want keys.
    needs_keys: bool,
}

impl Limits {
    fn of(config: &TopicConfig) -> Limits {
        let message_bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
        // Half, for a topic with a codec of its own may make a batch somewhat larger than it came.
        let batch_bytes_max = message_bytes_max.min(config.segment_bytes as usize) / 2;
        Limits { batch_bytes_max: batch_bytes_max.min(BATCH_BYTES_MAX), needs_keys: config.cleanup_policy.compact }
    }

    /// Whether there is nothing in this record that a batch could be refused for.
    fn take(self, record: &NewRecord) -> bool {
        let has_what_it_needs = !self.needs_keys || record.key.is_some();
        // All get the same time, which is now: it is right for all of them or for none.
        has_what_it_needs && record.timestamp_ms.is_none() && self.have_room(0, record)
    }

    fn have_room(self, size_bytes: usize, record: &NewRecord) -> bool {
        HEADER_BYTES + size_bytes + produce::size_estimate_bytes(record) <= self.batch_bytes_max
    }
}

/// A record and what pays for it.
struct Offered {
    record: NewRecord,
    body: Body,
}

/// What became of an [`Offered`].
enum Joined {
    /// The first of a batch, which somebody must store.
    First(Waiting),
    Later(Waiting),
    /// It must go alone.
    Not(Offered),
}

impl Gatherer {
    /// That of the worker which serves this.
    pub fn of(request: &HttpRequest) -> Rc<Gatherer> {
        request.app_data::<Rc<Gatherer>>().cloned().expect("each worker is made with one")
    }

    /// Stores one record, together with those that come with it; who goes before the answer takes none of them along. An error is
    /// about the topic as a whole.
    pub async fn produce(
        self: Rc<Gatherer>,
        doors: &web::Data<Doors>,
        topic: &str,
        record: NewRecord,
        options: ProduceOptions,
        body: Body,
    ) -> Result<Result<Stored, NotStored>, Refusal> {
        let ProduceOptions { acks, timeout, idempotency } = options;
        if idempotency.is_some() {
            // Its batch is known again by what it holds.
            return Box::pin(produce_alone(doors, topic, record, options)).await;
        }
        let partition_count = doors.client.partition_count(topic).await?;
        let counts = Counts { now: partition_count, chosen: partition_count };
        let partition = match produce::choose_partition(doors, &record, counts, None) {
            Ok(partition) => partition,
            Err(partition) => return Ok(Err(produce::no_such_partition(topic, partition, partition_count))),
        };
        let limits = || produce::with_topic_config(doors, topic, partition, Limits::of);
        match self.join(topic, Place { partition, acks, timeout }, limits, Offered { record, body }) {
            Joined::Later(waiting) => Ok(waiting.await),
            Joined::First(waiting) => {
                let gathering = waiting.gathering.clone();
                actix_rt::spawn(store(self, gathering, doors.clone(), doors.begin()));
                Ok(waiting.await)
            }
            Joined::Not(Offered { record, body: _body }) => {
                let record = NewRecord { partition: Some(partition), ..record };
                Box::pin(produce_alone(doors, topic, record, options)).await // rare, and its future large
            }
        }
    }

    fn join(&self, topic: &str, place: Place, limits: impl FnOnce() -> Limits, offered: Offered) -> Joined {
        let mut open = self.open.borrow_mut();
        let found = open.iter().position(|gathering| gathering.place == place && gathering.topic == topic);
        if let Some(index) = found {
            let gathering = &open[index];
            if !gathering.limits.take(&offered.record) {
                return Joined::Not(offered);
            }
            if gathering.has_room(&offered.record) {
                return Joined::Later(gathering.push(offered));
            }
            open.swap_remove(index); // it is stored as it is
        }
        if open.len() >= GATHERINGS_MAX {
            return Joined::Not(offered);
        }
        let limits = limits();
        if !limits.take(&offered.record) {
            return Joined::Not(offered);
        }
        let gathering = Rc::new(Gathering::new(topic, place, limits));
        let waiting = gathering.push(offered);
        open.push(gathering);
        Joined::First(waiting)
    }

    /// Nothing joins it any more.
    fn close(&self, gathering: &Rc<Gathering>) {
        self.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, gathering));
    }
}

async fn produce_alone(
    doors: &web::Data<Doors>,
    topic: &str,
    record: NewRecord,
    options: ProduceOptions,
) -> Result<Result<Stored, NotStored>, Refusal> {
    let outcomes = produce::produce(doors, topic, vec![record], options).await?;
    Ok(outcomes.into_iter().next().expect("an outcome for each record"))
}

impl Gathering {
    fn new(topic: &str, place: Place, limits: Limits) -> Gathering {
        Gathering {
            topic: topic.to_owned(),
            place,
            limits,
            size_bytes: Cell::new(0),
            records: RefCell::default(),
            bodies: RefCell::default(),
            answer: RefCell::default(),
            wakers: RefCell::default(),
        }
    }

    fn has_room(&self, record: &NewRecord) -> bool {
        self.records.borrow().len() < RECORDS_MAX && self.limits.have_room(self.size_bytes.get(), record)
    }

    fn push(self: &Rc<Gathering>, offered: Offered) -> Waiting {
        let mut records = self.records.borrow_mut();
        self.size_bytes.set(self.size_bytes.get() + produce::size_estimate_bytes(&offered.record));
        let position = records.len();
        records.push(offered.record);
        self.bodies.borrow_mut().push(offered.body);
        self.wakers.borrow_mut().push(None);
        Waiting { gathering: self.clone(), position }
    }

    fn answered(&self, answer: PartitionAnswer, timestamp_ms: i64) {
        self.bodies.take();
        *self.answer.borrow_mut() = Some(Answer { answer, timestamp_ms });
        for waker in self.wakers.take().into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Ends with what became of one record.
struct Waiting {
    gathering: Rc<Gathering>,
    position: usize,
}

impl Future for Waiting {
    type Output = Result<Stored, NotStored>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Waiting { gathering, position } = &*self;
        if let Some(Answer { answer, timestamp_ms }) = &*gathering.answer.borrow() {
            let partition = gathering.place.partition;
            return Poll::Ready(produce::outcome_of(answer, *position, partition, *timestamp_ms));
        }
        let waker = &mut gathering.wakers.borrow_mut()[*position];
        match waker {
            Some(waker) => waker.clone_from(task.waker()),
            None => *waker = Some(task.waker().clone()),
        }
        Poll::Pending
    }
}

/// Runs as a task. It was queued behind all requests that were there when the first of its own came: when it is polled, they have
/// joined.
async fn store(gatherer: Rc<Gatherer>, gathering: Rc<Gathering>, doors: web::Data<Doors>, in_flight: InFlight) {
    gatherer.close(&gathering);
    let unanswered = Unanswered(&gathering);
    let (records, timestamp_ms) = (gathering.records.take(), produce::now_ms());
    let Place { partition, acks, timeout } = gathering.place;
    let answer = match produce::build(&records, timestamp_ms, None) {
        Ok(batch) => {
            drop(records);
            let options = ProduceOptions { acks, timeout, idempotency: None };
            produce::append(&doors, &gathering.topic, To { partition, partition_count: None }, batch, options).await
        }
        Err(code) => PartitionAnswer::error(code),
    };
    gathering.answered(answer, timestamp_ms);
    drop((unanswered, in_flight));
}

/// Answers when storing has panicked.
struct Unanswered<'a>(&'a Gathering);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.0.answer.borrow().is_none() {
            self.0.answered(PartitionAnswer::error(ErrorCode::UnknownServerError), -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: Limits = Limits { batch_bytes_max: 1_000, needs_keys: false };
    const PLACE: Place = Place { partition: 1, acks: Acks::All, timeout: Duration::from_secs(30) };

    fn record(value_bytes: usize) -> NewRecord {
        NewRecord { value: Some(Bytes::from(vec![b'x'; value_bytes])), ..Default::default() }
    }

    fn join(gatherer: &Gatherer, place: Place, limits: Limits, record: NewRecord) -> Joined {
        gatherer.join("orders", place, || limits, Offered { record, body: Body::free(Bytes::new()) })
    }

    #[track_caller]
    fn opened(joined: Joined) -> Waiting {
        let Joined::First(waiting) = joined else { panic!("it is not the first") };
        waiting
    }

    #[track_caller]
    fn joined(joined: Joined) -> Waiting {
        let Joined::Later(waiting) = joined else { panic!("it is not one of several") };
        waiting
    }

    fn is_alone(joined: Joined) -> bool {
        matches!(joined, Joined::Not(_))
    }

    fn stored_at(base_offset: i64) -> PartitionAnswer {
        PartitionAnswer { base_offset, ..PartitionAnswer::error(ErrorCode::None) }
    }

    fn poll(waiting: &mut Waiting) -> Poll<Result<Stored, NotStored>> {
        Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_record_of_a_batch_is_told_its_own_offset() {
        let gatherer = Gatherer::default();
        let mut first = opened(join(&gatherer, PLACE, LIMITS, record(1)));
        let mut second = joined(join(&gatherer, PLACE, LIMITS, record(2)));
        let third = joined(join(&gatherer, PLACE, LIMITS, record(3)));
        assert_eq!(first.gathering.records.borrow()[..], [record(1), record(2), record(3)]);
        assert_eq!((poll(&mut first), poll(&mut second)), (Poll::Pending, Poll::Pending));
        let gathering = first.gathering.clone();
        gatherer.close(&gathering);
        drop(third); // its client has gone
        gathering.answered(stored_at(40), 99);
        let stored = |offset| Poll::Ready(Ok(Stored { partition: 1, offset, timestamp_ms: 99 }));
        assert_eq!((poll(&mut second), poll(&mut first)), (stored(41), stored(40)));
        assert!(gathering.bodies.borrow().is_empty(), "what paid for it is given back");
        opened(join(&gatherer, PLACE, LIMITS, record(1)));
    }

    #[test]
    fn a_batch_holds_what_goes_the_same_way() {
        let gatherer = Gatherer::default();
        opened(join(&gatherer, PLACE, LIMITS, record(1)));
        for other in [
            Place { partition: 2, ..PLACE },
            Place { acks: Acks::Leader, ..PLACE },
            Place { timeout: Duration::from_secs(1), ..PLACE },
        ] {
            opened(join(&gatherer, other, LIMITS, record(1)));
            joined(join(&gatherer, other, LIMITS, record(1)));
        }
        let offered = Offered { record: record(1), body: Body::free(Bytes::new()) };
        opened(gatherer.join("others", PLACE, || LIMITS, offered));
        joined(join(&gatherer, PLACE, LIMITS, record(1)));
    }

    #[test]
    fn what_could_be_refused_for_itself_goes_alone() {
        let check = |limits: Limits, record: NewRecord, expected: bool| {
            let gatherer = Gatherer::default();
            assert_eq!(is_alone(join(&gatherer, PLACE, limits, record.clone())), expected, "first: {record:?}");
            let key = Some(Bytes::from_static(b"k"));
            opened(join(&Gatherer::default(), PLACE, limits, NewRecord { key: key.clone(), ..Default::default() }));
            let gatherer = Gatherer::default();
            opened(join(&gatherer, PLACE, limits, NewRecord { key, ..Default::default() }));
            assert_eq!(is_alone(join(&gatherer, PLACE, limits, record.clone())), expected, "later: {record:?}");
        };
        let compacted = Limits { needs_keys: true, ..LIMITS };
        check(LIMITS, record(10), false);
        check(LIMITS, record(1_000), true);
        check(LIMITS, NewRecord { timestamp_ms: Some(5), ..record(10) }, true);
        check(compacted, record(10), true);
        check(compacted, NewRecord { key: Some(Bytes::from_static(b"k")), ..record(10) }, false);
    }

    #[test]
    fn a_full_batch_is_closed_and_stays_within_its_limits() {
        let gatherer = Gatherer::default();
        let mut batches = Vec::new();
        for _ in 0..20 {
            match join(&gatherer, PLACE, LIMITS, record(200)) {
                Joined::First(waiting) => batches.push(waiting.gathering),
                Joined::Later(_) => {}
                Joined::Not(_) => panic!("there is room in the next"),
            }
        }
        assert_eq!(batches.iter().map(|batch| batch.records.borrow().len()).sum::<usize>(), 20);
        for batch in batches {
            let built = produce::build(&*batch.records.borrow(), 0, None).unwrap();
            assert!(built.len() <= LIMITS.batch_bytes_max, "{}", built.len());
        }
        let large = Limits { batch_bytes_max: usize::MAX, ..LIMITS };
        let gatherer = Gatherer::default();
        let first = opened(join(&gatherer, PLACE, large, record(0)));
        for _ in 1..RECORDS_MAX {
            joined(join(&gatherer, PLACE, large, record(0)));
        }
        assert_eq!(first.gathering.records.borrow().len(), RECORDS_MAX);
        opened(join(&gatherer, PLACE, large, record(0)));
    }

    #[test]
    fn beyond_so_many_batches_at_once_records_go_alone() {
        let gatherer = Gatherer::default();
        for partition in 0..GATHERINGS_MAX as PartitionIndex {
            opened(join(&gatherer, Place { partition, ..PLACE }, LIMITS, record(1)));
        }
        assert!(is_alone(join(&gatherer, Place { partition: -1, ..PLACE }, LIMITS, record(1))));
        joined(join(&gatherer, Place { partition: 0, ..PLACE }, LIMITS, record(1)));
    }

    #[test]
    fn a_batch_that_nobody_stored_is_answered_all_the_same() {
        let gatherer = Gatherer::default();
        let mut waiting = opened(join(&gatherer, PLACE, LIMITS, record(1)));
        assert_eq!(poll(&mut waiting), Poll::Pending);
        let gathering = waiting.gathering.clone();
        drop(Unanswered(&gathering));
        let unknown = NotStored::new(ErrorCode::UnknownServerError, None);
        assert_eq!(poll(&mut waiting), Poll::Ready(Err(unknown)));
    }

    #[test]
    fn a_batch_takes_half_of_what_its_topic_takes_and_no_more_than_ours() {
        let check = |max_message_bytes, segment_bytes, expected| {
            let config = TopicConfig { max_message_bytes, segment_bytes, ..TopicConfig::default() };
            assert_eq!(Limits::of(&config).batch_bytes_max, expected);
        };
        check(2_000, 1 << 30, 1_000);
        check(1 << 20, 1_000, 500);
        check(1 << 20, 1 << 30, BATCH_BYTES_MAX);
    }
}
