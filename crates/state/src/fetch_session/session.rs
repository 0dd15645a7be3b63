//! One fetch session: its partitions in the order of service, and what the client was last told of each.

use std::collections::BTreeMap;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{INITIAL_EPOCH, next_epoch};

/// A topic as the session's requests name it: all by id, or all by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionTopic {
    Id(TopicId),
    Name(Str),
}

impl SessionTopic {
    /// A session outlives the frames that it was made from.
    fn detached(self) -> SessionTopic {
        match self {
            SessionTopic::Name(name) => SessionTopic::Name(name.detached()),
            id => id,
        }
    }
}

/// What the client wants of one partition, until it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartitionRequest {
    pub partition: PartitionIndex,
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    pub last_fetched_epoch: LeaderEpoch,
    pub bytes_max: i32,
}

/// What an answer says of a partition, as far as it decides whether the client must hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerFacts {
    pub has_records: bool,
    pub is_error: bool,
    pub is_diverging: bool,
    /// The client shall read from another replica (KIP-392).
    pub is_redirected: bool,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
}

/// Where a partition stands in the order of service. It holds until the session's next answer or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// A partition of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionPartition {
    pub topic: SessionTopic,
    pub request: PartitionRequest,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
}

/// The request does not go on where the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionRefused {
    /// It is not the next one.
    Epoch,
    /// It names topics in another way than the session began with.
    TopicIds,
}

impl SessionRefused {
    pub fn code(self) -> ErrorCode {
        match self {
            SessionRefused::Epoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionRefused::TopicIds => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchSession {
    /// Of the request that is expected next.
    epoch: i32,
    uses_topic_ids: bool,
    by_place: BTreeMap<Place, SessionPartition>,
    places: BTreeMap<(SessionTopic, PartitionIndex), Place>,
    next_place: u64,
}

impl FetchSession {
    /// A session that a full fetch begins; its partitions follow with [`FetchSession::begin_with`].
    pub fn new(uses_topic_ids: bool) -> FetchSession {
        FetchSession {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids,
            by_place: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// A partition of the full fetch, and what its answer says.
    pub fn begin_with(&mut self, topic: SessionTopic, request: PartitionRequest, facts: &AnswerFacts) {
        let place = self.want(topic, request);
        if let Some(partition) = self.by_place.get_mut(&place) {
            partition.must_be_told(facts);
        }
    }

    pub fn len(&self) -> usize {
        self.by_place.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// The epoch of the next request.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Is this request the next one of this session? Nothing changes yet.
    pub fn check(&self, epoch: i32, uses_topic_ids: bool) -> Result<(), SessionRefused> {
        if epoch != self.epoch {
            return Err(SessionRefused::Epoch);
        }
        if uses_topic_ids != self.uses_topic_ids {
            return Err(SessionRefused::TopicIds);
        }
        Ok(())
    }

    /// The request is taken: the next one has the next epoch.
    pub fn advance(&mut self) {
        self.epoch = next_epoch(self.epoch);
    }

    /// A new partition, served last, or another wish for one that is known. Answers its place.
    pub fn want(&mut self, topic: SessionTopic, request: PartitionRequest) -> Place {
        let key = (topic, request.partition);
        if let Some(&place) = self.places.get(&key) {
            if let Some(partition) = self.by_place.get_mut(&place) {
                partition.request = request;
            }
            return place;
        }
        let topic = key.0.detached();
        let place = self.take_place();
        self.places.insert((topic.clone(), request.partition), place);
        // Nothing was said of it yet: its first answer travels.
        let partition =
            SessionPartition { topic, request, high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 };
        self.by_place.insert(place, partition);
        place
    }

    pub fn forget(&mut self, topic: SessionTopic, partition: PartitionIndex) {
        if let Some(place) = self.places.remove(&(topic, partition)) {
            self.by_place.remove(&place);
        }
    }

    /// In the order of service.
    pub fn partitions(&self) -> impl Iterator<Item = (Place, &SessionPartition)> {
        self.by_place.iter().map(|(place, partition)| (*place, partition))
    }

    /// Must the client hear this? Remembers it as said, and serves a partition that had records last the next time.
    pub fn answer(&mut self, place: Place, facts: &AnswerFacts) -> bool {
        let Some(partition) = self.by_place.get_mut(&place) else { return false };
        let must_be_told = partition.must_be_told(facts);
        if facts.has_records {
            self.move_to_the_end(place);
        }
        must_be_told
    }

    fn move_to_the_end(&mut self, place: Place) {
        let Some(partition) = self.by_place.remove(&place) else { return };
        let last = self.take_place();
        if let Some(known) = self.places.get_mut(&(partition.topic.clone(), partition.request.partition)) {
            *known = last;
        }
        self.by_place.insert(last, partition);
    }

    fn take_place(&mut self) -> Place {
        let place = Place(self.next_place);
        self.next_place += 1;
        place
    }
}

impl SessionPartition {
    fn must_be_told(&mut self, facts: &AnswerFacts) -> bool {
        let is_news = facts.has_records
            || facts.is_error
            || facts.is_diverging
            || facts.is_redirected
            || facts.high_watermark != self.high_watermark
            || facts.last_stable_offset != self.last_stable_offset
            || facts.log_start_offset != self.log_start_offset;
        // Once the error is over the client hears of the partition again.
        self.high_watermark = if facts.is_error { -1 } else { facts.high_watermark };
        self.last_stable_offset = facts.last_stable_offset;
        self.log_start_offset = facts.log_start_offset;
        is_news
    }
}
