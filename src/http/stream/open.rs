//! The opening of a stream, whatever carries it: the topics, the partitions, and where each begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use capek_actors::http::{StartStream, StreamRefusal};
use capek_actors::local_requests::Caller;
use capek_actors::stream_cursors::Cursor;
use capek_actors::stream_events::{Encoder, StreamEvent, StreamPlace};
use capek_actors::stream_group::{self, GroupStart};
use capek_actors::stream_places::{self, Source, StartAt};
use capek_actors::stream_session::{StreamSession, StreamStart};
use capek_actors::stream_subscription::SubscriptionStart;
use capek_state::stream::Credit;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};

use super::super::doors::Doors;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::v1::no_such_topic;
use super::body::StreamSenders;
use super::wanted::{MemberWish, Wanted};

const HEARTBEAT_MS_MIN: u64 = 1_000;
const HEARTBEAT_MS_MAX: u64 = 300_000;
/// How many partitions one subscription may read.
const PARTITIONS_MAX: usize = 10_000;

/// How often a stream says that it lives.
pub fn heartbeat(query: &QueryPairs, default: Duration) -> Result<Duration, Problem> {
    let heartbeat_ms: Option<u64> = query.number("heartbeat_ms")?;
    Ok(heartbeat_ms.map_or(default, |ms| Duration::from_millis(ms.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX))))
}

/// The partitions and where each begins; or the member, which hears of that from its group.
#[derive(Default)]
pub struct Opened {
    pub cursors: Vec<Cursor<Source>>,
    gaps: Vec<StreamEvent>,
    grows: Vec<(Arc<str>, TopicId)>,
    pub group: Option<GroupStart>,
    credit_stalls: Arc<AtomicU64>,
}

impl Wanted {
    /// Finds the places. A stream does not create its topics.
    pub async fn open(&self, doors: &Doors, caller: &Caller) -> Result<Opened, Problem> {
        let mut opened = Opened { credit_stalls: doors.metrics.credit_stalls.clone(), ..Default::default() };
        if let Some(member) = &self.member {
            opened.group = Some(self.group(member)?);
            return Ok(opened);
        }
        for topic in &self.topics {
            self.open_topic(doors, caller, topic, &mut opened).await?;
        }
        if self.end.is_some() {
            // What is added later lies behind the end.
            opened.grows.clear();
        }
        Ok(opened)
    }

    async fn open_topic(
        &self,
        doors: &Doors,
        caller: &Caller,
        topic: &str,
        opened: &mut Opened,
    ) -> Result<(), Problem> {
        let image = doors.client.image();
        let topic = image.topic_by_name(topic).ok_or_else(no_such_topic)?;
        let all = 0..topic.partitions.len() as PartitionIndex;
        let wanted = self.partitions.clone().unwrap_or_else(|| all.clone().collect());
        if let Some(missing) = wanted.iter().find(|partition| !all.contains(partition)) {
            let detail = format!("topic {} has no partition {missing}: it has {}", topic.name, all.end);
            return Err(Problem::no_such_partition(detail));
        }
        if opened.cursors.len() + wanted.len() > PARTITIONS_MAX {
            return Err(Problem::bad_request(format!("a subscription reads {PARTITIONS_MAX} partitions at most")));
        }
        for partition in wanted {
            let place = StreamPlace { topic: topic.name.clone(), partition };
            let mut cursor = self.begin(doors, caller, place, topic.id, &mut opened.gaps).await?;
            if let Some(end) = self.end {
                let found = stream_places::offset_of(&doors.client, caller, &cursor.place, &cursor.source, end).await;
                cursor.end = Some(found?);
            }
            opened.cursors.push(cursor);
        }
        if self.partitions.is_none() {
            opened.grows.push((topic.name.clone(), topic.id));
        }
        Ok(())
    }

    async fn begin(
        &self,
        doors: &Doors,
        caller: &Caller,
        place: StreamPlace,
        topic_id: TopicId,
        gaps: &mut Vec<StreamEvent>,
    ) -> Result<Cursor<Source>, Problem> {
        if let Some(position) = self.resumed.positions.get(&place) {
            let (cursor, gap) = stream_places::resume(&doors.client, caller, topic_id, position).await?;
            gaps.extend(gap);
            return Ok(cursor);
        }
        let start = match self.resumed.places.get(&place) {
            Some(start) => *start,
            // The client had this topic and not this partition: it was added since.
            None if self.resumed.knows_topic(&place.topic) => StartAt::Earliest,
            None => self.start,
        };
        Ok(stream_places::begin(&doors.client, caller, place, topic_id, start).await?)
    }

    fn group(&self, member: &MemberWish) -> Result<GroupStart, Problem> {
        let mut arrived: BTreeMap<StreamPlace, Offset> = BTreeMap::new();
        arrived.extend(self.resumed.positions.values().map(|position| (position.place.clone(), position.next)));
        for (place, start) in &self.resumed.places {
            let StartAt::Offset(offset) = start else {
                return Err(Problem::bad_request("a group goes on from offsets, not from times"));
            };
            arrived.insert(place.clone(), *offset);
        }
        Ok(GroupStart {
            group: member.group.clone(),
            member_id: stream_group::new_id(),
            topics: self.topics.clone(),
            instance_id: member.instance_id.clone(),
            strategy: member.strategy.clone(),
            acknowledges: member.acknowledges,
            may_acknowledge_one: !self.is_raw,
            unacknowledged_max: member.unacknowledged_max,
            stalls_at_most: member.stalls_at_most,
            start: self.start,
            arrived,
        })
    }
}

impl Opened {
    pub fn subscription(self, id: u64, wanted: &Wanted, credit: Credit, encoder: Encoder) -> SubscriptionStart {
        SubscriptionStart {
            id,
            cursors: self.cursors,
            gaps: self.gaps,
            grows: self.grows,
            credit,
            credit_stalls: self.credit_stalls,
            frame: wanted.frame,
            linger_ms: wanted.linger_ms,
            conflates: wanted.conflates,
            filter: wanted.record_filter(),
            tells_positions: wanted.tells_positions,
            is_raw: wanted.is_raw,
            group: self.group,
            encoder,
        }
    }
}

/// A session on this worker.
pub struct NewSession {
    pub caller: Caller,
    pub subscription: Option<SubscriptionStart>,
    pub ends_with_subscription: bool,
    pub heartbeat: Duration,
    pub rotate_after: Option<Duration>,
    pub encoder: Encoder,
    /// Its acknowledgements may come from elsewhere.
    pub group: Option<String>,
}

impl NewSession {
    pub async fn start(self, doors: &Doors, senders: StreamSenders) -> Result<Addr<StreamSession>, Problem> {
        let start = StreamStart {
            client: doors.client.clone(),
            caller: self.caller,
            subscriptions: self.subscription.into_iter().collect(),
            ends_with_subscription: self.ends_with_subscription,
            heartbeat: self.heartbeat,
            rotate_after: self.rotate_after,
            encoder: self.encoder,
            data: senders.data,
            control: senders.control,
        };
        let arbiter = actix_rt::Arbiter::current();
        match doors.sessions.send(StartStream { arbiter, group: self.group, start: Box::new(start) }).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(StreamRefusal::TooMany)) => Err(Problem::too_many("there are too many streams")),
            Ok(Err(StreamRefusal::Stopping)) | Err(_) => Err(Problem::unavailable("the broker stops")),
        }
    }
}

pub fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
