//! Consumer groups as small JSON for scripts: who is in them, what they have read, how far they are behind; and their offsets
//! put elsewhere.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{OffsetToStore, Place};
use capek_actors::group_offsets::{self, GroupMember};
use capek_actors::local_requests::Caller;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::groups::{self, Group, Lag, Member};
use super::super::problem::Problem;
use super::super::rest_v2::caller;
use super::{check_topic_name, no_such_topic, parse_place, read_body};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    topic: String,
    /// All of the topic's without it.
    partitions: Option<Vec<PartitionIndex>>,
    /// As `from` of a stream: `earliest`, `latest`, `-10`, `offset:5`, `ts:2026-01-01T00:00:00Z`, `-1h`.
    to: String,
    #[serde(default)]
    dry_run: bool,
}

pub async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let groups = doors.groups(&caller(&request)).await?;
    let groups: Vec<Value> = groups.iter().map(summary).collect();
    Ok(HttpResponse::Ok().json(json!({ "groups": groups })))
}

fn summary(group: &Group) -> Value {
    json!({
        "group": group.id,
        "state": group.state,
        "type": group.kind,
        "coordinator": group.coordinator,
        "members": group.members.len(),
    })
}

pub async fn describe(
    request: HttpRequest,
    id: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let group = find(&doors, &caller(&request), &id).await?;
    let mut body = summary(&group);
    body["assignor"] = group.assignor.as_str().into();
    body["members"] = group.members.iter().map(member).collect();
    Ok(HttpResponse::Ok().json(body))
}

fn member(member: &Member) -> Value {
    let place = |(topic, partition): &Place| json!({ "topic": topic, "partition": partition });
    json!({
        "member": member.id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "partitions": member.assigned.iter().map(place).collect::<Vec<_>>(),
    })
}

async fn find(doors: &Doors, caller: &Caller, id: &str) -> Result<Group, Problem> {
    let found = doors.group(caller, id).await?;
    let none = || Problem::kafka(ErrorCode::GroupIdNotFound, Some(format!("there is no group {id}")));
    found.ok_or_else(none)
}

/// What is committed, and how far that is from the end.
pub async fn offsets(
    request: HttpRequest,
    id: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request);
    let group = find(&doors, &caller, &id).await?;
    let lags = doors.lags(&caller, &group).await?;
    let offset = |lag: &Lag| {
        json!({
            "topic": lag.place.0,
            "partition": lag.place.1,
            "offset": lag.current_offset,
            "end_offset": lag.log_end_offset,
            "lag": lag.lag(),
            "member": Some(&lag.member_id).filter(|member| !member.is_empty()),
        })
    };
    let total: i64 = lags.iter().map(Lag::lag).sum();
    let offsets: Vec<Value> = lags.iter().map(offset).collect();
    Ok(HttpResponse::Ok().json(json!({ "group": *id, "lag": total, "offsets": offsets })))
}

/// For a group without members; one that there is not is made.
pub async fn reset(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request);
    let wanted: Reset = read_body(&request, payload, &doors).await?;
    check_topic_name(&wanted.topic)?;
    let to = parse_place("to", &wanted.to)?;
    let image = doors.client.image();
    let topic = image.topic_by_name(&wanted.topic).ok_or_else(no_such_topic)?;
    let partitions = wanted.partitions.unwrap_or_else(|| (0..topic.partitions.len() as PartitionIndex).collect());
    let before: BTreeMap<Place, _> = group_offsets::all_committed(&doors.client, &caller, &id).await?;
    if before.is_empty()
        && let Some(problem) = groups::name_problem(&id)
    {
        return Err(Problem::kafka(ErrorCode::InvalidGroupId, Some(problem)));
    }
    let mut offsets = Vec::with_capacity(partitions.len());
    let mut told = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let offset = doors.offset_from(&caller, &wanted.topic, partition, to).await?;
        let place = (wanted.topic.clone(), partition);
        let before = before.get(&place).map(|stored| stored.offset);
        told.push(json!({ "topic": wanted.topic, "partition": partition, "before": before, "after": offset }));
        offsets.push(OffsetToStore { place, offset, metadata: String::new() });
    }
    if !wanted.dry_run {
        let stored = group_offsets::commit(&doors.client, &caller, &id, &GroupMember::nobody(), &offsets).await;
        stored.map_err(|error| match error.code() {
            // Who is nobody may commit only where nobody is.
            ErrorCode::UnknownMemberId => {
                Problem::kafka(ErrorCode::NonEmptyGroup, Some("the group has members: stop them first".to_owned()))
            }
            _ => error.into(),
        })?;
    }
    Ok(HttpResponse::Ok().json(json!({ "group": *id, "dry_run": wanted.dry_run, "offsets": told })))
}

pub async fn delete(
    request: HttpRequest,
    id: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    doors.delete_group(&caller(&request), &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
