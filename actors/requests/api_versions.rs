//! ApiVersions (key 18, versions 0–4): what this broker serves. A key is in here only when it is right.

use bytes::Bytes;
use capek_state::cluster::SupportedFeature;
use capek_wire::api::ApiKey;
use capek_wire::codec::{Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, RequestHeader};
use capek_wire::messages::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use capek_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Dispatch, RequestContext, Response, alter_replica_log_dirs};
use crate::broker::BrokerShared;
use crate::features;

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
    ApiKey::SaslHandshake,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

/// Some APIs are right only under some configurations.
pub fn is_served(broker: &BrokerShared, key: ApiKey) -> bool {
    match key {
        ApiKey::AlterReplicaLogDirs => alter_replica_log_dirs::is_served(&broker.config),
        _ => SERVED.contains(&key),
    }
}

/// Versions from here name the client's software.
const SOFTWARE_VERSION_MIN: i16 = 3;

/// Versions from here tell features whose lowest level is 0: clients before them took that as malformed (KAFKA-17011).
const LEVEL_ZERO_VERSION_MIN: i16 = 4;

pub fn answer(context: &RequestContext, request: ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if version >= SOFTWARE_VERSION_MIN && !names.into_iter().all(is_software_name) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let broker = &context.broker;
    let served = SERVED.iter().copied().filter(|key| is_served(broker, *key));
    let image = broker.image.load();
    ApiVersionsResponse {
        api_keys: served.map(api_version).collect(),
        supported_features: supported_features(version),
        finalized_features_epoch: i64::try_from(image.records_applied()).unwrap_or(i64::MAX),
        finalized_features: image.features().map(finalized).collect(),
        ..Default::default()
    }
}

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let is_told = |feature: &SupportedFeature| feature.lowest > 0 || version >= LEVEL_ZERO_VERSION_MIN;
    let told = features::supported().into_iter().filter(is_told);
    let key = |feature: SupportedFeature| SupportedFeatureKey {
        name: Str::from(&*feature.name),
        min_version: feature.lowest,
        max_version: feature.highest,
    };
    told.map(key).collect()
}

fn finalized((name, level): (&str, i16)) -> FinalizedFeatureKey {
    FinalizedFeatureKey { name: Str::from(name), max_version_level: level, min_version_level: level }
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
    fn every_key_is_listed_once_in_rising_order() {
        assert!(SERVED.is_sorted_by(|first, second| first.code() < second.code()));
    }

    #[test]
    fn produce_is_advertised_from_zero() {
        let produce = api_version(ApiKey::Produce);
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
