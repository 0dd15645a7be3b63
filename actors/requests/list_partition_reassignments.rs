//! ListPartitionReassignments (key 46, version 0): which partitions are on their way to other brokers. Null topics mean all;
//! what is named and is not on its way is left out.

use std::collections::BTreeMap;

use capek_state::cluster::Image;
use capek_wire::codec::Str;
use capek_wire::messages::list_partition_reassignments::{
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use capek_wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::RequestContext;

pub fn answer(
    context: &RequestContext,
    request: ListPartitionReassignmentsRequest,
    _version: i16,
) -> ListPartitionReassignmentsResponse {
    let topics = ongoing(&context.broker.image.load(), request.topics.as_deref());
    ListPartitionReassignmentsResponse { error_message: None, topics, ..Default::default() }
}

fn ongoing(image: &Image, asked: Option<&[ListPartitionReassignmentsTopics]>) -> Vec<OngoingTopicReassignment> {
    let is_asked = |name: &str, index: i32| {
        asked.is_none_or(|topics| {
            topics.iter().any(|topic| *topic.name == *name && topic.partition_indexes.contains(&index))
        })
    };
    let mut found: BTreeMap<&str, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (topic, index, partition) in image.reassigning().filter(|(topic, index, _)| is_asked(&topic.name, *index)) {
        found.entry(&topic.name).or_default().push(OngoingPartitionReassignment {
            partition_index: index,
            replicas: partition.replicas.clone(),
            adding_replicas: partition.adding.clone(),
            removing_replicas: partition.removing.clone(),
        });
    }
    let told = |(name, partitions): (&str, _)| OngoingTopicReassignment { name: Str::from(name), partitions };
    found.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use capek_state::cluster::{PartitionStateRecord, Record};
    use capek_wire::ids::Uuid;

    use super::*;

    /// Partition 1 of `moving` goes from 1 to 2, the others stay where they are.
    fn image() -> Image {
        let mut image = Image::default();
        for (number, name) in [(1, "moving"), (2, "at-rest")] {
            let topic_id = Uuid([number; 16]);
            image.apply(&Record::Topic { topic_id, name: name.to_owned() });
            for partition in 0..2 {
                let moves = name == "moving" && partition == 1;
                image.apply(&Record::PartitionState(PartitionStateRecord {
                    topic_id,
                    partition,
                    replicas: if moves { vec![2, 1] } else { vec![1] },
                    isr: vec![1],
                    elr: Vec::new(),
                    last_known_elr: Vec::new(),
                    leader: 1,
                    leader_epoch: 0,
                    partition_epoch: 0,
                    adding: if moves { vec![2] } else { Vec::new() },
                    removing: if moves { vec![1] } else { Vec::new() },
                    dirs: Vec::new(),
                    offline: Vec::new(),
                }));
            }
        }
        image
    }

    #[test]
    fn what_moves_is_told_with_where_to() {
        let moving = OngoingTopicReassignment {
            name: Str::from("moving"),
            partitions: vec![OngoingPartitionReassignment {
                partition_index: 1,
                replicas: vec![2, 1],
                adding_replicas: vec![2],
                removing_replicas: vec![1],
            }],
        };
        assert_eq!(ongoing(&image(), None), std::slice::from_ref(&moving));
        let asked = |name: &str, partition_indexes| {
            let topic = ListPartitionReassignmentsTopics { name: Str::from(name), partition_indexes };
            ongoing(&image(), Some(&[topic]))
        };
        assert_eq!(asked("moving", vec![0, 1, 7]), [moving]);
        assert_eq!(asked("moving", vec![0]), []);
        assert_eq!(asked("at-rest", vec![0, 1]), []);
        assert_eq!(asked("unknown", vec![0, 1]), []);
    }
}
