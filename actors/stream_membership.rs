//! The members of groups in a stream's session: heartbeats, what they are given and give up, and commits. What they hold is in
//! `stream_group.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, TopicId};
use tokio::time::Instant;

use crate::consumer_commands::InstanceError;
use crate::consumer_membership::Heard;
use crate::group_offsets::{self, GroupMember};
use crate::local::LocalClient;
use crate::local_requests::{AskError, Caller, Destination};
use crate::stream_cursors::Cursor;
use crate::stream_events::{Goodbye, RevokeReason, StreamEvent, StreamPlace};
use crate::stream_group::{GroupSide, GroupStart};
use crate::stream_places::{self, Source};
use crate::stream_session::StreamSession;

const HEARTBEAT_VERSION: i16 = 1;
/// Before the coordinator, or a leader, is asked again that could not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Before a coordinator is asked again that is not there.
const UNANSWERED_RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a client may acknowledge what it has of partitions that it has to give up.
const REVOKE_WITHIN: Duration = Duration::from_secs(3);

impl StreamSession {
    fn group(&mut self, id: u64) -> Option<&mut GroupSide> {
        self.subscriptions.get_mut(&id).and_then(|subscription| subscription.group.as_mut())
    }

    /// The member of this subscription says that it lives. Nothing for a subscription without a group.
    pub(crate) fn beat(&mut self, id: u64, context: &mut Context<Self>) {
        let (client, caller) = (self.client.clone(), self.caller.clone());
        let Some(group) = self.group(id) else { return };
        if let Some(before) = group.heartbeat.take() {
            context.cancel_future(before);
        }
        let request = group.membership.heartbeat();
        let (asked, name) = (request.clone(), group.start.group.clone());
        let answer =
            async move { client.ask(Destination::Coordinator(&name), &caller, &request, HEARTBEAT_VERSION).await };
        let done = answer.into_actor(self).map(move |answer, session, context| {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return session.unanswered(id, &error, context),
            };
            let Some(group) = session.group(id) else { return };
            group.heartbeat = None;
            group.is_unanswered = false;
            let heard = group.membership.hear(&asked, &answer);
            group.publish_epoch();
            let interval = Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0));
            session.heard(id, heard, interval.max(ASK_AGAIN_AFTER), context);
            session.pump(context);
        });
        let beat = context.spawn(done);
        if let Some(group) = self.group(id) {
            group.heartbeat = Some(beat);
        }
    }

    /// The coordinator is not there. It may be in a moment; the client hears of it once.
    fn unanswered(&mut self, id: u64, error: &AskError, context: &mut Context<Self>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let Some(group) = &mut subscription.group else { return };
        if !std::mem::replace(&mut group.is_unanswered, true) {
            subscription.tell(StreamEvent::Problem { place: None, code: error.code(), message: error.to_string() });
        }
        self.beat_after(id, UNANSWERED_RETRY_AFTER, context);
        self.pump(context);
    }

    fn beat_after(&mut self, id: u64, after: Duration, context: &mut Context<Self>) {
        if let Some(group) = self.group(id) {
            group.heartbeat = Some(context.run_later(after, move |session, context| {
                if let Some(group) = session.group(id) {
                    group.heartbeat = None;
                }
                session.let_go(id, context);
            }));
        }
    }

    fn heard(&mut self, id: u64, heard: Heard, interval: Duration, context: &mut Context<Self>) {
        match heard {
            Heard::Nothing => self.beat_after(id, interval, context),
            Heard::Again => self.beat_after(id, ASK_AGAIN_AFTER, context),
            Heard::Assigned => self.take_over_assignment(id, context),
            Heard::Lost => {
                let Some(group) = self.group(id) else { return };
                let places = group.lose();
                if let Some(resolving) = group.resolving.take() {
                    context.cancel_future(resolving);
                }
                self.give_up(id, places, Duration::ZERO, RevokeReason::Lost, context);
                self.beat_after(id, Duration::ZERO, context);
            }
            Heard::Refused(code, message) => self.refused(id, code, message, context),
        }
    }

    fn refused(&mut self, id: u64, code: ErrorCode, message: Option<String>, context: &mut Context<Self>) {
        let goodbye = match code {
            ErrorCode::UnreleasedInstanceId | ErrorCode::FencedInstanceId => Goodbye::INSTANCE_IN_USE,
            _ => Goodbye::REFUSED_BY_GROUP,
        };
        let message = message.unwrap_or_else(|| code.message().to_owned());
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            let event = StreamEvent::Problem { place: None, code, message };
            if let Some(frame) = (subscription.encoder)(&event) {
                self.send_data(frame);
            }
        }
        self.end(goodbye, context);
    }

    fn take_over_assignment(&mut self, id: u64, context: &mut Context<Self>) {
        let image = self.client.image();
        let Some(group) = self.group(id) else { return };
        // A topic that has no name any more has nothing to read either.
        let named = |(topic_id, partition): &(TopicId, i32)| {
            image.topic(*topic_id).map(|topic| StreamPlace { topic: topic.name.clone(), partition: *partition })
        };
        let now: BTreeSet<_> = group.membership.held().into_iter().flatten().filter_map(named).collect();
        let (_, removed) = group.assign(&now);
        let is_nothing = now.is_empty() && removed.is_empty();
        self.give_up(id, removed, REVOKE_WITHIN, RevokeReason::Rebalance, context);
        if is_nothing && let Some(subscription) = self.subscriptions.get_mut(&id) {
            let nothing = subscription.assigned(|_| false);
            subscription.tell(nothing);
        }
        self.resolve(id, context);
        let wait = self.group(id).is_some_and(|group| group.is_leaving() && !group.is_settled());
        // Until then the group waits for this member, so that nobody reads what is being done here.
        self.beat_after(id, if wait { REVOKE_WITHIN } else { Duration::ZERO }, context);
    }

    /// No more records come of these.
    fn give_up(
        &mut self,
        id: u64,
        partitions: Vec<StreamPlace>,
        deadline: Duration,
        reason: RevokeReason,
        context: &mut Context<Self>,
    ) {
        if partitions.is_empty() {
            return;
        }
        self.stop_reading(id, context);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let given_up: BTreeSet<&StreamPlace> = partitions.iter().collect();
        subscription.retain(|place| !given_up.contains(place));
        subscription.tell(StreamEvent::Revoked { partitions, deadline, reason });
    }

    /// What was given up is committed as far as it is done, and the group hears of it.
    fn let_go(&mut self, id: u64, context: &mut Context<Self>) {
        let Some(group) = self.group(id) else { return };
        if !group.is_leaving() {
            return self.beat(id, context);
        }
        if group.is_committing {
            return self.beat_after(id, ASK_AGAIN_AFTER, context);
        }
        let Some(commit) = group.begin_commit() else {
            group.let_go();
            return self.beat(id, context);
        };
        let (client, caller, name, member) = self.committing(id);
        let store = async move {
            let stored = group_offsets::commit(&client, &caller, &name, &member, &commit.offsets).await;
            (commit, stored.map_err(|error| error.to_string()))
        };
        let done = store.into_actor(self).map(move |(commit, outcome), session, context| {
            let Some(group) = session.group(id) else { return };
            group.end_commit(commit, outcome);
            // What could not be committed is read again by whoever has it now.
            group.let_go();
            session.beat(id, context);
        });
        context.spawn(done);
    }

    fn committing(&self, id: u64) -> (LocalClient, Caller, String, GroupMember) {
        let group = self.subscriptions.get(&id).and_then(|subscription| subscription.group.as_ref());
        let name = group.map(|group| group.start.group.clone()).unwrap_or_default();
        let member = group.map_or_else(GroupMember::nobody, GroupSide::member);
        (self.client.clone(), self.caller.clone(), name, member)
    }

    /// Commits what is done, and what is done meanwhile after that.
    pub(crate) fn commit(&mut self, id: u64, context: &mut Context<Self>) {
        let Some(commit) = self.group(id).and_then(GroupSide::begin_commit) else { return };
        let (client, caller, name, member) = self.committing(id);
        let store = async move {
            let stored = group_offsets::commit(&client, &caller, &name, &member, &commit.offsets).await;
            (commit, stored.map_err(|error| error.to_string()))
        };
        let done = store.into_actor(self).map(move |(commit, outcome), session, context| {
            if let Err(problem) = &outcome {
                log::info!("{} does not commit: {problem}", session.entry.path);
            }
            let is_stored = outcome.is_ok();
            let Some(group) = session.group(id) else { return };
            group.end_commit(commit, outcome);
            if group.is_leaving() && group.is_settled() && group.heartbeat.is_some() {
                // All of what is given up is done: the group need not wait longer.
                session.beat_after_settling(id, context);
            }
            if is_stored {
                session.commit(id, context);
            }
            session.pump(context);
        });
        context.spawn(done);
    }

    fn beat_after_settling(&mut self, id: u64, context: &mut Context<Self>) {
        if let Some(due) = self.group(id).and_then(|group| group.heartbeat.take()) {
            context.cancel_future(due);
        }
        self.let_go(id, context);
    }

    /// Finds where to begin in what is new, and begins there.
    fn resolve(&mut self, id: u64, context: &mut Context<Self>) {
        let image = self.client.image();
        let (client, caller, _, member) = self.committing(id);
        let Some(group) = self.group(id) else { return };
        if let Some(before) = group.resolving.take() {
            context.cancel_future(before);
        }
        let held = group.membership.held().into_iter().flatten();
        let named = |(topic_id, partition): &(TopicId, i32)| {
            let topic = image.topic(*topic_id)?;
            Some((StreamPlace { topic: topic.name.clone(), partition: *partition }, *topic_id))
        };
        let new: Vec<_> = held.filter_map(named).filter(|(place, _)| !group.is_held(place)).collect();
        if new.is_empty() {
            return;
        }
        let start = group.start.clone();
        let find = async move {
            loop {
                match begin_in(&client, &caller, &start, &member, &new).await {
                    Ok(found) => return found,
                    Err(error) => log::debug!("group {}: where to begin is not known yet: {error}", start.group),
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        };
        let done = find.into_actor(self).map(move |found, session, context| session.resolved(id, found, context));
        let resolving = context.spawn(done);
        if let Some(group) = self.group(id) {
            group.resolving = Some(resolving);
        }
    }

    fn resolved(&mut self, id: u64, found: Vec<Beginning>, context: &mut Context<Self>) {
        self.stop_reading(id, context);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let Some(group) = &mut subscription.group else { return };
        group.resolving = None;
        let mut cursors = Vec::with_capacity(found.len());
        for Beginning { cursor, committed } in found {
            group.begin(cursor.place.clone(), cursor.next, committed);
            self.client.watch(&cursor.source, &self.waiter);
            cursors.push(cursor);
        }
        subscription.add(cursors);
        // What a client brought back has arrived, and is committed with this.
        self.commit(id, context);
        self.pump(context);
    }

    /// Commits what was passed over, and sends members away that take nothing for too long.
    pub(crate) fn check_members(&mut self, context: &mut Context<Self>) {
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in ids {
            self.commit(id, context);
            let Some(subscription) = self.subscriptions.get_mut(&id) else { continue };
            let is_stalled = subscription.is_stalled();
            let Some(group) = &mut subscription.group else { continue };
            if !is_stalled {
                group.stalled_since = None;
            } else if group.stalled_since.get_or_insert_with(Instant::now).elapsed() >= group.start.stalls_at_most {
                return self.end(Goodbye::ACK_TIMEOUT, context);
            }
        }
    }

    /// Commits what is done and leaves. Goes on by itself: the session may be ending.
    pub(crate) fn leave_group(&mut self, id: u64, context: &mut Context<Self>) {
        let (client, caller, name, member) = self.committing(id);
        let Some(group) = self.group(id) else { return };
        for running in [group.heartbeat.take(), group.resolving.take()].into_iter().flatten() {
            context.cancel_future(running);
        }
        // One that is under way ends with the session; what it stores is stored again here.
        group.is_committing = false;
        let (commit, leave) = (group.begin_commit(), group.membership.leave());
        actix_rt::spawn(async move {
            if let Some(commit) = commit {
                // What cannot be committed is read again by whoever comes next.
                let _ = group_offsets::commit(&client, &caller, &name, &member, &commit.offsets).await;
            }
            let _ = client.ask(Destination::Coordinator(&name), &caller, &leave, HEARTBEAT_VERSION).await;
        });
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.group = None;
        }
    }
}

/// Where a member begins in a partition, and what its group has committed there.
struct Beginning {
    cursor: Cursor<Source>,
    committed: Option<Offset>,
}

/// Where the group has come, or the client, whichever is further; or where the subscription says.
async fn begin_in(
    client: &LocalClient,
    caller: &Caller,
    start: &GroupStart,
    member: &GroupMember,
    new: &[(StreamPlace, TopicId)],
) -> Result<Vec<Beginning>, InstanceError> {
    let places: Vec<_> = new.iter().map(|(place, _)| (place.topic.to_string(), place.partition)).collect();
    let committed = group_offsets::committed(client, caller, &start.group, member, &places).await?;
    let mut found = Vec::with_capacity(new.len());
    for (key, (place, topic_id)) in places.iter().zip(new) {
        let stored = committed.get(key).map(|stored| stored.offset);
        let arrived = start.arrived.get(place).copied();
        let known = stored.max(arrived);
        let failed = |code| InstanceError::Kafka(code, None);
        let source = stream_places::known(client, place).await.map_err(failed)?;
        let next = match known {
            Some(offset) => offset,
            None => stream_places::offset_of(client, caller, place, &source, start.start).await.map_err(failed)?,
        };
        // What has arrived and is not stored yet is stored with the next commit.
        let committed = if arrived > stored { Some(stored.unwrap_or(-1)) } else { stored };
        found.push(Beginning { cursor: Cursor::new(place.clone(), *topic_id, source, next), committed });
    }
    Ok(found)
}
