//! Where a request finds the coordinator of a group, and how it asks.

use actix::Handler;
use capek_state::cluster::Image;
use capek_state::group::OFFSETS_TOPIC;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;
use log::warn;
use tokio::sync::oneshot;

use super::RequestContext;
use crate::coordinator_routes::Shard;
use crate::group_coordinator::{Ask, GroupCoordinator};
use crate::topics;

/// The coordinator of the group. `__consumer_offsets` is made when the first group is asked for.
pub async fn of_group(context: &RequestContext, group: &str) -> Result<Shard, ErrorCode> {
    let coordinators = &context.broker.coordinators;
    if !coordinators.has_shards()
        && let Err(refusal) = topics::auto_create(&context.broker, OFFSETS_TOPIC).await
    {
        warn!("{OFFSETS_TOPIC} cannot be made: {refusal}");
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    coordinators.of_group(group)
}

/// What the group's coordinator answers. Requests of a connection reach it in their order: once `__consumer_offsets` is there,
/// nothing is awaited before the question is sent.
pub async fn ask<Request, Answer>(context: &RequestContext, group: &str, request: Request) -> Result<Answer, ErrorCode>
where
    GroupCoordinator: Handler<Ask<Request, Answer>>,
    Request: Send + 'static,
    Answer: Send + 'static,
{
    let shard = of_group(context, group).await?;
    answered(send(&shard, request)).await
}

/// The same for what waits for other members: when the broker stops, nobody waits any more.
pub async fn ask_patiently<Request, Answer>(
    context: &RequestContext,
    group: &str,
    request: Request,
) -> Result<Answer, ErrorCode>
where
    GroupCoordinator: Handler<Ask<Request, Answer>>,
    Request: Send + 'static,
    Answer: Send + 'static,
{
    let shard = of_group(context, group).await?;
    let answer = send(&shard, request);
    tokio::select! {
        answer = answered(answer) => answer,
        () = stopping(context) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

pub type Pending<Answer> = oneshot::Receiver<Result<Answer, ErrorCode>>;

/// Asks, and goes on. What this queues is bounded by the byte budget that the frame has paid from.
pub fn send<Request, Answer>(shard: &Shard, request: Request) -> Pending<Answer>
where
    GroupCoordinator: Handler<Ask<Request, Answer>>,
    Request: Send + 'static,
    Answer: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    shard.addr.do_send(Ask { request, reply });
    answer
}

/// Without an answer the coordinator has ended, or its write has failed: the client looks for it again, and asks again.
pub async fn answered<Answer>(answer: Pending<Answer>) -> Result<Answer, ErrorCode> {
    answer.await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

async fn stopping(context: &RequestContext) {
    loop {
        let mut woken = std::pin::pin!(context.fetch_waiter.notified());
        woken.as_mut().enable();
        if context.is_draining.get() {
            return;
        }
        woken.await;
    }
}

/// Is there such a partition?
pub fn has_partition(image: &Image, topic: &str, partition: PartitionIndex) -> bool {
    image.topic_by_name(topic).is_some_and(|topic| topic.partition(partition).is_some())
}
