//! What the client of a stream asks its session for.

use actix::{Context, Handler, Message, ResponseFuture};
use bytes::Bytes;
use capek_state::stream::Credit;
use capek_wire::ids::Offset;
use tokio::sync::oneshot;

use crate::stream_events::StreamPlace;
use crate::stream_group::GroupSide;
use crate::stream_session::{SUBSCRIPTIONS_MAX, StreamSession};
use crate::stream_subscription::{Subscription, SubscriptionStart};

/// For one of the session's subscriptions. Refused with a sentence.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[rtype(result = "Result<(), String>")]
pub struct StreamCommand {
    pub subscription: u64,
    pub wish: StreamWish,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamWish {
    Credit(Credit),
    Pause,
    Resume,
    Seek(Vec<(StreamPlace, Offset)>),
    Unsubscribe,
}

/// Reads this too, from now on.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct StartSubscription(pub Box<SubscriptionStart>);

/// The client has done what it says. Answered when that is committed, with the next offset of each place.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[rtype(result = "Result<Vec<(StreamPlace, Offset)>, String>")]
pub struct Acknowledge {
    /// None: whichever holds a place; places that none holds are passed over.
    pub subscription: Option<u64>,
    /// Without a subscription: only what this member of a group holds.
    pub member: Option<String>,
    /// Everything up to and with these.
    pub through: Vec<(StreamPlace, Offset)>,
    /// Only these.
    pub records: Vec<(StreamPlace, Offset)>,
}

/// The answer to a ping.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct Ponged(pub Bytes);

impl Handler<StreamCommand> for StreamSession {
    type Result = Result<(), String>;

    fn handle(&mut self, command: StreamCommand, context: &mut Self::Context) -> Self::Result {
        let id = command.subscription;
        let subscription = self.subscriptions.get_mut(&id).ok_or_else(|| format!("there is no subscription {id}"))?;
        match command.wish {
            StreamWish::Credit(more) => subscription.grant(more),
            StreamWish::Pause => subscription.is_paused = true,
            StreamWish::Resume => subscription.is_paused = false,
            StreamWish::Seek(_) if subscription.is_too_busy() => {
                return Err("too many answers wait for this client".to_owned());
            }
            StreamWish::Seek(places) => {
                subscription.seek(&places)?;
                self.stop_reading(id, context);
            }
            StreamWish::Unsubscribe => self.unsubscribe(id, context),
        }
        self.pump(context);
        Ok(())
    }
}

impl Handler<StartSubscription> for StreamSession {
    type Result = Result<(), String>;

    fn handle(&mut self, message: StartSubscription, context: &mut Self::Context) -> Self::Result {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(format!("there are {SUBSCRIPTIONS_MAX} subscriptions already"));
        }
        let id = message.0.id;
        let subscription = Subscription::new(*message.0);
        subscription.watch(&self.client, &self.waiter);
        self.subscriptions.insert(id, subscription);
        self.beat(id, context);
        self.pump(context);
        Ok(())
    }
}

impl Handler<Acknowledge> for StreamSession {
    type Result = ResponseFuture<Result<Vec<(StreamPlace, Offset)>, String>>;

    fn handle(&mut self, message: Acknowledge, context: &mut Self::Context) -> Self::Result {
        let answers = match message.subscription {
            Some(id) => self.acknowledge(id, &message.through, &message.records, context).map(|answer| vec![answer]),
            None => self.acknowledge_anywhere(&message, context),
        };
        self.pump(context);
        Box::pin(async move {
            let mut committed = Vec::new();
            for answer in answers? {
                let of_subscription = answer.await.map_err(|_| "the member has left its group".to_owned())?;
                committed.append(&mut of_subscription?);
            }
            Ok(committed)
        })
    }
}

type Answer = oneshot::Receiver<Result<Vec<(StreamPlace, Offset)>, String>>;

impl StreamSession {
    fn acknowledge(
        &mut self,
        id: u64,
        through: &[(StreamPlace, Offset)],
        records: &[(StreamPlace, Offset)],
        context: &mut Context<Self>,
    ) -> Result<Answer, String> {
        let subscription = self.subscriptions.get_mut(&id).ok_or_else(|| format!("there is no subscription {id}"))?;
        let group = subscription.group.as_mut().filter(|group| group.is_explicit());
        let group = group.ok_or_else(|| format!("subscription {id} takes no acknowledgements"))?;
        let (reply, answer) = oneshot::channel();
        group.acknowledge(through, records, reply).map_err(|(problem, _)| problem)?;
        self.commit(id, context);
        Ok(answer)
    }

    fn acknowledge_anywhere(
        &mut self,
        message: &Acknowledge,
        context: &mut Context<Self>,
    ) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in ids {
            let group = self.subscriptions.get(&id).and_then(|subscription| subscription.group.as_ref());
            let is_meant = |group: &&GroupSide| message.member.as_ref().is_none_or(|id| *id == group.start.member_id);
            let Some(group) = group.filter(|group| group.is_explicit()).filter(is_meant) else { continue };
            let held = |places: &[(StreamPlace, Offset)]| -> Vec<_> {
                places.iter().filter(|(place, _)| group.holds(place)).cloned().collect()
            };
            let (through, records) = (held(&message.through), held(&message.records));
            if !through.is_empty() || !records.is_empty() {
                answers.push(self.acknowledge(id, &through, &records, context)?);
            }
        }
        Ok(answers)
    }
}

impl Handler<Ponged> for StreamSession {
    type Result = ();

    fn handle(&mut self, ponged: Ponged, context: &mut Self::Context) {
        self.receipt(&ponged.0, context);
    }
}
