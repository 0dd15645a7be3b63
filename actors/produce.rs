//! One produce request on its way: a slot for each of its partitions, filled as rounds complete, and a waker for whoever
//! answers the client.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use capek_state::partition::RecordError;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;

use crate::budget::BudgetPermit;

/// How many copies must hold a batch before it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    /// The wire's 0, 1 and -1; anything else is INVALID_REQUIRED_ACKS.
    pub fn from_wire(acks: i16) -> Option<Self> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }

    pub fn to_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How a batch is to be appended.
#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    pub acks: Acks,
    pub timeout: Duration,
    /// Of a producer that stands for a key (`capek_wire::keyed`): how many partitions the topic had when this one was chosen. When
    /// there are more by now the batch is refused with INVALID_PARTITIONS: its key may be known elsewhere.
    pub partition_count: Option<i32>,
}

/// What became of one partition's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAnswer {
    pub error: ErrorCode,
    pub message: Option<String>,
    pub base_offset: Offset,
    /// -1 under CreateTime.
    pub log_append_time_ms: i64,
    pub log_start_offset: Offset,
    /// Which records of a refused batch were at fault; empty when it was the batch.
    pub record_errors: Vec<RecordError>,
}

impl PartitionAnswer {
    pub fn refused(error: ErrorCode, message: Option<String>) -> Self {
        Self {
            error,
            message,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
        }
    }

    pub fn error(error: ErrorCode) -> Self {
        Self::refused(error, None)
    }
}

/// A request whose partitions are still being written.
pub struct PendingProduce {
    answers: Mutex<Vec<Option<PartitionAnswer>>>,
    missing: AtomicUsize,
    complete: Arc<AtomicWaker>,
    /// The frame's bytes stay paid for until every partition has answered.
    permit: Mutex<Option<BudgetPermit>>,
}

impl PendingProduce {
    /// A request over `count` partitions; `complete` is woken when the last has answered.
    pub fn new(count: usize, complete: Arc<AtomicWaker>, permit: Option<BudgetPermit>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(vec![None; count]),
            missing: AtomicUsize::new(count),
            complete,
            permit: Mutex::new(permit),
        })
    }

    pub fn is_complete(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }

    /// The answers; a partition that has none yet has timed out.
    pub fn take_answers(&self) -> Vec<PartitionAnswer> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let timed_out = || PartitionAnswer::error(ErrorCode::RequestTimedOut);
        answers.iter_mut().map(|answer| answer.take().unwrap_or_else(timed_out)).collect()
    }

    fn answer(&self, slot: usize, answer: PartitionAnswer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Some(answer);
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.complete.wake();
        }
    }
}

/// The place for one partition's answer. Dropping it unanswered answers too: NOT_LEADER_OR_FOLLOWER (certainly not stored)
/// before the batch was handed to the journal, REQUEST_TIMED_OUT (perhaps stored) after.
pub struct AppendReply {
    call: Option<Arc<PendingProduce>>,
    slot: usize,
    is_in_journal: bool,
}

impl AppendReply {
    pub fn new(call: Arc<PendingProduce>, slot: usize) -> Self {
        Self { call: Some(call), slot, is_in_journal: false }
    }

    pub fn handed_to_journal(&mut self) {
        self.is_in_journal = true;
    }

    pub fn answer(mut self, answer: PartitionAnswer) {
        if let Some(call) = self.call.take() {
            call.answer(self.slot, answer);
        }
    }
}

impl Drop for AppendReply {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let error = if self.is_in_journal { ErrorCode::RequestTimedOut } else { ErrorCode::NotLeaderOrFollower };
            call.answer(self.slot, PartitionAnswer::error(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(count: usize) -> Arc<PendingProduce> {
        PendingProduce::new(count, Arc::new(AtomicWaker::new()), None)
    }

    #[test]
    fn a_reply_dropped_before_the_journal_was_certainly_not_stored() {
        let call = pending(1);
        drop(AppendReply::new(call.clone(), 0));
        assert_eq!(call.take_answers()[0].error, ErrorCode::NotLeaderOrFollower);
    }

    #[test]
    fn a_reply_dropped_after_the_journal_may_be_stored() {
        let call = pending(1);
        let mut reply = AppendReply::new(call.clone(), 0);
        reply.handed_to_journal();
        drop(reply);
        assert!(call.is_complete());
        assert_eq!(call.take_answers()[0].error, ErrorCode::RequestTimedOut);
    }

    #[test]
    fn a_request_is_complete_when_its_last_partition_has_answered() {
        let call = pending(2);
        AppendReply::new(call.clone(), 1).answer(PartitionAnswer::error(ErrorCode::None));
        assert!(!call.is_complete());
        AppendReply::new(call.clone(), 0).answer(PartitionAnswer::error(ErrorCode::CorruptMessage));
        assert!(call.is_complete());
        let errors: Vec<_> = call.take_answers().into_iter().map(|answer| answer.error).collect();
        assert_eq!(errors, [ErrorCode::CorruptMessage, ErrorCode::None]);
    }
}
