//! Keys of a topic that got more partitions lately: a request that comes again chooses among more of them than at its first try,
//! and would go where nobody knows it.
//!
//! So the partitions that it may have gone to are asked first, and it chooses among as many as then if they know it. Who asks makes
//! them refuse those who have not heard of the new partitions yet (`capek_actors::partition`): a first try that is still on its
//! way does not get in behind the question.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::web;
use capek_state::Refusal;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{PartitionIndex, ProducerId, TopicId};
use capek_wire::peer::calls::KeyedBatch;
use tokio::time::Instant;

use super::doors::Doors;
use super::idempotency::{IdempotencyKey, KeyedProducer};
use super::produce::{self, Counts, NewRecord, NotStored, ProduceOptions, Stored};

/// The batches that a request becomes when it chooses among so many partitions.
type Layout = Vec<(PartitionIndex, KeyedProducer)>;

/// What partitions know of the producers that they were asked for.
type Known = BTreeMap<(PartitionIndex, ProducerId), KeyedBatch>;

/// What partitions forget later than they say: what they have read from their logs they keep for an hour at least, and they look
/// every ten minutes.
const FORGOTTEN_WITHIN_MS: i64 = 2 * 60 * 60 * 1_000;

/// See the head of this file. What is stored of the request is stored whole, also when its client hangs up meanwhile.
pub async fn produce(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<NewRecord>,
    key: IdempotencyKey,
    options: ProduceOptions,
) -> Result<Vec<Result<Stored, NotStored>>, Refusal> {
    let deadline = Instant::now() + options.timeout;
    let (doors, topic, in_flight) = (doors.clone(), topic.to_owned(), doors.begin());
    let stored = actix_rt::spawn(async move {
        let _in_flight = in_flight;
        let mut backoff = produce::BACKOFF_FIRST;
        loop {
            let counts = counts(&doors, &topic, &records, key, deadline).await?;
            let left = ProduceOptions { timeout: deadline.saturating_duration_since(Instant::now()), ..options };
            let outcomes = produce::produce_among(&doors, &topic, records.clone(), counts, left).await;
            if !outcomes.iter().any(is_outgrown) {
                return Ok(outcomes);
            }
            if Instant::now() + backoff > deadline {
                let message = || Some("the topic gets more partitions".to_owned());
                let late = || Err(NotStored::new(ErrorCode::RequestTimedOut, message()));
                let told = |outcome| if is_outgrown(&outcome) { late() } else { outcome };
                return Ok(outcomes.into_iter().map(told).collect());
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(produce::BACKOFF_MAX);
        }
    });
    stored.await.unwrap_or_else(|_| Err(Refusal::bare(ErrorCode::UnknownServerError)))
}

/// There are more partitions than were counted.
fn is_outgrown(outcome: &Result<Stored, NotStored>) -> bool {
    outcome.as_ref().is_err_and(|not_stored| not_stored.code == ErrorCode::InvalidPartitions)
}

/// Among how many partitions the request chose at its first try; if there was none, as many as there are.
async fn counts(
    doors: &web::Data<Doors>,
    topic: &str,
    records: &[NewRecord],
    key: IdempotencyKey,
    deadline: Instant,
) -> Result<Counts, Refusal> {
    let now = doors.client.partition_count(topic).await?;
    let as_now = Counts { now, chosen: now };
    let image = doors.client.image();
    let Some(found) = image.topic_by_name(topic).filter(|found| !found.former_counts.is_empty()) else {
        return Ok(as_now);
    };
    // Longer than that no partition knows a key.
    let kept_ms = produce::with_topic_config(doors, topic, 0, |config| config.producer_id_expiration_ms);
    let since_ms = produce::now_ms().saturating_sub(kept_ms).saturating_sub(FORGOTTEN_WITHIN_MS);
    let mut possible = vec![as_now];
    let former = found.counts_since(since_ms).filter(|count| *count < now).map(|chosen| Counts { now, chosen });
    possible.extend(former.filter(|former| choose_otherwise(doors, records, key, [as_now, *former])));
    if possible.len() == 1 {
        return Ok(as_now);
    }
    let mut layouts = Vec::with_capacity(possible.len());
    for counts in &possible {
        layouts.push(layout(doors, topic, records, *counts, key));
        tokio::task::yield_now().await; // all of the records are looked at for each
    }
    let known = ask(doors, found.id, now, &layouts, deadline).await.map_err(Refusal::bare)?;
    Ok(possible[first_try(&layouts, &known)])
}

fn choose_otherwise(doors: &Doors, records: &[NewRecord], key: IdempotencyKey, counts: [Counts; 2]) -> bool {
    records.iter().any(|record| {
        let [one, other] = counts.map(|counts| produce::choose_partition(doors, record, counts, Some(key)));
        one != other
    })
}

/// What the partitions of these layouts know of their producers.
async fn ask(
    doors: &web::Data<Doors>,
    topic_id: TopicId,
    partition_count: i32,
    layouts: &[Layout],
    deadline: Instant,
) -> Result<Known, ErrorCode> {
    /// What is asked of another broker at once takes some bytes for each.
    const PRODUCERS_MAX: usize = 4_096;
    let mut wanted: BTreeMap<PartitionIndex, BTreeSet<ProducerId>> = BTreeMap::new();
    for (partition, producer) in layouts.iter().flatten() {
        wanted.entry(*partition).or_default().insert(producer.id);
    }
    let asking = wanted.into_iter().map(|(partition, producer_ids)| {
        let client = doors.client.clone();
        actix_rt::spawn(async move {
            let producer_ids: Vec<_> = producer_ids.into_iter().collect();
            let mut known = Known::new();
            for asked in producer_ids.chunks(PRODUCERS_MAX) {
                let found = client.find_keyed(topic_id, partition, partition_count, asked.to_vec(), deadline).await?;
                let pairs = asked.iter().zip(found);
                known.extend(pairs.filter_map(|(id, batch)| Some(((partition, *id), batch?))));
            }
            Ok(known)
        })
    });
    let mut known = Known::new();
    // All are asked before the first answer is waited for.
    for asked in asking.collect::<Vec<_>>() {
        known.extend(asked.await.unwrap_or(Err(ErrorCode::UnknownServerError))?);
    }
    Ok(known)
}

fn layout(doors: &Doors, topic: &str, records: &[NewRecord], counts: Counts, key: IdempotencyKey) -> Layout {
    let (by_partition, _) = produce::by_partition(doors, records.to_vec(), counts, Some(key));
    let batches = by_partition.into_iter().flat_map(|(partition, records)| {
        let groups = produce::split(records, produce::batch_bytes_max(doors, topic, partition)).into_iter().enumerate();
        let producer = move |(number, group): (usize, Vec<(usize, NewRecord)>)| {
            (partition, key.producer(number, group.iter().map(|(_, record)| record)))
        };
        groups.map(producer).collect::<Layout>()
    });
    batches.collect()
}

/// That of which most is stored; else of which most keys are known, which then are refused; else the first.
fn first_try(layouts: &[Layout], known: &Known) -> usize {
    let evidence = |layout: &Layout| {
        let (mut stored, mut used) = (0, 0);
        for (partition, producer) in layout {
            if let Some(batch) = known.get(&(*partition, producer.id)) {
                stored += usize::from((batch.epoch, batch.sequence) == (producer.epoch, producer.sequence));
                used += usize::from(batch.epoch >= producer.epoch);
            }
        }
        (stored, used)
    };
    // Of equals the last is taken.
    (0..layouts.len()).rev().max_by_key(|index| evidence(&layouts[*index])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(id: ProducerId, epoch: i16, sequence: i32) -> KeyedProducer {
        KeyedProducer { id, epoch, sequence }
    }

    fn known(batches: &[(PartitionIndex, KeyedProducer)]) -> Known {
        let one = |(partition, producer): &(PartitionIndex, KeyedProducer)| {
            ((*partition, producer.id), KeyedBatch { epoch: producer.epoch, sequence: producer.sequence })
        };
        batches.iter().map(one).collect()
    }

    #[test]
    fn what_is_new_chooses_among_all() {
        let layouts = [vec![(4, producer(1, 0, 7))], vec![(1, producer(1, 0, 7))]];
        assert_eq!(first_try(&layouts, &Known::new()), 0);
        let earlier_frame = known(&[(1, producer(1, 0, 7))]);
        let frames = [vec![(4, producer(1, 1, 7))], vec![(1, producer(1, 1, 7))]];
        assert_eq!(first_try(&frames, &earlier_frame), 0, "the partition knows an earlier epoch");
    }

    #[test]
    fn what_is_known_chooses_as_it_did() {
        let layouts = [vec![(4, producer(1, 0, 7))], vec![(1, producer(1, 0, 7))], vec![(0, producer(1, 0, 7))]];
        assert_eq!(first_try(&layouts, &known(&[(1, producer(1, 0, 7))])), 1);
        assert_eq!(first_try(&layouts, &known(&[(0, producer(1, 0, 7))])), 2);
        assert_eq!(
            first_try(&layouts, &known(&[(4, producer(1, 0, 7)), (1, producer(1, 0, 7))])),
            0,
            "both: the newest"
        );
    }

    #[test]
    fn a_key_that_was_used_for_other_records_goes_where_it_is_refused() {
        let layouts = [vec![(4, producer(1, 3, 7))], vec![(1, producer(1, 3, 7))]];
        assert_eq!(first_try(&layouts, &known(&[(1, producer(1, 3, 8))])), 1);
        assert_eq!(first_try(&layouts, &known(&[(1, producer(1, 4, 8))])), 1, "a frame that is too old");
    }

    /// Two records, of which one stays where it was: that it is known there says nothing.
    #[test]
    fn most_of_what_is_stored_decides() {
        let (stays, goes) = ((0, producer(1, 0, 7)), producer(2, 0, 9));
        let layouts = [vec![stays, (4, goes)], vec![stays, (1, goes)]];
        assert_eq!(first_try(&layouts, &known(&[stays, (4, goes)])), 0);
        assert_eq!(first_try(&layouts, &known(&[stays, (1, goes)])), 1);
        assert_eq!(first_try(&layouts, &known(&[stays])), 0);
    }
}
