//! ApiVersions (key 18, versions 0–4): what this broker serves. A key is in here only when it is right.

use bytes::Bytes;
use capek_wire::api::ApiKey;
use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, RequestHeader};
use capek_wire::messages::api_versions::ApiVersion;
use capek_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Dispatch, RequestContext, Response};

/// The APIs of this broker, each at every version of Kafka 4.3.
pub const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeAcls,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::DescribeCluster,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::DescribeTopicPartitions,
];

/// Versions from here name the client's software.
const SOFTWARE_VERSION_MIN: i16 = 3;

pub fn answer(_: &RequestContext, request: ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if version >= SOFTWARE_VERSION_MIN && !names.into_iter().all(is_software_name) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    ApiVersionsResponse { api_keys: SERVED.iter().map(|&key| api_version(key)).collect(), ..Default::default() }
}

fn api_version(key: ApiKey) -> ApiVersion {
    let (lowest, highest) = key.versions();
    // Old librdkafka looks for Produce 0 before it uses compression, and never sends it (KAFKA-18659).
    let min_version = if key == ApiKey::Produce { 0 } else { lowest };
    ApiVersion { api_key: key.code(), min_version, max_version: highest, ..Default::default() }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` (KIP-511)
fn is_software_name(name: &Str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(is_inner)
}

/// A version from the future is answered in version 0, with the range that we have (KIP-511).
pub fn unsupported_version(frame: Bytes) -> Dispatch {
    let header = match RequestHeader::decode(&mut Reader::new(frame)) {
        Ok(header) => header,
        Err(error) => return Dispatch::Close(format!("ApiVersions: bad header: {error}")),
    };
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![api_version(ApiKey::ApiVersions)],
        ..Default::default()
    };
    match frame::encode_response(header.api_key, 0, header.correlation_id, &response) {
        Ok(chunks) => Dispatch::Ready(Response { chunks, permit: None }),
        Err(error) => Dispatch::Close(format!("an ApiVersions answer cannot be encoded: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_checked_as_kafka_does() {
        for (name, is_good) in
            [("librdkafka", true), ("2.0.2-a", true), ("", false), ("-a", false), ("a b", false), ("a.", false)]
        {
            assert_eq!(is_software_name(&Str::from(name)), is_good, "{name:?}");
        }
    }

    #[test]
    fn produce_is_advertised_from_zero() {
        let produce = api_version(ApiKey::Produce);
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
