//! The calls lane: what the doors of one broker ask of another, for a partition or a group that lives there.
//!
//! ```text
//!   CallRequest          its body                                   CallResponse   its body
//!     Kafka { ip }         a request of Kafka's, without its size     Kafka          the answer, without its size
//!     Append { .. }        one batch                                  Appended       -
//!     Read { .. }          -                                          Read           whole batches, of which the first may
//!                                                                                    begin before the offset
//!     Watch { .. }         -                                          Watched        -
//!     Http { .. }          of the client's request                    Http           of the answer
//!     KeyedAppend { .. }   one batch                                  Appended       -
//!     FindKeyed { .. }     -                                          FoundKeyed     -
//! ```
//!
//! Answers come in any order. A one-way frame with the id of a request says that nobody waits for its answer any more; so does
//! whoever hangs up. What was to be appended may be appended all the same.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error_code::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId};

/// From the broker whose client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallRequest {
    /// For whoever coordinates or leads what the request names; neither Produce nor Fetch.
    Kafka {
        /// Of the client.
        ip: IpAddr,
    },
    Append(AppendCall),
    Read(ReadCall),
    Watch(WatchCall),
    Http(HttpCall),
    KeyedAppend(KeyedAppendCall),
    FindKeyed(FindKeyedCall),
}

/// The answer to [`CallRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallResponse {
    Kafka,
    Appended(AppendAnswer),
    Read(Result<ReadAnswer, ErrorCode>),
    Watched(Result<PartitionState, ErrorCode>),
    /// Nothing was done, and nothing will be.
    Refused(String),
    Http(HttpAnswer),
    /// For each producer that was named, in their order; None where the partition knows none.
    FoundKeyed(Result<Vec<Option<KeyedBatch>>, ErrorCode>),
}

/// A client's whole request for something that lives on one broker only, such as a consumer instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// Of the client.
    pub ip: IpAddr,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Those that say what is meant; none about the connection.
    pub headers: Vec<(String, String)>,
}

/// What the client is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// Append the batch of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendCall {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// As in Produce: 0, 1 or -1.
    pub acks: i16,
    pub timeout_ms: u32,
}

/// Append the batch of the body, whose producer stands for a key (`capek_wire::keyed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedAppendCall {
    pub append: AppendCall,
    /// How many partitions the topic had when this one was chosen.
    pub partition_count: i32,
}

/// Which of these producers does the partition know? It answers when what it knows of them is committed, and from then on
/// refuses whoever still counts fewer partitions than this with INVALID_PARTITIONS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindKeyedCall {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub partition_count: i32,
    pub producer_ids: Vec<ProducerId>,
}

/// The newest batch of a producer that stands for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedBatch {
    pub epoch: i16,
    pub sequence: i32,
}

/// What became of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendAnswer {
    pub error: ErrorCode,
    pub message: Option<String>,
    pub base_offset: Offset,
    pub log_append_time_ms: i64,
    pub log_start: Offset,
    /// The places of the records that were at fault, and what is wrong with each.
    pub record_errors: Vec<(i32, String)>,
}

/// Read from `offset` on, below the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCall {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub offset: Offset,
    /// The first batch comes whatever its size.
    pub max_bytes: u32,
}

/// What stands before the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    pub state: PartitionState,
    /// Where to go on.
    pub next_offset: Offset,
}

/// Answered when the partition is in another state than the one that is known, or after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchCall {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub known: Option<PartitionState>,
    pub max_wait_ms: u32,
}

/// What readers know of a partition, as its leader says. Within an epoch nothing in here goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionState {
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub high_watermark: Offset,
}

impl PartitionState {
    /// Both together: an answer may be overtaken by a later one.
    #[must_use]
    pub fn merged(self, other: PartitionState) -> PartitionState {
        match self.leader_epoch.cmp(&other.leader_epoch) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => PartitionState {
                leader_epoch: self.leader_epoch,
                log_start: self.log_start.max(other.log_start),
                high_watermark: self.high_watermark.max(other.high_watermark),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::ids::Uuid;
    use crate::peer::{decode_head, encode_head};

    const TOPIC: TopicId = Uuid([7; 16]);

    fn state(leader_epoch: LeaderEpoch, log_start: Offset, high_watermark: Offset) -> PartitionState {
        PartitionState { leader_epoch, log_start, high_watermark }
    }

    /// A neighbouring release reads these: the numbers of variants and the order of fields do not change.
    #[test]
    fn the_bytes_of_requests_never_change() {
        let check = |request: CallRequest, rest: &[u8], number: u8| {
            let bytes = encode_head(&request);
            assert_eq!(bytes, [&[number], rest].concat(), "{request:?}");
            assert_eq!(decode_head::<CallRequest>(&bytes), Ok(request));
        };
        check(CallRequest::Kafka { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)) }, &[0, 10, 0, 0, 1], 0);
        // Zigzag and varints: 3 is 6, -1 is 1, 300 is 172 2.
        let topic = encode_head(&TOPIC);
        let append = AppendCall { topic_id: TOPIC, partition: 3, acks: -1, timeout_ms: 300 };
        check(CallRequest::Append(append), &[&topic[..], &[6, 1, 172, 2]].concat(), 1);
        let read = ReadCall { topic_id: TOPIC, partition: 3, offset: 5, max_bytes: 1 };
        check(CallRequest::Read(read), &[&topic[..], &[6, 10, 1]].concat(), 2);
        let watch = WatchCall { topic_id: TOPIC, partition: 3, known: Some(state(1, 2, 3)), max_wait_ms: 9 };
        check(CallRequest::Watch(watch), &[&topic[..], &[6, 1, 2, 4, 6, 9]].concat(), 3);
        let header = ("a".to_owned(), "b".to_owned());
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let http = HttpCall { ip, method: "GET".to_owned(), target: "/x".to_owned(), headers: vec![header] };
        check(CallRequest::Http(http), b"\0\x0a\0\0\x01\x03GET\x02/x\x01\x01a\x01b", 4);
        let keyed = KeyedAppendCall { append, partition_count: 7 };
        check(CallRequest::KeyedAppend(keyed), &[&topic[..], &[6, 1, 172, 2, 14]].concat(), 5);
        let producer_ids = vec![1, 2];
        let find = FindKeyedCall { topic_id: TOPIC, partition: 3, partition_count: 7, producer_ids };
        check(CallRequest::FindKeyed(find), &[&topic[..], &[6, 14, 2, 2, 4]].concat(), 6);
    }

    #[test]
    fn the_bytes_of_answers_never_change() {
        let check = |response: CallResponse, expected: &[u8]| {
            let bytes = encode_head(&response);
            assert_eq!(bytes, expected, "{response:?}");
            assert_eq!(decode_head::<CallResponse>(&bytes), Ok(response));
        };
        let none = encode_head(&ErrorCode::None);
        let moved = encode_head(&ErrorCode::NotLeaderOrFollower);
        check(CallResponse::Kafka, &[0]);
        let answer = AppendAnswer {
            error: ErrorCode::None,
            message: Some("m".to_owned()),
            base_offset: 4,
            log_append_time_ms: -1,
            log_start: 0,
            record_errors: vec![(2, "r".to_owned())],
        };
        check(CallResponse::Appended(answer), &[&[1], &none[..], &[1, 1, b'm', 8, 1, 0, 1, 4, 1, b'r']].concat());
        let read = ReadAnswer { state: state(1, 2, 3), next_offset: 3 };
        check(CallResponse::Read(Ok(read)), &[2, 0, 2, 4, 6, 6]);
        check(CallResponse::Watched(Err(ErrorCode::NotLeaderOrFollower)), &[&[3, 1], &moved[..]].concat());
        check(CallResponse::Refused("no".to_owned()), &[4, 2, b'n', b'o']);
        check(CallResponse::Http(HttpAnswer { status: 204, headers: Vec::new() }), &[5, 204, 1, 0]);
        let found = vec![None, Some(KeyedBatch { epoch: 1, sequence: 3 })];
        check(CallResponse::FoundKeyed(Ok(found)), &[6, 0, 2, 0, 1, 2, 6]);
    }

    #[test]
    fn a_state_does_not_go_back_within_an_epoch() {
        let check = |one: PartitionState, other: PartitionState, both: PartitionState| {
            assert_eq!(one.merged(other), both);
            assert_eq!(other.merged(one), both);
        };
        check(state(1, 0, 10), state(1, 5, 7), state(1, 5, 10));
        check(state(1, 0, 10), state(2, 0, 8), state(2, 0, 8));
    }
}
