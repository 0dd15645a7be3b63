//! Committed offsets: how they are kept, committed, fetched and deleted.

use std::collections::BTreeMap;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};

use super::classic::ClassicState;
use super::consumer::{Committer, Topics};
use super::{CommittedOffset, Coordinator, Effects, GroupKind, Record};

/// What a group has committed. It holds nothing of the frames that brought it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offsets {
    topics: BTreeMap<Str, BTreeMap<PartitionIndex, CommittedOffset>>,
}

impl Offsets {
    pub fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// By topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, PartitionIndex, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        })
    }

    pub(super) fn set(&mut self, topic: &Str, partition: PartitionIndex, committed: &CommittedOffset) {
        let partitions = match self.topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => self.topics.entry(topic.detached()).or_default(),
        };
        let metadata = match committed.metadata.is_empty() {
            true => Str::default(),
            false => committed.metadata.detached(),
        };
        partitions.insert(partition, CommittedOffset { metadata, ..committed.clone() });
    }

    pub(super) fn remove(&mut self, topic: &str, partition: PartitionIndex) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// The partitions of a topic, as far as something is committed.
    pub(super) fn topic(&self, topic: &str) -> Option<&BTreeMap<PartitionIndex, CommittedOffset>> {
        self.topics.get(topic)
    }
}

/// A member, a tool, or a consumer without a group commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CommitRequest {
    pub group: Str,
    /// Empty: not a member.
    pub member_id: Str,
    pub instance_id: Option<Str>,
    /// Below zero: not a member.
    pub generation: i32,
    /// How long the offsets shall be kept at least, where the client may say so (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// Version 9 and up: clients that know that a group can be missing.
    pub knows_missing_groups: bool,
    pub offsets: Vec<OffsetToCommit>,
}

/// Of one partition, which exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OffsetToCommit {
    pub topic: Str,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: Str,
}

/// What has a group committed?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchRequest {
    pub group: Str,
    /// None: not a member.
    pub member_id: Option<Str>,
    /// Below zero: not a member.
    pub member_epoch: i32,
    /// None: all of it.
    pub topics: Option<Vec<FetchTopic>>,
}

impl Default for FetchRequest {
    /// Of whoever does not say who it is.
    fn default() -> FetchRequest {
        FetchRequest { group: Str::default(), member_id: None, member_epoch: -1, topics: None }
    }
}

/// Partitions of one topic; the id is zero where the client does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchTopic {
    pub topic: Str,
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionIndex>,
}

/// What is committed there; None: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchedTopic {
    pub topic: Str,
    pub partitions: Vec<(PartitionIndex, Option<CommittedOffset>)>,
}

/// Forget what was committed to these partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeleteOffsetsRequest {
    pub group: Str,
    pub offsets: Vec<(Str, PartitionIndex)>,
}

impl Coordinator {
    /// For each offset its own error, in the order of the request; or one for all.
    pub fn commit_offsets(
        &mut self,
        now_ms: i64,
        request: CommitRequest,
        effects: &mut Effects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        self.check_commit(now_ms, &request)?;
        let expire_timestamp_ms = request.retention_ms.map(|retention_ms| now_ms.saturating_add(retention_ms));
        let length_max = self.config.offset_metadata_length_max;
        let mut errors = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            // A text has at least as many bytes as UTF-16 units.
            let is_short = offset.metadata.len() <= length_max
                || offset.metadata.encode_utf16().take(length_max + 1).count() <= length_max;
            if !is_short {
                errors.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            let value = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata,
                commit_timestamp_ms: now_ms,
                expire_timestamp_ms,
                topic_id: offset.topic_id,
            };
            let (group, partition) = (request.group.clone(), offset.partition);
            self.write(Record::OffsetCommit { group, topic: offset.topic, partition, value: Some(value) }, effects);
            errors.push(ErrorCode::None);
        }
        Ok(errors)
    }

    fn check_commit(&mut self, now_ms: i64, request: &CommitRequest) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get_mut(&request.group) else {
            // A consumer without a group may commit to one that is not there, and makes it.
            return match (request.generation < 0, request.knows_missing_groups) {
                (true, _) => Ok(()),
                (false, true) => Err(ErrorCode::GroupIdNotFound),
                (false, false) => Err(ErrorCode::IllegalGeneration),
            };
        };
        match &mut group.kind {
            GroupKind::Classic(group) => {
                group.check_commit(&request.member_id, request.instance_id.as_ref(), request.generation)?;
                if matches!(group.state(), ClassicState::Stable | ClassicState::PreparingRebalance) {
                    group.commit_received(&request.member_id, now_ms);
                }
            }
            GroupKind::Consumer(group) => {
                let committer = Committer {
                    member_id: &request.member_id,
                    member_epoch: request.generation,
                    instance_id: request.instance_id.as_deref(),
                    is_transactional: false,
                    knows_member_epochs: request.knows_missing_groups,
                };
                let topic_id = |name: &Str| Some(self.topics.topic(name)?.id);
                let partitions =
                    request.offsets.iter().map(|offset| Some((topic_id(&offset.topic)?, offset.partition)));
                group.check_commit(committer, partitions).map_err(|refusal| refusal.code)?;
            }
        }
        Ok(())
    }

    /// In the order of the request; all of it by topic and partition. Members of the consumer protocol must know their epoch.
    pub fn fetch_offsets(&self, request: FetchRequest) -> Result<Vec<FetchedTopic>, ErrorCode> {
        let group = self.groups.get(&request.group);
        if let Some(GroupKind::Consumer(group)) = group.map(|group| &group.kind) {
            let refused = group.check_fetch(request.member_id.as_ref(), request.member_epoch);
            refused.map_err(|refusal| refusal.code)?;
        }
        let offsets = group.map(|group| &group.offsets);
        let Some(topics) = request.topics else {
            return Ok(offsets.map(fetch_all).unwrap_or_default());
        };
        let fetch_topic = |asked: FetchTopic| {
            let of_topic = offsets.and_then(|offsets| offsets.topic(&asked.topic));
            // What was committed to an earlier topic of this name says nothing about this one.
            let is_same = |found: &&CommittedOffset| {
                asked.topic_id.is_zero() || found.topic_id.is_zero() || found.topic_id == asked.topic_id
            };
            let fetch = |partition: PartitionIndex| {
                let found = of_topic.and_then(|partitions| partitions.get(&partition)).filter(is_same);
                (partition, found.cloned())
            };
            FetchedTopic { partitions: asked.partitions.iter().copied().map(fetch).collect(), topic: asked.topic }
        };
        Ok(topics.into_iter().map(fetch_topic).collect())
    }

    /// For each offset its own error, in the order of the request; or one for all.
    pub fn delete_offsets(
        &mut self,
        request: DeleteOffsetsRequest,
        effects: &mut Effects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get(&request.group).ok_or(ErrorCode::GroupIdNotFound)?;
        match &group.kind {
            GroupKind::Classic(group) => group.check_offset_delete()?,
            GroupKind::Consumer(_) => {}
        }
        let mut errors = Vec::with_capacity(request.offsets.len());
        let mut deleted = Vec::new();
        for (topic, partition) in request.offsets {
            let is_subscribed = match &group.kind {
                GroupKind::Classic(group) => group.is_subscribed_to(&topic),
                GroupKind::Consumer(group) => group.is_subscribed_to(&topic),
            };
            if is_subscribed {
                errors.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            errors.push(ErrorCode::None);
            if group.offsets.get(&topic, partition).is_some() {
                deleted.push((topic, partition));
            }
        }
        for (topic, partition) in deleted {
            let group = request.group.clone();
            self.write(Record::OffsetCommit { group, topic, partition, value: None }, effects);
        }
        Ok(errors)
    }
}

fn fetch_all(offsets: &Offsets) -> Vec<FetchedTopic> {
    let all = |partitions: &BTreeMap<PartitionIndex, CommittedOffset>| {
        partitions.iter().map(|(partition, committed)| (*partition, Some(committed.clone()))).collect()
    };
    let topics = offsets.topics.iter();
    topics.map(|(topic, partitions)| FetchedTopic { topic: topic.clone(), partitions: all(partitions) }).collect()
}
