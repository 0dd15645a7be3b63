//! DeleteTopics (key 20, versions 1–6): by name, from version 6 by name or by id.
//!
//! What cannot be a topic (named twice, or neither by name nor by id) is answered first, then the others in order.

use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{Command, Image, TopicReference};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{TopicId, Uuid};
use capek_wire::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

use super::{RequestContext, repeated};
use crate::topics;

/// Versions from here know `delete.topic.enable=false` by a code of its own.
const DISABLED_VERSION_MIN: i16 = 3;

/// A topic that is to be deleted, with what the answer shall call it.
#[derive(Debug, PartialEq)]
struct Wanted {
    name: Option<Str>,
    id: TopicId,
}

pub async fn answer(context: Rc<RequestContext>, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let asked = asked(request);
    if !context.broker.config.delete_topics {
        let responses = asked.into_iter().map(|state| failed(state, disabled(version))).collect();
        return DeleteTopicsResponse { responses, ..Default::default() };
    }
    let (wanted, mut responses) = sort_out(&context.broker.image.load(), asked);
    for topic in wanted {
        let deleted = topics::propose(&context.broker, Command::DeleteTopic(TopicReference::Id(topic.id))).await;
        let state = DeleteTopicState { name: topic.name, topic_id: topic.id };
        responses.push(match deleted {
            Ok(_) => DeletableTopicResult { name: state.name, topic_id: state.topic_id, ..Default::default() },
            Err(refusal) => failed(state, refusal),
        });
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

/// Up to version 5 there are names only.
fn asked(request: DeleteTopicsRequest) -> Vec<DeleteTopicState> {
    let by_name = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
    request.topics.into_iter().chain(request.topic_names.into_iter().map(by_name)).collect()
}

fn disabled(version: i16) -> Refusal {
    if version < DISABLED_VERSION_MIN {
        return Refusal::new(ErrorCode::InvalidRequest, "Topic deletion is disabled.");
    }
    Refusal::bare(ErrorCode::TopicDeletionDisabled)
}

fn sort_out(image: &Image, asked: Vec<DeleteTopicState>) -> (Vec<Wanted>, Vec<DeletableTopicResult>) {
    let names =
        repeated(asked.iter().filter(|state| state.topic_id == Uuid::ZERO).filter_map(|state| state.name.as_ref()));
    let given_ids = || asked.iter().filter(|state| state.name.is_none() && state.topic_id != Uuid::ZERO);
    let ids = repeated(given_ids().map(|state| &state.topic_id));
    let invalid = |message| Refusal::new(ErrorCode::InvalidRequest, message);
    let mut wanted = Vec::with_capacity(asked.len());
    let mut responses = Vec::new();
    for name in &names {
        let state = DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
        responses.push(failed(state, invalid("Duplicate topic name.")));
    }
    for &topic_id in &ids {
        responses.push(failed(DeleteTopicState { name: None, topic_id }, invalid("Duplicate topic id.")));
    }
    let given: Vec<TopicId> = given_ids().map(|state| state.topic_id).collect();
    for state in asked {
        match (&state.name, state.topic_id) {
            (Some(_), id) if id != Uuid::ZERO => {
                responses.push(failed(state, invalid("You may not specify both topic name and topic id.")));
            }
            (None, id) if id == Uuid::ZERO => {
                responses.push(failed(state, invalid("Neither topic name nor id were specified.")));
            }
            (Some(name), _) if names.contains(name) => {}
            (None, id) if ids.contains(&id) => {}
            (Some(name), _) => match image.topic_by_name(name).map(|topic| topic.id) {
                None => responses.push(failed(state, Refusal::bare(ErrorCode::UnknownTopicOrPartition))),
                Some(topic_id) if given.contains(&topic_id) => {
                    let message = "The provided topic name maps to an ID that was already supplied.";
                    wanted.retain(|topic: &Wanted| topic.id != topic_id);
                    responses.retain(|response: &DeletableTopicResult| response.topic_id != topic_id);
                    responses.push(failed(DeleteTopicState { topic_id, ..state }, invalid(message)));
                }
                Some(id) => wanted.push(Wanted { name: state.name, id }),
            },
            (None, id) => match image.topic(id) {
                None => responses.push(failed(state, Refusal::bare(ErrorCode::UnknownTopicId))),
                Some(topic) => wanted.push(Wanted { name: Some(Str::from(&*topic.name)), id }),
            },
        }
    }
    (wanted, responses)
}

fn failed(state: DeleteTopicState, refusal: Refusal) -> DeletableTopicResult {
    let message = refusal.message.as_deref().unwrap_or(refusal.code.message());
    DeletableTopicResult {
        name: state.name,
        topic_id: state.topic_id,
        error_code: refusal.code.code(),
        error_message: Some(Str::from(message)),
        ..Default::default()
    }
}
