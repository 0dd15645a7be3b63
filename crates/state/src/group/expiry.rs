//! Forgetting: offsets that nobody has used for `offsets.retention.minutes`, those of topics that are gone, and groups that
//! have nothing left.

use std::ops::Bound;
use std::sync::Arc;

use capek_wire::codec::Str;
use capek_wire::ids::{PartitionIndex, TopicId};

use super::classic::ClassicState;
use super::{CommittedOffset, Coordinator, Effects, Group, GroupKind, Record};

/// Offsets that are looked at in one go: nothing else happens in the shard meanwhile.
const SLICE_OFFSETS_MAX: usize = 20_000;

impl Coordinator {
    /// Looks at the next slice of groups; when all were looked at, again after the check interval.
    pub(super) fn expire_offsets(&mut self, now_ms: i64, effects: &mut Effects) {
        let mut looked_at = 0;
        while looked_at < SLICE_OFFSETS_MAX {
            let after = match &self.expiry_after {
                Some(id) => Bound::Excluded(id.clone()),
                None => Bound::Unbounded,
            };
            let Some((id, group)) = self.groups.range((after, Bound::Unbounded)).next() else {
                self.expiry_after = None;
                self.expiry_due_ms = Some(now_ms.saturating_add(self.config.offsets_retention_check_interval_ms));
                return;
            };
            let id = id.clone();
            let count = group.offsets.iter().count();
            let expired = expired_offsets(group, self.config.offsets_retention_ms, now_ms);
            let is_empty = match &group.kind {
                GroupKind::Classic(classic) => classic.state() == ClassicState::Empty && !classic.has_pending_members(),
                GroupKind::Consumer(group) => group.is_empty(),
            };
            let has_nothing_left = is_empty && expired.len() == count;
            self.forget(&id, expired, effects);
            if has_nothing_left {
                self.delete_kind(&id, effects);
            }
            looked_at += 1 + count;
            self.expiry_after = Some(id);
        }
    }

    /// Topics of these names and ids were deleted: what was committed to them means nothing any more.
    pub fn topics_deleted(&mut self, topics: &[(Arc<str>, TopicId)], effects: &mut Effects) {
        let mut forgotten: Vec<(Str, Vec<(Str, PartitionIndex)>)> = Vec::new();
        for (id, group) in &self.groups {
            for (topic, topic_id) in topics {
                let Some(partitions) = group.offsets.topic(topic) else { continue };
                // A topic of the same name may have been made since then.
                let is_gone =
                    |committed: &CommittedOffset| committed.topic_id.is_zero() || committed.topic_id == *topic_id;
                let gone = partitions.iter().filter(|(_, committed)| is_gone(committed));
                forgotten.push((id.clone(), gone.map(|(partition, _)| (Str::from(&**topic), *partition)).collect()));
            }
        }
        for (id, offsets) in forgotten {
            self.forget(&id, offsets, effects);
        }
    }

    fn forget(&mut self, group: &Str, offsets: Vec<(Str, PartitionIndex)>, effects: &mut Effects) {
        for (topic, partition) in offsets {
            self.write(Record::OffsetCommit { group: group.clone(), topic, partition, value: None }, effects);
        }
    }
}

fn expired_offsets(group: &Group, retention_ms: i64, now_ms: i64) -> Vec<(Str, PartitionIndex)> {
    let unused_since_ms = |committed: &CommittedOffset| match &group.kind {
        GroupKind::Classic(classic) => classic.offset_unused_since_ms(committed),
        GroupKind::Consumer(_) => Some(committed.commit_timestamp_ms),
    };
    let is_subscribed_to = |topic: &str| match &group.kind {
        GroupKind::Classic(classic) => classic.is_subscribed_to(topic),
        GroupKind::Consumer(consumers) => consumers.is_subscribed_to(topic),
    };
    let is_expired = |committed: &CommittedOffset| match unused_since_ms(committed) {
        None => false,
        Some(unused_since_ms) => match committed.expire_timestamp_ms {
            Some(expire_timestamp_ms) => now_ms >= expire_timestamp_ms,
            None => now_ms.saturating_sub(unused_since_ms) >= retention_ms,
        },
    };
    let expired =
        group.offsets.iter().filter(|(topic, _, committed)| !is_subscribed_to(topic) && is_expired(committed));
    expired.map(|(topic, partition, _)| (topic.clone(), partition)).collect()
}
