//! Peer: one connection to another broker, for everything that this broker follows there.
//!
//! It merges the fetches of its followers into one: a request names only those that have moved since the last one, and the next
//! goes out when all that the last answer fed have dealt with it. A follower that moves while a fetch waits at the leader (a
//! cut took its time) makes a second request, which lets the first be answered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use arc_swap::ArcSwap;
use bytes::Bytes;
use capek_state::cluster::Image;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use capek_wire::peer::replication::{
    DataOneWay, DataRequest, DataResponse, FETCHES_MAX, FetchPartition, FetchPosition, FetchRequest, FetchResponse,
    Flushed, SessionSlot,
};
use capek_wire::peer::{Frame, FrameKind, decode_head, encode_head, frame};
use log::{debug, warn};
use tokio::sync::mpsc;

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::follower_replica::{FollowerReplica, PartitionFetched};
use crate::peer_connection::{self, ConnectionTask};
use crate::peer_transport::PeerIdentity;
use crate::supervision::ExitSignal;

/// Kafka's `replica.fetch.wait.max.ms`: how long a leader holds a fetch that brings nothing.
const FETCH_WAIT_MS: u32 = 500;
/// Kafka's `replica.fetch.response.max.bytes`.
const FETCH_BYTES_MAX: u32 = 10 << 20;
/// After an answer that ended the session.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

/// Follow this partition there from here on, in this epoch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Follow {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub leader_epoch: LeaderEpoch,
    pub position: FetchPosition,
    pub follower: Addr<FollowerReplica>,
}

/// A follower of this epoch is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unfollow {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub leader_epoch: LeaderEpoch,
}

/// An answer is dealt with; None: where to go on is not known yet.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FollowerReady {
    pub slot: SessionSlot,
    pub leader_epoch: LeaderEpoch,
    pub position: Option<FetchPosition>,
}

/// This much is on the disk here.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReportFlushed {
    pub slot: SessionSlot,
    pub leader_epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// The connection is up: what goes into `frames` is sent in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Connected {
    pub frames: mpsc::UnboundedSender<Bytes>,
}

/// The connection is down, and is made again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Disconnected;

/// The leader's broker has said something.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FrameReceived(pub Frame);

/// Nobody needs this peer any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopPeer;

struct Followed {
    topic_id: TopicId,
    partition: PartitionIndex,
    leader_epoch: LeaderEpoch,
    position: FetchPosition,
    follower: Addr<FollowerReplica>,
    flushed_end: Option<Offset>,
    /// Fed by an answer, and not ready yet.
    is_fed: bool,
}

pub struct Peer {
    me: Arc<PeerIdentity>,
    broker: BrokerId,
    image: Arc<ArcSwap<Image>>,
    followed: BTreeMap<SessionSlot, Followed>,
    slots: BTreeMap<(TopicId, PartitionIndex), SessionSlot>,
    next_slot: SessionSlot,
    /// For the next request.
    added: BTreeSet<SessionSlot>,
    moved: BTreeSet<SessionSlot>,
    forgotten: BTreeSet<SessionSlot>,
    /// For the next one-way frame.
    flushed: BTreeSet<SessionSlot>,
    fed_count: usize,
    /// Sent and not answered.
    waiting: Vec<u64>,
    next_request: u64,
    frames: Option<mpsc::UnboundedSender<Bytes>>,
    connection: Option<ConnectionTask>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<BrokerId>,
}

/// What a new incarnation begins with.
pub struct PeerStart {
    pub me: Arc<PeerIdentity>,
    pub broker: BrokerId,
    pub image: Arc<ArcSwap<Image>>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<BrokerId>,
}

impl Peer {
    pub fn new(start: PeerStart) -> Self {
        Self {
            me: start.me,
            broker: start.broker,
            image: start.image,
            followed: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_slot: 0,
            added: BTreeSet::new(),
            moved: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            flushed: BTreeSet::new(),
            fed_count: 0,
            waiting: Vec::new(),
            next_request: 0,
            frames: None,
            connection: None,
            entry: start.entry,
            exit: start.exit,
        }
    }

    /// After each drain of the mailbox: one frame for all reports, one request for all moves.
    fn send_gathered(&mut self) {
        if self.frames.is_none() {
            return;
        }
        let has_changes = !self.added.is_empty() || !self.moved.is_empty() || !self.forgotten.is_empty();
        let is_next = self.waiting.is_empty() && !self.followed.is_empty();
        if self.fed_count == 0 && self.waiting.len() < FETCHES_MAX && (has_changes || is_next) {
            self.send_fetch();
        }
        // Behind the request: the leader believes no report of a follower that it has not heard of.
        if !self.flushed.is_empty() && self.added.is_empty() {
            self.send_flushed();
        }
    }

    fn send_fetch(&mut self) {
        let Some(broker_epoch) = self.image.load().broker(self.me.broker).map(|broker| broker.epoch) else { return };
        let position = |slot: &SessionSlot, followed: &Followed| FetchPosition { slot: *slot, ..followed.position };
        let added = std::mem::take(&mut self.added);
        let moved = std::mem::take(&mut self.moved);
        let added: Vec<FetchPartition> = (added.iter())
            .filter_map(|slot| Some((slot, self.followed.get(slot)?)))
            .map(|(slot, followed)| FetchPartition {
                slot: *slot,
                topic_id: followed.topic_id,
                partition: followed.partition,
                leader_epoch: followed.leader_epoch,
                position: position(slot, followed),
            })
            .collect();
        let is_added = |slot: &SessionSlot| added.binary_search_by_key(slot, |added| added.slot).is_ok();
        let moved = (moved.iter().filter(|slot| !is_added(slot)))
            .filter_map(|slot| Some(position(slot, self.followed.get(slot)?)))
            .collect();
        let request = FetchRequest {
            broker_epoch,
            max_wait_ms: FETCH_WAIT_MS,
            max_bytes: FETCH_BYTES_MAX,
            added,
            moved,
            forgotten: std::mem::take(&mut self.forgotten).into_iter().collect(),
        };
        let id = self.next_request;
        self.next_request += 1;
        self.waiting.push(id);
        let head = encode_head(&DataRequest::Fetch(request));
        self.send(frame::encode_before_body(FrameKind::Request, id, &head, 0));
    }

    fn send_flushed(&mut self) {
        let slots = std::mem::take(&mut self.flushed);
        let report = |slot: SessionSlot| {
            let followed = self.followed.get(&slot)?;
            Some(Flushed { slot, leader_epoch: followed.leader_epoch, end_offset: followed.flushed_end? })
        };
        let reports: Vec<_> = slots.into_iter().filter_map(report).collect();
        if !reports.is_empty() {
            let head = encode_head(&DataOneWay::Flushed(reports));
            self.send(frame::encode_before_body(FrameKind::OneWay, 0, &head, 0));
        }
    }

    fn send(&mut self, frame: Bytes) {
        if let Some(frames) = &self.frames
            && frames.send(frame).is_err()
        {
            self.frames = None; // the connection has ended; `Disconnected` is on its way
        }
    }

    fn answered(&mut self, frame: Frame, context: &mut Context<Self>) {
        self.waiting.retain(|id| *id != frame.id);
        let response = match decode_head::<DataResponse>(&frame.head) {
            Ok(DataResponse::Fetch(response)) => response,
            Err(error) => {
                warn!("broker {}: {error}", self.broker);
                return self.reconnect(context);
            }
        };
        if response.error != ErrorCode::None {
            debug!("broker {} ends the session: {}", self.broker, response.error);
            return self.reconnect(context);
        }
        self.feed(response, frame.body);
    }

    fn feed(&mut self, response: FetchResponse, mut body: Bytes) {
        for answer in response.partitions {
            let records = body.split_to(body.len().min(answer.records_bytes as usize));
            let Some(followed) = self.followed.get_mut(&answer.slot) else { continue };
            if followed.leader_epoch != answer.leader_epoch {
                continue; // of an epoch that is over here
            }
            if followed.follower.connected() && !std::mem::replace(&mut followed.is_fed, true) {
                self.fed_count += 1;
            }
            // Bounded by what was asked for: nothing is fetched before all of this is dealt with.
            followed.follower.do_send(PartitionFetched { answer, records });
        }
    }

    fn unfeed(&mut self, slot: SessionSlot) {
        if let Some(followed) = self.followed.get_mut(&slot)
            && std::mem::take(&mut followed.is_fed)
        {
            self.fed_count -= 1;
        }
    }

    fn reconnect(&mut self, context: &mut Context<Self>) {
        self.lost();
        self.connection = None;
        context.run_later(RECONNECT_AFTER, |peer, context| {
            if peer.connection.is_none() {
                peer.connect(context);
            }
        });
    }

    fn connect(&mut self, context: &mut Context<Self>) {
        self.connection =
            Some(peer_connection::start(self.me.clone(), self.broker, self.image.clone(), context.address()));
    }

    fn lost(&mut self) {
        self.frames = None;
        self.waiting.clear();
        self.forgotten.clear();
        self.moved.clear();
        self.added = self.followed.keys().copied().collect();
        self.flushed = self.followed.keys().copied().collect();
    }
}

/// Polled by actix after each drain of the mailbox; never ready.
struct Gather;

impl ActorFuture<Peer> for Gather {
    type Output = ();

    fn poll(self: Pin<&mut Self>, peer: &mut Peer, _: &mut Context<Peer>, _: &mut TaskContext<'_>) -> Poll<()> {
        peer.send_gathered();
        Poll::Pending
    }
}

impl Actor for Peer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        context.spawn(Gather);
        self.connect(context);
    }
}

impl Handler<Follow> for Peer {
    type Result = ();

    fn handle(&mut self, follow: Follow, _: &mut Self::Context) {
        let id = (follow.topic_id, follow.partition);
        let slot = *self.slots.entry(id).or_insert_with(|| {
            let slot = self.next_slot;
            self.next_slot += 1;
            slot
        });
        self.unfeed(slot);
        self.forgotten.remove(&slot);
        self.added.insert(slot);
        self.followed.insert(
            slot,
            Followed {
                topic_id: follow.topic_id,
                partition: follow.partition,
                leader_epoch: follow.leader_epoch,
                position: follow.position,
                follower: follow.follower,
                flushed_end: None,
                is_fed: false,
            },
        );
    }
}

impl Handler<Unfollow> for Peer {
    type Result = ();

    fn handle(&mut self, gone: Unfollow, _: &mut Self::Context) {
        let id = (gone.topic_id, gone.partition);
        let Some(slot) = self.slots.get(&id).copied() else { return };
        if self.followed.get(&slot).is_none_or(|followed| followed.leader_epoch != gone.leader_epoch) {
            return; // the next one is here already
        }
        self.unfeed(slot);
        self.followed.remove(&slot);
        self.slots.remove(&id);
        self.added.remove(&slot);
        self.moved.remove(&slot);
        self.flushed.remove(&slot);
        self.forgotten.insert(slot);
    }
}

impl Handler<FollowerReady> for Peer {
    type Result = ();

    fn handle(&mut self, ready: FollowerReady, _: &mut Self::Context) {
        let Some(followed) = self.followed.get_mut(&ready.slot) else { return };
        if followed.leader_epoch != ready.leader_epoch {
            return;
        }
        if let Some(position) = ready.position {
            followed.position = position;
            self.moved.insert(ready.slot);
        }
        self.unfeed(ready.slot);
    }
}

impl Handler<ReportFlushed> for Peer {
    type Result = ();

    fn handle(&mut self, report: ReportFlushed, _: &mut Self::Context) {
        if let Some(followed) = self.followed.get_mut(&report.slot)
            && followed.leader_epoch == report.leader_epoch
        {
            followed.flushed_end = Some(report.end_offset);
            self.flushed.insert(report.slot);
        }
    }
}

impl Handler<Connected> for Peer {
    type Result = ();

    fn handle(&mut self, connected: Connected, _: &mut Self::Context) {
        self.lost();
        self.frames = Some(connected.frames);
    }
}

impl Handler<Disconnected> for Peer {
    type Result = ();

    fn handle(&mut self, _: Disconnected, _: &mut Self::Context) {
        self.lost();
    }
}

impl Handler<FrameReceived> for Peer {
    type Result = ();

    fn handle(&mut self, received: FrameReceived, context: &mut Self::Context) {
        if received.0.kind == FrameKind::Response && self.waiting.contains(&received.0.id) {
            self.answered(received.0, context);
        }
    }
}

impl Handler<StopPeer> for Peer {
    type Result = ();

    fn handle(&mut self, _: StopPeer, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Chaos> for Peer {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
