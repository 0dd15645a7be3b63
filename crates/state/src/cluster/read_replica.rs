//! Which replica a consumer should read from (KIP-392): one in its own rack rather than a leader far away.

use std::cmp::Reverse;

use capek_wire::ids::{BrokerId, Offset};

use super::image::{Image, Partition};

/// What a leader knows of one of its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    pub broker: BrokerId,
    /// It holds everything below.
    pub end_offset: Offset,
}

/// The follower that a consumer in this rack should read `offset` from; None: the leader. As Kafka's
/// `RackAwareReplicaSelector`: only in-sync followers that hold the offset count, and the one that holds most is taken; a leader
/// in the same rack is as near as any.
pub fn nearest_follower(
    image: &Image,
    partition: &Partition,
    rack: &str,
    offset: Offset,
    followers: &[ReplicaView],
) -> Option<BrokerId> {
    let is_near = |broker: BrokerId| image.broker(broker).is_some_and(|found| found.rack.as_deref() == Some(rack));
    if rack.is_empty() || is_near(partition.leader) {
        return None;
    }
    let can_serve = |view: &&ReplicaView| {
        view.broker != partition.leader
            && view.end_offset >= offset
            && partition.isr.contains(&view.broker)
            && !partition.offline.contains(&view.broker)
            && is_near(view.broker)
    };
    let nearest = followers.iter().filter(can_serve).max_by_key(|view| (view.end_offset, Reverse(view.broker)));
    nearest.map(|view| view.broker)
}
