//! What the doors of this broker want of partitions and groups that another broker serves: asked there, over the calls lane.
//!
//! A request that was certainly not heard may be asked again, wherever its place is by then. One whose connection broke has an
//! outcome that nobody knows, and is answered so: it is never sent twice.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_state::partition::RecordError;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, Offset, PartitionIndex, TopicId};
use capek_wire::peer::calls::{
    AppendAnswer, AppendCall, CallRequest, CallResponse, FindKeyedCall, HttpAnswer, HttpCall, KeyedAppendCall,
    KeyedBatch, ReadCall,
};
use tokio::time::Instant;

use crate::budget::BudgetPermit;
use crate::call_lane::{Call, CallError};
use crate::local::{LocalClient, ReadBatches};
use crate::produce::{AppendOptions, PartitionAnswer};
use crate::remote_partition::RemotePartition;

/// A read of what is there already; whoever reads asks again.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How often somebody looks whether the broker that is asked is still taken for alive.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The leader's own time-out comes first, unless it is lost.
const ANSWER_TAKES: Duration = Duration::from_millis(500);

impl LocalClient {
    /// Who leads it, as this broker has heard.
    pub(crate) fn leader_by_id(&self, topic_id: TopicId, partition: PartitionIndex) -> Result<BrokerId, ErrorCode> {
        let image = self.broker.image.load();
        let topic = image.topic(topic_id).ok_or(ErrorCode::UnknownTopicId)?;
        let partition = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if partition.leader < 0 { Err(ErrorCode::LeaderNotAvailable) } else { Ok(partition.leader) }
    }

    /// Asks that broker; whoever is no member of the cluster, or is taken for dead, is not reached.
    pub(crate) async fn call(&self, to: BrokerId, call: Call<'_>) -> Result<(CallResponse, Bytes), CallError> {
        match &self.broker.calls {
            Some(calls) if self.is_alive(to) => {
                let lane = calls.lane(to);
                tokio::select! {
                    answered = lane.ask(call) => answered,
                    // Others have its partitions and groups now, and its connection need not break for a long time.
                    () = self.died(to) => Err(CallError::Broken(to)),
                }
            }
            _ => Err(CallError::NotSent(to)),
        }
    }

    fn is_alive(&self, broker: BrokerId) -> bool {
        self.broker.image.load().broker(broker).is_some_and(|broker| !broker.fenced)
    }

    async fn died(&self, broker: BrokerId) {
        while self.is_alive(broker) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Has that broker answer a client's request, as if the client had come there.
    pub async fn carry_http(
        &self,
        to: BrokerId,
        call: HttpCall,
        body: Bytes,
        within: Duration,
    ) -> Result<(HttpAnswer, Bytes), CallError> {
        let request = CallRequest::Http(call);
        match self.call(to, Call { request: &request, body, paid: None, within }).await? {
            (CallResponse::Http(answer), body) => Ok((answer, body)),
            _ => Err(CallError::Malformed(to)),
        }
    }

    pub(crate) async fn append_there(
        &self,
        leader: BrokerId,
        (topic_id, partition): (TopicId, PartitionIndex),
        batch: BytesMut,
        options: AppendOptions,
        paid: BudgetPermit,
    ) -> PartitionAnswer {
        let AppendOptions { acks, timeout, partition_count } = options;
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let append = AppendCall { topic_id, partition, acks: acks.to_wire(), timeout_ms };
        let request = match partition_count {
            Some(partition_count) => CallRequest::KeyedAppend(KeyedAppendCall { append, partition_count }),
            None => CallRequest::Append(append),
        };
        let within = timeout + ANSWER_TAKES;
        match self.call(leader, Call { request: &request, body: batch.freeze(), paid: Some(paid), within }).await {
            Ok((CallResponse::Appended(answer), _)) => answered(answer),
            outcome => not_answered(leader, outcome.map(drop)),
        }
    }

    pub(crate) async fn find_keyed_there(
        &self,
        leader: BrokerId,
        call: &FindKeyedCall,
        deadline: Instant,
    ) -> Result<Vec<Option<KeyedBatch>>, ErrorCode> {
        let request = CallRequest::FindKeyed(call.clone());
        // Whoever asks longer asks again: the leader may be another by then.
        let within = deadline.saturating_duration_since(Instant::now()).min(READ_WITHIN);
        match self.call(leader, Call { request: &request, body: Bytes::new(), paid: None, within }).await {
            Ok((CallResponse::FoundKeyed(Ok(found)), _)) if found.len() == call.producer_ids.len() => Ok(found),
            Ok((CallResponse::FoundKeyed(Err(code)), _)) => Err(code),
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    pub(crate) async fn read_there(
        &self,
        remote: &RemotePartition,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<ReadBatches>, ErrorCode> {
        if remote.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let Ok(leader) = self.leader_by_id(remote.topic_id, remote.partition) else { return Ok(None) };
        if leader == self.broker.config.node_id {
            let shared = crate::remote_partition::led_here(&self.broker, remote.topic_id, remote.partition);
            return match shared {
                Ok(shared) => self.read_here(&shared, offset, max_bytes, &self.broker.fetch_budget).await,
                Err(_) => Ok(None),
            };
        }
        let permit = self.broker.fetch_budget.acquire(max_bytes).await;
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let (topic_id, partition) = (remote.topic_id, remote.partition);
        let request = CallRequest::Read(ReadCall { topic_id, partition, offset, max_bytes });
        let call = Call { request: &request, body: Bytes::new(), paid: None, within: READ_WITHIN };
        let read = match self.call(leader, call).await {
            Ok((CallResponse::Read(read), bytes)) => read.map(|answer| (answer, bytes)),
            // Whoever reads looks again.
            _ => return Ok(None),
        };
        match read {
            Ok((answer, bytes)) => {
                remote.learned(answer.state);
                let (next_offset, high_watermark) = (answer.next_offset, answer.state.high_watermark);
                Ok((!bytes.is_empty()).then_some(ReadBatches { bytes, next_offset, high_watermark, permit }))
            }
            Err(ErrorCode::OffsetOutOfRange) => {
                // Whoever reads compares with the ends that the leader has now.
                let _ = crate::remote_partition::refresh(self, remote, Duration::ZERO).await;
                Err(ErrorCode::OffsetOutOfRange)
            }
            Err(ErrorCode::KafkaStorageError) => Err(ErrorCode::KafkaStorageError),
            Err(_) => Ok(None),
        }
    }
}

fn answered(answer: AppendAnswer) -> PartitionAnswer {
    let record_error = |(batch_index, message)| RecordError { batch_index, message };
    PartitionAnswer {
        // It may not have heard of the topic yet, and then it has certainly stored nothing.
        error: match answer.error {
            ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition => ErrorCode::NotLeaderOrFollower,
            error => error,
        },
        message: answer.message,
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
        log_start_offset: answer.log_start,
        record_errors: answer.record_errors.into_iter().map(record_error).collect(),
    }
}

fn not_answered(leader: BrokerId, outcome: Result<(), CallError>) -> PartitionAnswer {
    let error = outcome.err().unwrap_or(CallError::Malformed(leader));
    let code = match &error {
        CallError::NotSent(_) => ErrorCode::NotLeaderOrFollower,
        CallError::Refused(_) => ErrorCode::UnknownServerError,
        CallError::Broken(_) | CallError::Deadline(_) | CallError::Malformed(_) => ErrorCode::RequestTimedOut,
    };
    PartitionAnswer::refused(code, Some(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_stored_says_so() {
        let check = |error: CallError, code| {
            let answer = not_answered(2, Err(error.clone()));
            assert_eq!((answer.error, answer.message), (code, Some(error.to_string())));
        };
        check(CallError::NotSent(2), ErrorCode::NotLeaderOrFollower);
        for error in [CallError::Broken(2), CallError::Deadline(2), CallError::Malformed(2)] {
            check(error, ErrorCode::RequestTimedOut);
        }
        check(CallError::Refused("no".to_owned()), ErrorCode::UnknownServerError);
        assert_eq!(not_answered(2, Ok(())).error, ErrorCode::RequestTimedOut, "an answer to something else");
    }

    #[test]
    fn what_the_leader_said_arrives_as_it_was() {
        let said = AppendAnswer {
            error: ErrorCode::InvalidRecord,
            message: Some("m".to_owned()),
            base_offset: -1,
            log_append_time_ms: 7,
            log_start: 3,
            record_errors: vec![(1, "r".to_owned())],
        };
        let expected = PartitionAnswer {
            error: ErrorCode::InvalidRecord,
            message: Some("m".to_owned()),
            base_offset: -1,
            log_append_time_ms: 7,
            log_start_offset: 3,
            record_errors: vec![RecordError { batch_index: 1, message: "r".to_owned() }],
        };
        assert_eq!(answered(said.clone()), expected);
        let unheard = AppendAnswer { error: ErrorCode::UnknownTopicId, ..said };
        assert_eq!(answered(unheard).error, ErrorCode::NotLeaderOrFollower, "its metadata lag");
    }
}
