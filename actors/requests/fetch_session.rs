//! What a Fetch request has to do with a session: none, it begins one, or it goes on with one (KIP-227).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use capek_state::fetch_session::{
    AnswerFacts, FINAL_EPOCH, FetchSession, INITIAL_EPOCH, NO_SESSION, PartitionRequest, Place, SessionTopic,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::TopicId;
use capek_wire::messages::FetchRequest;
use capek_wire::messages::fetch::{FetchPartition, PartitionData};

use crate::fetch_sessions::{FetchSessions, SharedSession, lock};

/// Versions from here name topics by id only.
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// A topic as the answer names it: the other of the two is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicName {
    pub name: Str,
    pub id: TopicId,
}

pub enum SessionUse {
    None,
    Begin { uses_topic_ids: bool },
    Continue { id: i32, epoch: i32, session: SharedSession },
}

/// A partition that is to be read.
pub struct Asked {
    /// Its place among the topics.
    pub topic: usize,
    pub request: FetchPartition,
    /// Its place in the session that goes on.
    pub place: Option<Place>,
}

pub fn uses_topic_ids(version: i16) -> bool {
    version >= TOPIC_ID_VERSION_MIN
}

/// Ends, begins or finds the session that the request speaks of.
pub fn open(sessions: &FetchSessions, request: &FetchRequest, version: i16) -> Result<SessionUse, ErrorCode> {
    let (id, epoch) = (request.session_id, request.session_epoch);
    let is_full = matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH);
    if is_full {
        if id != NO_SESSION {
            sessions.end(id);
        }
        let begins = epoch == INITIAL_EPOCH;
        let uses_topic_ids = uses_topic_ids(version);
        return Ok(if begins { SessionUse::Begin { uses_topic_ids } } else { SessionUse::None });
    }
    let session = sessions.find(id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
    let mut locked = lock(&session);
    locked.check(epoch, uses_topic_ids(version)).map_err(|refused| refused.code())?;
    merge(&mut locked, request, version);
    if locked.is_empty() {
        // As Kafka does: a session of nothing ends, and this request is one without.
        sessions.end(id);
        return Ok(SessionUse::None);
    }
    locked.advance();
    let (epoch, partitions) = (locked.epoch(), locked.len());
    drop(locked);
    if !sessions.used(id, partitions) {
        return Err(ErrorCode::FetchSessionIdNotFound);
    }
    Ok(SessionUse::Continue { id, epoch, session })
}

fn merge(session: &mut FetchSession, request: &FetchRequest, version: i16) {
    for topic in &request.topics {
        for partition in &topic.partitions {
            session.want(session_topic(&topic.topic, topic.topic_id, version), wish(partition));
        }
    }
    for topic in &request.forgotten_topics_data {
        for &partition in &topic.partitions {
            session.forget(session_topic(&topic.topic, topic.topic_id, version), partition);
        }
    }
}

fn session_topic(name: &Str, id: TopicId, version: i16) -> SessionTopic {
    if uses_topic_ids(version) { SessionTopic::Id(id) } else { SessionTopic::Name(name.clone()) }
}

fn wish(partition: &FetchPartition) -> PartitionRequest {
    PartitionRequest {
        partition: partition.partition,
        current_leader_epoch: partition.current_leader_epoch,
        fetch_offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        bytes_max: partition.partition_max_bytes,
    }
}

/// What is to be read, in the order of service: of the request, or of the session that goes on.
pub fn asked(request: &mut FetchRequest, session: &SessionUse) -> (Vec<TopicName>, Vec<Asked>) {
    match session {
        SessionUse::Continue { session, .. } => asked_by_session(&lock(session)),
        SessionUse::None | SessionUse::Begin { .. } => asked_by_request(request),
    }
}

/// A partition that is named again is read once, as the last wish says, and where it was named first: as with Kafka.
fn asked_by_request(request: &mut FetchRequest) -> (Vec<TopicName>, Vec<Asked>) {
    let (mut topics, mut asked) = (Vec::with_capacity(request.topics.len()), Vec::<Asked>::new());
    let mut places: BTreeMap<_, usize> = BTreeMap::new();
    for (index, topic) in request.topics.iter_mut().enumerate() {
        let name = TopicName { name: std::mem::take(&mut topic.topic), id: topic.topic_id };
        for request in std::mem::take(&mut topic.partitions) {
            match places.entry((name.id, name.name.clone(), request.partition)) {
                Entry::Occupied(known) => asked[*known.get()].request = request,
                Entry::Vacant(new) => {
                    new.insert(asked.len());
                    asked.push(Asked { topic: index, request, place: None });
                }
            }
        }
        topics.push(name);
    }
    (topics, asked)
}

fn asked_by_session(session: &FetchSession) -> (Vec<TopicName>, Vec<Asked>) {
    let (mut topics, mut asked) = (Vec::<TopicName>::new(), Vec::with_capacity(session.len()));
    for (place, partition) in session.partitions() {
        let topic = match &partition.topic {
            SessionTopic::Id(id) => TopicName { name: Str::default(), id: *id },
            SessionTopic::Name(name) => TopicName { name: name.clone(), id: TopicId::default() },
        };
        if topics.last() != Some(&topic) {
            topics.push(topic);
        }
        let wish = partition.request;
        let request = FetchPartition {
            partition: wish.partition,
            current_leader_epoch: wish.current_leader_epoch,
            fetch_offset: wish.fetch_offset,
            last_fetched_epoch: wish.last_fetched_epoch,
            partition_max_bytes: wish.bytes_max,
            ..Default::default()
        };
        asked.push(Asked { topic: topics.len() - 1, request, place: Some(place) });
    }
    (topics, asked)
}

/// A partition that was read.
pub struct Answered<'a> {
    pub asked: &'a Asked,
    pub data: PartitionData,
}

impl SessionUse {
    /// The session id of the answer. In `answered` stays what the client must hear.
    pub fn close(
        &self,
        sessions: &FetchSessions,
        topics: &[TopicName],
        answered: &mut Vec<Answered<'_>>,
    ) -> Result<i32, ErrorCode> {
        match self {
            SessionUse::None => Ok(NO_SESSION),
            SessionUse::Begin { uses_topic_ids } => {
                let mut session = FetchSession::new(*uses_topic_ids);
                for Answered { asked, data } in answered {
                    let topic = match uses_topic_ids {
                        true => SessionTopic::Id(topics[asked.topic].id),
                        false => SessionTopic::Name(topics[asked.topic].name.clone()),
                    };
                    session.begin_with(topic, wish(&asked.request), &facts(data));
                }
                Ok(sessions.begin(session))
            }
            SessionUse::Continue { id, epoch, session } => {
                let mut session = lock(session);
                if session.epoch() != *epoch {
                    // Another request has taken the session on meanwhile.
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                answered.retain(|Answered { asked, data }| {
                    asked.place.is_some_and(|place| session.answer(place, &facts(data)))
                });
                Ok(*id)
            }
        }
    }
}

fn facts(data: &PartitionData) -> AnswerFacts {
    AnswerFacts {
        has_records: data.records.as_ref().is_some_and(|records| !records.is_empty()),
        is_error: data.error_code != ErrorCode::None.code(),
        is_diverging: data.diverging_epoch.epoch >= 0,
        is_redirected: data.preferred_read_replica >= 0,
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start_offset: data.log_start_offset,
    }
}
