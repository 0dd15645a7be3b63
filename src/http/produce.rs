//! Records in, for every door that takes them: a partition for each as Kafka's clients choose, one batch for each partition,
//! and another try where it is certain that nothing was stored.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web;
use bytes::{Bytes, BytesMut};
use capek_actors::produce::{Acks, AppendOptions, PartitionAnswer};
use capek_state::Refusal;
use capek_state::config::TopicConfig;
use capek_wire::batch::{BatchBuilder, Codec, HEADER_BYTES};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex};
use capek_wire::partitioner::partition_for_key;
use tokio::time::Instant;

use super::doors::Doors;
use super::grown;
use super::idempotency::{self, IdempotencyKey, KeyedProducer};

/// A record as a request has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// None: the key decides, or whose turn it is.
    pub partition: Option<PartitionIndex>,
    pub key: Option<Bytes>,
    /// None deletes the key in a compacted topic.
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// None: now.
    pub timestamp_ms: Option<i64>,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub timestamp_ms: i64,
}

/// Why a record was not stored, or perhaps not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored {
    pub code: ErrorCode,
    pub message: Option<String>,
    /// Nearly always as Kafka has it of the code.
    pub is_retriable: bool,
}

impl NotStored {
    pub fn new(code: ErrorCode, message: Option<String>) -> NotStored {
        NotStored { code, message, is_retriable: code.is_retriable() }
    }
}

/// How to store.
#[derive(Debug, Clone, Copy)]
pub struct ProduceOptions {
    pub acks: Acks,
    pub timeout: Duration,
    /// Whoever sends the same again stores nothing again.
    pub idempotency: Option<IdempotencyKey>,
}

impl Default for ProduceOptions {
    fn default() -> ProduceOptions {
        ProduceOptions { acks: Acks::All, timeout: Duration::from_secs(30), idempotency: None }
    }
}

pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(10);
pub(super) const BACKOFF_MAX: Duration = Duration::from_millis(320);

/// Stores the records; an outcome for each, in their order. An error is about the topic as a whole.
pub async fn produce(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<NewRecord>,
    options: ProduceOptions,
) -> Result<Vec<Result<Stored, NotStored>>, Refusal> {
    if let Some(key) = options.idempotency {
        return grown::produce(doors, topic, records, key, options).await;
    }
    let count = doors.client.partition_count(topic).await?;
    Ok(produce_among(doors, topic, records, Counts { now: count, chosen: count }, options).await)
}

/// How many partitions a topic has, and among how many of them the records choose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub now: i32,
    pub chosen: i32,
}

pub(super) async fn produce_among(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<NewRecord>,
    counts: Counts,
    options: ProduceOptions,
) -> Vec<Result<Stored, NotStored>> {
    let now_ms = now_ms();
    let mut outcomes: Vec<Option<Result<Stored, NotStored>>> = vec![None; records.len()];
    let is_chosen = records.iter().any(|record| record.partition.is_none());
    let partition_count = options.idempotency.filter(|_| is_chosen).map(|_| counts.now);
    let (mut by_partition, nowhere) = by_partition(doors, records, counts, options.idempotency);
    for (index, partition) in nowhere {
        outcomes[index] = Some(Err(no_such_partition(topic, partition, counts.now)));
    }
    let to = move |partition| To { partition, partition_count };
    // A single batch is with its partition at once, or not at all.
    if let Some((partition, records)) = only_batch(doors, topic, &mut by_partition) {
        note(&mut outcomes, produce_to_partition(doors, topic, to(partition), records, options, now_ms).await);
    }
    // Each in a task of its own: what was begun is stored whole, or refused whole, also when its client hangs up meanwhile.
    let mut running = Vec::with_capacity(by_partition.len());
    for (partition, records) in by_partition {
        let (doors, topic, in_flight) = (doors.clone(), topic.to_owned(), doors.begin());
        running.push(actix_rt::spawn(async move {
            let stored = produce_to_partition(&doors, &topic, to(partition), records, options, now_ms).await;
            drop(in_flight);
            stored
        }));
    }
    for stored in running {
        // A task that panicked leaves its records without an outcome, which is what they get below.
        note(&mut outcomes, stored.await.unwrap_or_default());
    }
    let unknown = || Err(NotStored::new(ErrorCode::UnknownServerError, None));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unknown)).collect()
}

/// Records with their places in the request, by their partitions.
pub(super) type ByPartition = BTreeMap<PartitionIndex, Vec<(usize, NewRecord)>>;

/// And the places of those whose partition there is not.
pub(super) fn by_partition(
    doors: &Doors,
    records: Vec<NewRecord>,
    counts: Counts,
    idempotency: Option<IdempotencyKey>,
) -> (ByPartition, Vec<(usize, PartitionIndex)>) {
    let (mut by_partition, mut nowhere) = (ByPartition::new(), Vec::new());
    for (index, record) in records.into_iter().enumerate() {
        match choose_partition(doors, &record, counts, idempotency) {
            Ok(partition) => by_partition.entry(partition).or_default().push((index, record)),
            Err(partition) => nowhere.push((index, partition)),
        }
    }
    (by_partition, nowhere)
}

/// Stores those that are good, in their order, among those that are not.
pub async fn produce_good<E>(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<Result<NewRecord, E>>,
    options: ProduceOptions,
) -> Result<Vec<Result<Result<Stored, NotStored>, E>>, Refusal> {
    let mut good = Vec::with_capacity(records.len());
    let read: Vec<_> = records.into_iter().map(|record| record.map(|record| good.push(record))).collect();
    let stored = if good.is_empty() { Vec::new() } else { produce(doors, topic, good, options).await? };
    let mut stored = stored.into_iter();
    let outcome = |read: Result<(), E>| read.map(|()| stored.next().expect("an outcome for each record"));
    Ok(read.into_iter().map(outcome).collect())
}

/// Takes it out, when there is no other.
fn only_batch(
    doors: &Doors,
    topic: &str,
    by_partition: &mut ByPartition,
) -> Option<(PartitionIndex, Vec<(usize, NewRecord)>)> {
    if by_partition.len() != 1 {
        return None;
    }
    let only = by_partition.first_entry()?;
    let size_bytes: usize = only.get().iter().map(|(_, record)| size_estimate_bytes(record)).sum();
    let is_one = HEADER_BYTES + size_bytes <= batch_bytes_max(doors, topic, *only.key());
    is_one.then(|| only.remove_entry())
}

type Outcomes = Vec<(usize, Result<Stored, NotStored>)>;

fn note(outcomes: &mut [Option<Result<Stored, NotStored>>], found: Outcomes) {
    for (index, outcome) in found {
        outcomes[index] = Some(outcome);
    }
}

/// `Err` is a partition that there is not.
pub(super) fn choose_partition(
    doors: &Doors,
    record: &NewRecord,
    counts: Counts,
    idempotency: Option<IdempotencyKey>,
) -> Result<PartitionIndex, PartitionIndex> {
    match (record.partition, &record.key) {
        (Some(partition), _) if (0..counts.now).contains(&partition) => Ok(partition),
        (Some(partition), _) => Err(partition),
        (None, Some(key)) => Ok(partition_for_key(key, counts.chosen)),
        (None, None) => Ok(match idempotency {
            Some(idempotency) => idempotency.partition(counts.chosen),
            None => doors.sticky_partition(counts.chosen, size_estimate_bytes(record)),
        }),
    }
}

pub(super) fn no_such_partition(topic: &str, partition: PartitionIndex, partition_count: i32) -> NotStored {
    let message = format!("partition {partition} is not in the range [0...{partition_count}) of topic {topic}");
    // The topic is there: nothing is to be waited for.
    NotStored { is_retriable: false, ..NotStored::new(ErrorCode::UnknownTopicOrPartition, Some(message)) }
}

/// A partition, and of [`AppendOptions`] what goes with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    pub partition: PartitionIndex,
    pub partition_count: Option<i32>,
}

/// Batches of one partition go one after the other, so that records keep their order.
async fn produce_to_partition(
    doors: &Doors,
    topic: &str,
    to: To,
    records: Vec<(usize, NewRecord)>,
    options: ProduceOptions,
    now_ms: i64,
) -> Outcomes {
    let partition = to.partition;
    let mut outcomes = Vec::with_capacity(records.len());
    for (number, group) in split(records, batch_bytes_max(doors, topic, partition)).into_iter().enumerate() {
        let keyed = options.idempotency.map(|key| key.producer(number, group.iter().map(|(_, record)| record)));
        let answer = match build(group.iter().map(|(_, record)| record), now_ms, keyed) {
            Ok(batch) => append(doors, topic, to, batch, options).await,
            Err(code) => PartitionAnswer::error(code),
        };
        for (position, (index, record)) in group.iter().enumerate() {
            outcomes.push((*index, outcome_of(&answer, position, partition, record.timestamp_ms.unwrap_or(now_ms))));
        }
    }
    outcomes
}

/// What the topic takes at most in one batch.
pub(super) fn batch_bytes_max(doors: &Doors, topic: &str, partition: PartitionIndex) -> usize {
    let bytes_max = with_topic_config(doors, topic, partition, |config| config.max_message_bytes);
    usize::try_from(bytes_max).unwrap_or(usize::MAX)
}

/// The topic's configuration, wherever the partition is led.
pub(super) fn with_topic_config<T>(
    doors: &Doors,
    topic: &str,
    partition: PartitionIndex,
    look: impl FnOnce(&TopicConfig) -> T,
) -> T {
    let (broker, image) = (doors.broker(), doors.client.image());
    let replica = broker.routes.topic(topic).and_then(|topic| topic.partition(partition));
    match replica {
        Some(replica) => look(&replica.shared.config()),
        None => look(&image.topic_config(topic, broker.config.node_id, &broker.config.properties)),
    }
}

pub(super) fn outcome_of(
    answer: &PartitionAnswer,
    position: usize,
    partition: PartitionIndex,
    timestamp_ms: i64,
) -> Result<Stored, NotStored> {
    if answer.error == ErrorCode::OutOfOrderSequenceNumber {
        let message = format!("this {} was used for other records", idempotency::HEADER);
        return Err(NotStored::new(answer.error, Some(message)));
    }
    if answer.error != ErrorCode::None {
        return Err(NotStored::new(answer.error, answer.message.clone()));
    }
    let timestamp_ms = if answer.log_append_time_ms >= 0 { answer.log_append_time_ms } else { timestamp_ms };
    Ok(Stored { partition, offset: answer.base_offset + position as Offset, timestamp_ms })
}

/// As few batches as the topic's limit allows.
pub(super) fn split(records: Vec<(usize, NewRecord)>, batch_bytes_max: usize) -> Vec<Vec<(usize, NewRecord)>> {
    let mut groups: Vec<Vec<(usize, NewRecord)>> = Vec::new();
    let mut group_bytes = 0;
    for (index, record) in records {
        let record_bytes = size_estimate_bytes(&record);
        match groups.last_mut() {
            Some(group) if group_bytes + record_bytes <= batch_bytes_max => {
                group_bytes += record_bytes;
                group.push((index, record));
            }
            _ => {
                group_bytes = HEADER_BYTES + record_bytes;
                groups.push(vec![(index, record)]);
            }
        }
    }
    groups
}

/// No less than what the record takes in a batch.
pub(super) fn size_estimate_bytes(record: &NewRecord) -> usize {
    /// Lengths, deltas and the header count.
    const OVERHEAD_BYTES: usize = 32;
    const HEADER_OVERHEAD_BYTES: usize = 10;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(key, value)| key.len() + length(value) + HEADER_OVERHEAD_BYTES);
    OVERHEAD_BYTES + length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

/// One batch; what says no time has this one.
pub(super) fn build<'a>(
    records: impl IntoIterator<Item = &'a NewRecord>,
    now_ms: i64,
    keyed: Option<KeyedProducer>,
) -> Result<BytesMut, ErrorCode> {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(keyed) = keyed {
        builder.producer(keyed.id, keyed.epoch, keyed.sequence);
    }
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        let timestamp_ms = record.timestamp_ms.unwrap_or(now_ms);
        builder.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.build().map_err(|error| error.error_code())
}

/// NOT_LEADER_OR_FOLLOWER says that the batch was certainly not stored; only then is it sent again, to whoever leads by then,
/// unless its key makes sure that it is not stored twice.
pub(super) async fn append(
    doors: &Doors,
    topic: &str,
    to: To,
    batch: BytesMut,
    options: ProduceOptions,
) -> PartitionAnswer {
    let To { partition, partition_count } = to;
    let deadline = Instant::now() + options.timeout;
    let mut backoff = BACKOFF_FIRST;
    loop {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let appending = AppendOptions { acks: options.acks, timeout, partition_count };
        let answer = doors.client.produce(topic, partition, batch.clone(), appending).await;
        let is_safe_again = match answer.error {
            ErrorCode::NotLeaderOrFollower => true,
            ErrorCode::RequestTimedOut => options.idempotency.is_some(),
            _ => false,
        };
        if !is_safe_again || Instant::now() + backoff > deadline {
            return answer;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

pub(super) fn now_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value_bytes: usize) -> NewRecord {
        NewRecord { value: Some(Bytes::from(vec![b'x'; value_bytes])), ..Default::default() }
    }

    #[test]
    fn batches_stay_below_the_topics_limit() {
        let records: Vec<_> = [400, 400, 400, 5000, 10].into_iter().map(record).enumerate().collect();
        let groups = split(records, 1000);
        let indexes: Vec<Vec<usize>> =
            groups.iter().map(|group| group.iter().map(|(index, _)| *index).collect()).collect();
        assert_eq!(indexes, [vec![0, 1], vec![2], vec![3], vec![4]], "too large alone is for the broker to refuse");
        for group in &groups[..2] {
            assert!(build(group.iter().map(|(_, record)| record), 0, None).unwrap().len() <= 1000);
        }
    }

    #[test]
    fn the_estimate_is_no_less_than_the_record() {
        let header = (Bytes::from_static(b"h"), Some(Bytes::from_static(b"v")));
        let large = NewRecord {
            key: Some(Bytes::from(vec![0; 300])),
            headers: vec![header; 100],
            timestamp_ms: Some(i64::MAX / 4),
            ..record(100_000)
        };
        let records = [record(0), large];
        let estimate: usize = records.iter().map(size_estimate_bytes).sum();
        assert!(build(&records, 0, None).unwrap().len() <= HEADER_BYTES + estimate);
    }

    #[test]
    fn offsets_count_from_the_batchs_first() {
        let answer = PartitionAnswer { base_offset: 40, ..PartitionAnswer::error(ErrorCode::None) };
        assert_eq!(outcome_of(&answer, 2, 1, 99), Ok(Stored { partition: 1, offset: 42, timestamp_ms: 99 }));
        let refused = PartitionAnswer::error(ErrorCode::MessageTooLarge);
        assert_eq!(outcome_of(&refused, 0, 1, 99), Err(NotStored::new(ErrorCode::MessageTooLarge, None)));
    }
}
