//! Where partitions begin and end, and what they hold at a time: Kafka's ListOffsets, asked of each leader.

use std::collections::BTreeMap;
use std::time::Duration;

use capek_actors::consumer_commands::Place;
use capek_actors::group_offsets;
use capek_actors::local::LEADER_WITHIN;
use capek_actors::local_requests::{Caller, Destination};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, Offset, PartitionIndex};
use capek_wire::messages::ListOffsetsRequest;
use capek_wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use tokio::time::Instant;

use super::cluster_admin::Refused;
use super::doors::Doors;
use super::stream::StartAt;

const VERSION: i16 = 7;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Before a leader is looked up again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The first that there is, and the one that the next record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub start: Offset,
    pub end: Offset,
}

impl Doors {
    pub async fn ends(&self, caller: &Caller, topic: &str, partition: PartitionIndex) -> Result<Ends, Refused> {
        let start = self.listed_offset(caller, topic, partition, EARLIEST).await?.unwrap_or(0);
        let end = self.listed_offset(caller, topic, partition, LATEST).await?.unwrap_or(start);
        Ok(Ends { start, end })
    }

    /// The offset that `from` means, one that there is or the next.
    pub async fn offset_from(
        &self,
        caller: &Caller,
        topic: &str,
        partition: PartitionIndex,
        from: StartAt,
    ) -> Result<Offset, Refused> {
        let Ends { start, end } = self.ends(caller, topic, partition).await?;
        let offset = match from {
            StartAt::Earliest => start,
            StartAt::Latest => end,
            StartAt::BeforeLatest(count) => end.saturating_sub(count),
            StartAt::AfterEarliest(count) => start.saturating_add(count),
            StartAt::Offset(offset) => offset,
            StartAt::Time(time_ms) => self.listed_offset(caller, topic, partition, time_ms).await?.unwrap_or(end),
        };
        Ok(offset.clamp(start, end))
    }

    /// None: there is no such record.
    pub async fn listed_offset(
        &self,
        caller: &Caller,
        topic: &str,
        partition: PartitionIndex,
        timestamp: i64,
    ) -> Result<Option<Offset>, Refused> {
        let place = (topic.to_owned(), partition);
        let mut found = self.listed_offsets(caller, vec![place.clone()], timestamp).await?;
        found.remove(&place).unwrap_or(Err(ErrorCode::UnknownServerError)).map_err(|code| Refused::new(code, None))
    }

    /// Where each of these ends. What there is not (any more) is not in the answer.
    pub async fn end_offsets(
        &self,
        caller: &Caller,
        places: impl Iterator<Item = &Place>,
    ) -> Result<BTreeMap<Place, Offset>, Refused> {
        let mut ends = BTreeMap::new();
        for (place, found) in self.listed_offsets(caller, places.cloned().collect(), LATEST).await? {
            match found {
                Ok(offset) => drop(ends.insert(place, offset.unwrap_or(0))),
                Err(ErrorCode::UnknownTopicOrPartition) => {}
                Err(code) => return Err(Refused::new(code, None)),
            }
        }
        Ok(ends)
    }

    /// Asked of each leader at once, and again for a while where the leader has just changed.
    async fn listed_offsets(&self, caller: &Caller, places: Vec<Place>, timestamp: i64) -> Result<Listed, Refused> {
        let deadline = Instant::now() + LEADER_WITHIN;
        let mut listed = Listed::new();
        let mut left = places;
        loop {
            for (leader, places) in self.by_leader(std::mem::take(&mut left), &mut listed) {
                let found = self.listed_by(leader, caller, &places, timestamp).await;
                listed.extend(places.into_iter().map(|place| {
                    let missing = Err(ErrorCode::NotLeaderOrFollower);
                    let outcome = found.as_ref().map_or(missing, |found| found.get(&place).copied().unwrap_or(missing));
                    (place, outcome)
                }));
            }
            if Instant::now() >= deadline {
                return Ok(listed);
            }
            left = listed
                .iter()
                .filter(|(place, found)| self.is_passing(place, found))
                .map(|(place, _)| place.clone())
                .collect();
            if left.is_empty() {
                return Ok(listed);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Places without a leader get their outcome.
    fn by_leader(&self, places: Vec<Place>, listed: &mut Listed) -> BTreeMap<BrokerId, Vec<Place>> {
        let mut by_leader: BTreeMap<BrokerId, Vec<Place>> = BTreeMap::new();
        for place in places {
            match self.client.broker_of(Destination::Leader(&place.0, place.1)) {
                Ok(leader) => by_leader.entry(leader).or_default().push(place),
                Err(error) => drop(listed.insert(place, Err(error.code()))),
            }
        }
        by_leader
    }

    async fn listed_by(
        &self,
        leader: BrokerId,
        caller: &Caller,
        places: &[Place],
        timestamp: i64,
    ) -> Result<Listed, Refused> {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (topic, partition) in places {
            let wanted = ListOffsetsPartition { partition_index: *partition, timestamp, ..Default::default() };
            topics.entry(topic).or_default().push(wanted);
        }
        let topic = |(name, partitions)| ListOffsetsTopic { name: Str::from(name), partitions };
        let topics = topics.into_iter().map(topic).collect();
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let answer = self.client.ask(Destination::Broker(leader), caller, &request, VERSION).await?;
        let mut found = Listed::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let outcome = match ErrorCode::from_code(partition.error_code) {
                    ErrorCode::None => Ok((partition.offset >= 0).then_some(partition.offset)),
                    code => Err(code),
                };
                found.insert((topic.name.to_string(), partition.partition_index), outcome);
            }
        }
        Ok(found)
    }

    /// A new leader is heard of, or knows more, in a moment. What this broker knows of another may not have heard of yet.
    fn is_passing(&self, place: &Place, found: &Result<Option<Offset>, ErrorCode>) -> bool {
        match found {
            Ok(_) => false,
            Err(ErrorCode::UnknownTopicOrPartition) => group_offsets::is_there(&self.client, place),
            Err(code) => matches!(
                code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::LeaderNotAvailable | ErrorCode::OffsetNotAvailable
            ),
        }
    }
}

/// None: the partition holds no such record.
type Listed = BTreeMap<Place, Result<Option<Offset>, ErrorCode>>;
