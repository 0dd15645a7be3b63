//! Who may commit and fetch the offsets of a consumer group.

use capek_wire::{ErrorCode, Str};

use super::TopicPartition;
use super::group::ConsumerGroup;
use crate::Refusal;

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub member_id: &'a str,
    pub member_epoch: i32,
    pub instance_id: Option<&'a str>,
    pub is_transactional: bool,
    /// OffsetCommit 9 and up carries member epochs.
    pub knows_member_epochs: bool,
}

impl ConsumerGroup {
    /// May this be committed? All of it or nothing.
    pub fn check_commit(
        &self,
        committer: Committer<'_>,
        partitions: impl Iterator<Item = Option<TopicPartition>>,
    ) -> Result<(), Refusal> {
        let Committer { member_id, member_epoch, instance_id, is_transactional, knows_member_epochs } = committer;
        // Tools, and consumers without a group, commit where no member is.
        if member_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        if is_transactional && member_epoch == -1 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or_else(|| self.unknown_member(member_id))?;
        if member.is_classic() {
            let is_current = member_epoch == member.epoch;
            return if is_current { Ok(()) } else { Err(Refusal::bare(ErrorCode::IllegalGeneration)) };
        }
        if !is_transactional && !knows_member_epochs {
            let message = "OffsetCommit version 9 or above must be used by members using the modern group protocol";
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
        }
        if member_epoch == member.epoch {
            return Ok(());
        }
        // An older epoch is good for what the member has had ever since.
        let had_it = |partition: &TopicPartition| {
            let assigned = member.assigned.get(partition).or_else(|| member.revoking.get(partition));
            assigned.is_some_and(|since| *since <= member_epoch)
        };
        let is_older = member_epoch < member.epoch && member_epoch >= 0;
        if is_older && { partitions }.all(|partition| partition.as_ref().is_some_and(had_it)) {
            return Ok(());
        }
        Err(Refusal::bare(ErrorCode::StaleMemberEpoch))
    }

    /// May the offsets be fetched by whoever names itself, or does not?
    pub fn check_fetch(&self, member_id: Option<&Str>, member_epoch: i32) -> Result<(), Refusal> {
        let Some(member_id) = member_id else {
            let message = || format!("Member null is not a member of group {}.", self.group_id);
            let refusal = || Refusal::new(ErrorCode::UnknownMemberId, message());
            return if member_epoch < 0 { Ok(()) } else { Err(refusal()) };
        };
        let member = self.members.get(member_id).ok_or_else(|| self.unknown_member(member_id))?;
        if member_epoch == member.epoch {
            return Ok(());
        }
        let is_classic = member.is_classic();
        let code = if is_classic { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch };
        Err(Refusal::bare(code))
    }

    /// Only a group without members may be deleted.
    pub fn check_delete(&self) -> Result<(), Refusal> {
        if self.members.is_empty() { Ok(()) } else { Err(Refusal::bare(ErrorCode::NonEmptyGroup)) }
    }
}
