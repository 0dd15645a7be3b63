//! CreatePartitions (key 37, versions 0–3): more partitions for a topic, placed by the broker or by hand.
//!
//! Topics are judged one by one. A name that a request has twice is refused, once, and answered first.

use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{Command, CreatePartitions, Outcome};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::{RequestContext, change, repeated};
use crate::clock::now_ms;

pub async fn answer(
    context: Rc<RequestContext>,
    request: CreatePartitionsRequest,
    _version: i16,
) -> CreatePartitionsResponse {
    let twice = repeated(request.topics.iter().map(|topic| &topic.name));
    let refusal = || Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."));
    let mut results: Vec<_> = twice.iter().map(|name| result(name.clone(), &refusal())).collect();
    for topic in request.topics.into_iter().filter(|topic| !twice.contains(&topic.name)) {
        let name = topic.name.clone();
        let created = change::make(&context.broker, command(topic), request.validate_only).await;
        results.push(result(name, &created));
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

fn command(topic: CreatePartitionsTopic) -> Command {
    let assignments = topic.assignments;
    Command::CreatePartitions(CreatePartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: assignments.map(|given| given.into_iter().map(|replicas| replicas.broker_ids).collect()),
        seed: crate::random::seed(),
        now_ms: now_ms(),
    })
}

fn result(name: Str, created: &Result<Outcome, Refusal>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = change::error_of(created);
    CreatePartitionsTopicResult { name, error_code, error_message, ..Default::default() }
}
