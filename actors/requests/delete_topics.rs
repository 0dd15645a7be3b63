//! DeleteTopics (key 20, versions 1–6): by name, from version 6 by name or by id.
//!
//! What cannot be a topic (named twice, or neither by name nor by id) is answered first, then the others in order.

use std::collections::BTreeSet;
use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{Command, Image, Topic, TopicReference};
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

const NAME_TWICE: &str = "Duplicate topic name.";
const ID_TWICE: &str = "Duplicate topic id.";
const BOTH_WAYS: &str = "The provided topic name maps to an ID that was already supplied.";

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

/// Apart from what can be deleted, the answers for what cannot.
fn sort_out(image: &Image, asked: Vec<DeleteTopicState>) -> (Vec<Wanted>, Vec<DeletableTopicResult>) {
    let by_name = |state: &&DeleteTopicState| state.topic_id == Uuid::ZERO;
    let by_id = |state: &&DeleteTopicState| state.name.is_none() && state.topic_id != Uuid::ZERO;
    let names_twice = repeated(asked.iter().filter(by_name).filter_map(|state| state.name.as_ref()));
    let ids_twice = repeated(asked.iter().filter(by_id).map(|state| &state.topic_id));
    let ids: BTreeSet<TopicId> = asked.iter().filter(by_id).map(|state| state.topic_id).collect();
    let named = asked.iter().filter(by_name).filter_map(|state| image.topic_by_name(state.name.as_ref()?));
    let both_ways: BTreeSet<TopicId> = named.map(|topic| topic.id).filter(|id| ids.contains(id)).collect();

    let of_name = |name: &Str| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
    let of_id = |&topic_id: &TopicId| DeleteTopicState { name: None, topic_id };
    let mut responses: Vec<_> = names_twice.iter().map(|name| failed(of_name(name), invalid(NAME_TWICE))).collect();
    responses.extend(ids_twice.iter().map(|id| failed(of_id(id), invalid(ID_TWICE))));
    let mut wanted = Vec::with_capacity(asked.len());
    for state in asked {
        let is_answered = match &state.name {
            Some(name) => by_name(&&state) && names_twice.contains(name),
            None => ids_twice.contains(&state.topic_id) || both_ways.contains(&state.topic_id),
        };
        match find(image, &state) {
            _ if is_answered => {}
            Ok(topic) if both_ways.contains(&topic.id) => {
                responses.push(failed(DeleteTopicState { topic_id: topic.id, ..state }, invalid(BOTH_WAYS)));
            }
            Ok(topic) => wanted.push(Wanted { name: Some(Str::from(&*topic.name)), id: topic.id }),
            Err(refusal) => responses.push(failed(state, refusal)),
        }
    }
    (wanted, responses)
}

fn find<'a>(image: &'a Image, state: &DeleteTopicState) -> Result<&'a Topic, Refusal> {
    let found = match (&state.name, state.topic_id) {
        (None, Uuid::ZERO) => return Err(invalid("Neither topic name nor id were specified.")),
        (Some(name), Uuid::ZERO) => {
            image.topic_by_name(name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?
        }
        (None, id) => image.topic(id).ok_or(Refusal::bare(ErrorCode::UnknownTopicId))?,
        (Some(_), _) => return Err(invalid("You may not specify both topic name and topic id.")),
    };
    Ok(found)
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
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

#[cfg(test)]
mod tests {
    use capek_state::cluster::Record;

    use super::*;

    const ORDERS: Uuid = Uuid([1; 16]);
    const USERS: Uuid = Uuid([2; 16]);
    const NOBODYS: Uuid = Uuid([9; 16]);

    /// What is to be deleted, and the codes of what is refused, of `asked` as (name, id).
    fn check(asked: &[(Option<&str>, Uuid)], wanted: &[Uuid], refused: &[ErrorCode]) {
        let mut image = Image::default();
        image.apply(&Record::Topic { topic_id: ORDERS, name: "orders".to_string() });
        image.apply(&Record::Topic { topic_id: USERS, name: "users".to_string() });
        let state = |&(name, topic_id): &(Option<&str>, Uuid)| DeleteTopicState {
            name: name.map(Str::from),
            topic_id,
            ..Default::default()
        };
        let (found, responses) = sort_out(&image, asked.iter().map(state).collect());
        assert_eq!(found.iter().map(|topic| topic.id).collect::<Vec<_>>(), wanted);
        let codes: Vec<_> = responses.iter().map(|response| ErrorCode::from_code(response.error_code)).collect();
        assert_eq!(codes, refused);
    }

    #[test]
    fn topics_are_deleted_by_name_or_by_id() {
        check(&[(Some("users"), Uuid::ZERO), (None, ORDERS)], &[USERS, ORDERS], &[]);
        check(&[(Some("missing"), Uuid::ZERO)], &[], &[ErrorCode::UnknownTopicOrPartition]);
        check(&[(None, NOBODYS)], &[], &[ErrorCode::UnknownTopicId]);
    }

    #[test]
    fn a_topic_is_named_once_and_in_one_way() {
        let invalid = [ErrorCode::InvalidRequest];
        check(&[(Some("orders"), ORDERS)], &[], &invalid);
        check(&[(None, Uuid::ZERO)], &[], &invalid);
        check(&[(Some("orders"), Uuid::ZERO), (Some("orders"), Uuid::ZERO)], &[], &invalid);
        check(&[(None, ORDERS), (None, ORDERS)], &[], &invalid);
        check(&[(None, ORDERS), (Some("orders"), Uuid::ZERO)], &[], &invalid);
        check(&[(Some("orders"), Uuid::ZERO), (None, ORDERS)], &[], &invalid);
    }
}
