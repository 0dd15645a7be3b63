//! DescribeTopicPartitions (key 75, version 0): topics in the order of their names, a page of partitions at a time (KIP-966).
//!
//! No topic named means all. The cursor in the answer says where the next page begins; a client sends it back as it is.

use std::collections::BTreeSet;

use capek_state::cluster::{Image, Topic};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::topic_name_problem;
use capek_wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::{RequestContext, authorized, metadata};
use crate::topics;

/// `max.request.partition.size.limit`, Kafka's default.
const PARTITIONS_MAX: i32 = 2000;

pub fn answer(
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
    _version: i16,
) -> DescribeTopicPartitionsResponse {
    let image = context.broker.image.load();
    let Some(names) = names(&image, &request) else {
        return malformed(request);
    };
    let mut page = Page {
        context,
        image: &image,
        room: request.response_partition_limit.clamp(1, PARTITIONS_MAX) as usize,
        topics: Vec::new(),
    };
    let mut next_cursor = None;
    for name in names {
        let cursor = request.cursor.as_ref().filter(|cursor| cursor.topic_name == name);
        let first = cursor.map_or(0, |cursor| cursor.partition_index as usize); // checked not to be negative
        if page.room == 0 {
            next_cursor = Some(Cursor { topic_name: name, partition_index: 0, ..Default::default() });
            break;
        }
        let next = page.push(&name, first);
        if let Some(next) = next {
            next_cursor = Some(Cursor { topic_name: name, partition_index: next as i32, ..Default::default() });
            break;
        }
    }
    DescribeTopicPartitionsResponse { topics: page.topics, next_cursor, ..Default::default() }
}

/// The names from the cursor on; None if the cursor does not fit the request.
fn names(image: &Image, request: &DescribeTopicPartitionsRequest) -> Option<Vec<Str>> {
    let is_all = request.topics.is_empty();
    let from = request.cursor.as_ref().map_or("", |cursor| &cursor.topic_name);
    let asked: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
    let names: Vec<Str> = if is_all {
        image.topic_names_from(from).map(Str::from).collect()
    } else {
        asked.range(from..).map(|name| Str::from(*name)).collect()
    };
    let Some(cursor) = &request.cursor else {
        return Some(names);
    };
    let is_first = is_all || names.first() == Some(&cursor.topic_name);
    (is_first && cursor.partition_index >= 0).then_some(names)
}

fn malformed(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let refused = |name| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(name),
        ..Default::default()
    };
    let topics = request.topics.into_iter().map(|topic| refused(topic.name)).collect();
    DescribeTopicPartitionsResponse { topics, ..Default::default() }
}

/// The answer as it grows.
struct Page<'a> {
    context: &'a RequestContext,
    image: &'a Image,
    /// How many partitions it may still take.
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Appends the topic from its partition `first` on; the partition to go on with, if it did not fit in whole.
    fn push(&mut self, name: &Str, first: usize) -> Option<usize> {
        let Some(topic) = self.image.topic_by_name(name) else {
            let code = match topic_name_problem(name) {
                Some(_) => ErrorCode::InvalidTopicException,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            self.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: code.code(),
                name: Some(name.clone()),
                topic_authorized_operations: authorized::TOPIC_OPERATIONS,
                ..Default::default()
            });
            return None;
        };
        let end = topic.partitions.len().min(first.saturating_add(self.room));
        let partitions: Vec<_> = (first..end).map(|index| self.describe(topic, index)).collect();
        self.room -= partitions.len();
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: topics::is_internal(name),
            partitions,
            topic_authorized_operations: authorized::TOPIC_OPERATIONS,
            ..Default::default()
        });
        (end < topic.partitions.len()).then_some(end)
    }

    fn describe(&self, topic: &Topic, index: usize) -> DescribeTopicPartitionsResponsePartition {
        let known = &topic.partitions[index];
        let partition = metadata::describe_partition(self.context, self.image, index, known);
        DescribeTopicPartitionsResponsePartition {
            error_code: partition.error_code,
            partition_index: partition.partition_index,
            leader_id: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replica_nodes,
            isr_nodes: partition.isr_nodes,
            eligible_leader_replicas: Some(known.elr.clone()),
            last_known_elr: Some(known.last_known_elr.clone()),
            offline_replicas: partition.offline_replicas,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use capek_state::cluster::Record;
    use capek_wire::ids::Uuid;
    use capek_wire::messages::describe_topic_partitions::TopicRequest;

    use super::*;

    fn names_of(asked: &[&str], cursor: Option<(&str, i32)>) -> Option<Vec<String>> {
        let mut image = Image::default();
        for (index, name) in ["c", "a", "b"].iter().enumerate() {
            image.apply(&Record::Topic { topic_id: Uuid([index as u8 + 1; 16]), name: name.to_string() });
        }
        let request = DescribeTopicPartitionsRequest {
            topics: asked.iter().map(|name| TopicRequest { name: Str::from(*name), ..Default::default() }).collect(),
            cursor: cursor.map(|(name, partition_index)| Cursor {
                topic_name: Str::from(name),
                partition_index,
                ..Default::default()
            }),
            ..Default::default()
        };
        names(&image, &request).map(|names| names.into_iter().map(String::from).collect())
    }

    #[test]
    fn topics_come_in_order_and_once() {
        assert_eq!(names_of(&[], None).unwrap(), ["a", "b", "c"]);
        assert_eq!(names_of(&["c", "missing", "a", "c"], None).unwrap(), ["a", "c", "missing"]);
    }

    #[test]
    fn a_cursor_goes_on_where_the_last_page_ended() {
        assert_eq!(names_of(&[], Some(("b", 3))).unwrap(), ["b", "c"]);
        assert_eq!(names_of(&["a", "c"], Some(("c", 0))).unwrap(), ["c"]);
        // Of all topics one may have gone since the last page.
        assert_eq!(names_of(&[], Some(("aa", 3))).unwrap(), ["b", "c"]);
        assert_eq!(names_of(&["a", "c"], Some(("b", 0))), None);
        assert_eq!(names_of(&["a"], Some(("a", -1))), None);
    }
}
