//! Consumer groups as every door tells of them: Kafka's own requests, one answer for both protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use capek_actors::consumer_commands::Place;
use capek_actors::group_offsets;
use capek_actors::local::LEADER_WITHIN;
use capek_actors::local_requests::{Caller, Destination};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, Offset};
use capek_wire::messages::list_groups::ListedGroup;
use capek_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse,
};
use tokio::time::Instant;

use super::cluster_admin::Refused;
use super::doors::Doors;
use crate::client::assigned;

const LIST_VERSION: i16 = 5;
const DESCRIBE_CLASSIC_VERSION: i16 = 5;
const DESCRIBE_CONSUMER_VERSION: i16 = 1;
const DELETE_VERSION: i16 = 2;
const CONSUMER: &str = "consumer";

/// A group and its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    /// In Confluent's spelling: `PREPARING_REBALANCE`.
    pub state: String,
    /// `CLASSIC` or `CONSUMER`.
    pub kind: String,
    /// It has no members and never had: somebody stores offsets in it.
    pub is_simple: bool,
    pub assignor: String,
    pub coordinator: BrokerId,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub assigned: BTreeSet<Place>,
}

/// How far a group is behind in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub place: Place,
    /// Empty when nobody reads it now.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub current_offset: Offset,
    pub log_end_offset: Offset,
}

impl Lag {
    /// A partition that was made again may end before what is committed.
    pub fn lag(&self) -> i64 {
        (self.log_end_offset - self.current_offset).max(0)
    }
}

/// Why no group is made under this name here. Kafka's clients may name theirs as they like: of those everything is told.
pub fn name_problem(name: &str) -> Option<String> {
    const NAME_BYTES_MAX: usize = 249;
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return None;
    }
    Some(format!("the name of a group has 1 to {NAME_BYTES_MAX} bytes, and no control characters"))
}

/// `PreparingRebalance` in Confluent's spelling.
fn shouted(state: &str) -> String {
    let mut shouted = String::with_capacity(state.len() + 1);
    for (index, character) in state.chars().enumerate() {
        if index > 0 && character.is_ascii_uppercase() {
            shouted.push('_');
        }
        shouted.push(character.to_ascii_uppercase());
    }
    shouted
}

impl Doors {
    /// All groups that consume, by their ids.
    pub async fn groups(&self, caller: &Caller) -> Result<Vec<Group>, Refused> {
        let mut groups = Vec::new();
        for listed in self.listed(caller).await? {
            // One that has gone meanwhile is not in the list.
            groups.extend(self.described(caller, &listed).await?);
        }
        groups.sort_by(|one: &Group, other| one.id.cmp(&other.id));
        Ok(groups)
    }

    pub async fn group(&self, caller: &Caller, id: &str) -> Result<Option<Group>, Refused> {
        let listed = self.listed(caller).await?;
        match listed.iter().find(|listed| listed.group_id == id) {
            Some(listed) => self.described(caller, listed).await,
            None => Ok(None),
        }
    }

    pub async fn delete_group(&self, caller: &Caller, id: &str) -> Result<(), Refused> {
        let request = || DeleteGroupsRequest { groups_names: vec![Str::from(id)] };
        let code_of = |answer: &DeleteGroupsResponse| {
            answer.results.first().map_or(ErrorCode::UnknownServerError.code(), |result| result.error_code)
        };
        let destination = Destination::Coordinator(id);
        let answer = self.client.ask_patiently(destination, caller, DELETE_VERSION, request, code_of).await?;
        match ErrorCode::from_code(code_of(&answer)) {
            ErrorCode::None => Ok(()),
            code => Err(Refused::new(code, None)),
        }
    }

    /// Of every broker that may coordinate any. When one of them has died its groups are with the others in a moment.
    async fn listed(&self, caller: &Caller) -> Result<Vec<ListedGroup>, Refused> {
        const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            match self.listed_now(caller).await {
                Err(Refused { code: ErrorCode::NetworkException | ErrorCode::RequestTimedOut, .. })
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                listed => return listed,
            }
        }
    }

    async fn listed_now(&self, caller: &Caller) -> Result<Vec<ListedGroup>, Refused> {
        let image = self.client.image();
        let alive = image.brokers().filter(|broker| !broker.fenced);
        let brokers: Vec<BrokerId> = alive.map(|broker| broker.id).collect();
        let mut groups = Vec::new();
        for broker in brokers {
            let (destination, code_of) = (Destination::Broker(broker), |answer: &ListGroupsResponse| answer.error_code);
            let asked =
                self.client.ask_patiently(destination, caller, LIST_VERSION, ListGroupsRequest::default, code_of);
            let answer = asked.await?;
            match ErrorCode::from_code(answer.error_code) {
                ErrorCode::None => groups.extend(answer.groups),
                code => return Err(Refused::new(code, None)),
            }
        }
        groups.retain(|group| group.protocol_type.is_empty() || group.protocol_type == CONSUMER);
        Ok(groups)
    }

    async fn described(&self, caller: &Caller, listed: &ListedGroup) -> Result<Option<Group>, Refused> {
        let is_classic = listed.group_type.eq_ignore_ascii_case("classic");
        let found = match is_classic {
            true => self.describe_classic(caller, &listed.group_id).await?,
            false => self.describe_consumer(caller, &listed.group_id).await?,
        };
        let Some(group) = found else { return Ok(None) };
        let coordinator = self.client.broker_of(Destination::Coordinator(&listed.group_id))?;
        Ok(Some(Group {
            id: listed.group_id.to_string(),
            kind: listed.group_type.to_ascii_uppercase(),
            is_simple: listed.protocol_type.is_empty() && group.members.is_empty(),
            coordinator,
            ..group
        }))
    }

    async fn describe_classic(&self, caller: &Caller, id: &Str) -> Result<Option<Group>, Refused> {
        let request = || DescribeGroupsRequest { groups: vec![id.clone()], ..Default::default() };
        let code_of = |answer: &DescribeGroupsResponse| answer.groups.first().map_or(0, |group| group.error_code);
        let destination = Destination::Coordinator(id);
        let answer = self.client.ask_patiently(destination, caller, DESCRIBE_CLASSIC_VERSION, request, code_of).await?;
        let Some(group) = answer.groups.into_iter().next() else { return Ok(None) };
        if ErrorCode::from_code(group.error_code) != ErrorCode::None {
            return Err(Refused::new(ErrorCode::from_code(group.error_code), None));
        }
        let members = group.members.iter().map(|member| Member {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            assigned: assigned(&member.member_assignment),
        });
        let (state, assignor) = (shouted(&group.group_state), group.protocol_data.to_string());
        Ok(Some(Group { state, assignor, members: members.collect(), ..Default::default() }))
    }

    async fn describe_consumer(&self, caller: &Caller, id: &Str) -> Result<Option<Group>, Refused> {
        let request = || ConsumerGroupDescribeRequest { group_ids: vec![id.clone()], ..Default::default() };
        let code_of =
            |answer: &ConsumerGroupDescribeResponse| answer.groups.first().map_or(0, |group| group.error_code);
        let destination = Destination::Coordinator(id);
        let answer =
            self.client.ask_patiently(destination, caller, DESCRIBE_CONSUMER_VERSION, request, code_of).await?;
        let Some(group) = answer.groups.into_iter().next() else { return Ok(None) };
        match ErrorCode::from_code(group.error_code) {
            ErrorCode::None => {}
            ErrorCode::GroupIdNotFound => return Ok(None),
            code => return Err(Refused::new(code, group.error_message.as_deref())),
        }
        let members = group.members.iter().map(|member| {
            let places = member
                .assignment
                .topic_partitions
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |index| (topic.topic_name.to_string(), *index)));
            Member {
                id: member.member_id.to_string(),
                instance_id: member.instance_id.as_ref().map(|id| id.to_string()),
                client_id: member.client_id.to_string(),
                assigned: places.collect(),
            }
        });
        let (state, assignor) = (shouted(&group.group_state), group.assignor_name.to_string());
        Ok(Some(Group { state, assignor, members: members.collect(), ..Default::default() }))
    }

    /// Of every partition that the group has committed something for, also where nobody reads it now.
    pub async fn lags(&self, caller: &Caller, group: &Group) -> Result<Vec<Lag>, Refused> {
        let committed = group_offsets::all_committed(&self.client, caller, &group.id).await?;
        let ends = self.end_offsets(caller, committed.keys()).await?;
        let readers: BTreeMap<&Place, &Member> =
            group.members.iter().flat_map(|member| member.assigned.iter().map(move |place| (place, member))).collect();
        let mut lags = Vec::with_capacity(committed.len());
        for (place, stored) in committed {
            // Offsets of a topic that was deleted are behind nothing.
            let Some(end) = ends.get(&place) else { continue };
            let reader = readers.get(&place);
            lags.push(Lag {
                member_id: reader.map(|member| member.id.clone()).unwrap_or_default(),
                instance_id: reader.and_then(|member| member.instance_id.clone()),
                client_id: reader.map(|member| member.client_id.clone()).unwrap_or_default(),
                current_offset: stored.offset,
                log_end_offset: *end,
                place,
            });
        }
        Ok(lags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_under_any_name_that_can_be_read() {
        for name in ["g", "g x/ü", &"x".repeat(249)] {
            assert_eq!(name_problem(name), None, "{name}");
        }
        for name in ["", "\0", "g x\n", "g\u{85}", &"x".repeat(250)] {
            assert!(name_problem(name).is_some(), "{name}");
        }
    }

    #[test]
    fn states_are_spelled_as_confluent_does() {
        for (kafkas, confluents) in [("Stable", "STABLE"), ("PreparingRebalance", "PREPARING_REBALANCE")] {
            assert_eq!(shouted(kafkas), confluents);
        }
    }
}
