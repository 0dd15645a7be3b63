//! What a consumer instance reads: asked for, given up and told. The instance itself is in `consumer_instance.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use actix::{Handler, MessageResult, ResponseFuture};
use capek_wire::ids::Uuid;
use tokio::sync::oneshot;

use crate::consumer_commands::{
    Assign, AwaitAssignment, DescribeAssignment, DescribeSubscription, InstanceError, Place, Subscribe, Unsubscribe,
};
use crate::consumer_instance::{ConsumerInstance, Source};
use crate::consumer_membership::{Membership, Wanted};

/// What the group waits for a member that has to give up partitions.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const EXCLUSIVE: &str = "Subscription to topics, partitions and pattern are mutually exclusive";

impl Handler<Subscribe> for ConsumerInstance {
    type Result = Result<(), InstanceError>;

    fn handle(&mut self, message: Subscribe, context: &mut Self::Context) -> Self::Result {
        self.used();
        match &mut self.source {
            Source::Nothing => {
                let member_id = Uuid(crate::random::bytes()).to_string();
                let membership = Membership::new(&self.settings.group, &member_id, message.0, REBALANCE_TIMEOUT_MS);
                self.epoch = Arc::new(AtomicI32::new(membership.epoch));
                self.source = Source::Subscribed(membership);
            }
            Source::Subscribed(membership) if membership.wanted.is_like(&message.0) => membership.want(message.0),
            _ => return Err(InstanceError::IllegalState(EXCLUSIVE)),
        }
        self.refused = None;
        self.beat(context);
        Ok(())
    }
}

impl Handler<Unsubscribe> for ConsumerInstance {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Unsubscribe, context: &mut Self::Context) -> Self::Result {
        self.used();
        self.confirm();
        let leave = self.leave(context);
        self.pump(context);
        Box::pin(leave)
    }
}

impl Handler<DescribeSubscription> for ConsumerInstance {
    type Result = MessageResult<DescribeSubscription>;

    fn handle(&mut self, _: DescribeSubscription, _: &mut Self::Context) -> Self::Result {
        self.used();
        MessageResult(match &self.source {
            Source::Subscribed(membership) => match &membership.wanted {
                Wanted::Topics(topics) => topics.clone(),
                Wanted::Pattern(_) => {
                    let topics: BTreeSet<&String> = self.positions.keys().map(|(topic, _)| topic).collect();
                    topics.into_iter().cloned().collect()
                }
            },
            _ => Vec::new(),
        })
    }
}

impl Handler<Assign> for ConsumerInstance {
    type Result = Result<(), InstanceError>;

    fn handle(&mut self, message: Assign, context: &mut Self::Context) -> Self::Result {
        self.used();
        if matches!(self.source, Source::Subscribed(_)) {
            return Err(InstanceError::IllegalState(EXCLUSIVE));
        }
        let places: BTreeSet<Place> = message.0.into_iter().collect();
        self.source = Source::Assigned(places.clone());
        self.set_places(places, context);
        Ok(())
    }
}

impl Handler<DescribeAssignment> for ConsumerInstance {
    type Result = MessageResult<DescribeAssignment>;

    fn handle(&mut self, _: DescribeAssignment, _: &mut Self::Context) -> Self::Result {
        self.used();
        let places = match &self.source {
            Source::Assigned(places) => places.iter().cloned().collect(),
            _ => self.positions.keys().cloned().collect(),
        };
        MessageResult(places)
    }
}

impl Handler<AwaitAssignment> for ConsumerInstance {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: AwaitAssignment, _: &mut Self::Context) -> Self::Result {
        let is_waiting = match &self.source {
            Source::Subscribed(membership) => membership.held().is_none() && self.refused.is_none(),
            _ => false,
        };
        if !is_waiting {
            return Box::pin(async {});
        }
        let (sender, assigned) = oneshot::channel();
        self.waiting_for_assignment.retain(|waiting| !waiting.is_closed());
        self.waiting_for_assignment.push(sender);
        Box::pin(async move {
            let _ = tokio::time::timeout(message.at_most, assigned).await;
        })
    }
}
