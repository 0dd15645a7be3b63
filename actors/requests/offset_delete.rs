//! OffsetDelete (key 47, version 0): forgets what a group has committed, of topics that its members do not consume.

use std::rc::Rc;

use capek_state::group::DeleteOffsetsRequest;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::{RequestContext, coordinator};

pub async fn answer(context: Rc<RequestContext>, request: OffsetDeleteRequest, _version: i16) -> OffsetDeleteResponse {
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    let image = context.broker.image.load_full();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let partition_index = partition.partition_index;
            let error = if coordinator::has_partition(&image, &topic.name, partition_index) {
                offsets.push((topic.name.clone(), partition_index));
                ErrorCode::None
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code: error.code() });
        }
        topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    let delete = DeleteOffsetsRequest { group: request.group_id.clone(), offsets };
    let errors = match coordinator::ask(&context, &request.group_id, delete).await {
        Ok(errors) => errors,
        Err(error) => return OffsetDeleteResponse { error_code: error.code(), ..Default::default() },
    };
    let asked = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let asked = asked.filter(|partition| partition.error_code == ErrorCode::None.code());
    for (partition, error) in asked.zip(errors) {
        partition.error_code = error.code();
    }
    OffsetDeleteResponse { topics, ..Default::default() }
}
