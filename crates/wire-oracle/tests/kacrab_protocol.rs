//! Random messages of every API and version that `kacrab-protocol` has: what we write, it reads and writes alike.

mod common;

use bytes::{Bytes, BytesMut};
use capek_wire::messages::{ApiVisitor, ConsumerProtocolAssignment, ConsumerProtocolSubscription, visit_apis};
use capek_wire::testing::Sampler;
use capek_wire::{ApiKey, Message, Request};
use common::{Direction, Tally, for_every_sample, there_and_back};
use kacrab_protocol::generated as oracle;

struct Oracle(Tally);

impl ApiVisitor for Oracle {
    fn visit<R: Request>(&mut self) {
        let (low, high) = R::KEY.versions();
        for version in low..=high {
            for_every_sample::<R>(version, &mut self.0, |direction, bytes| echo(R::KEY, direction, bytes, version));
        }
    }
}

/// The oracle's types have no trait in common: this makes a function that picks them by key.
macro_rules! echo_by_key {
    ($($key:ident: $request:ident, $response:ident;)*) => {
        /// What the oracle writes after reading `bytes`.
        fn echo(key: ApiKey, direction: Direction, mut bytes: Bytes, version: i16) -> Result<BytesMut, String> {
            let mut out = BytesMut::new();
            let written = match (key, direction) {
                $(
                    (ApiKey::$key, Direction::Request) => {
                        oracle::$request::read(&mut bytes, version).and_then(|message| message.write(&mut out, version))
                    }
                    (ApiKey::$key, Direction::Response) => {
                        oracle::$response::read(&mut bytes, version).and_then(|message| message.write(&mut out, version))
                    }
                )*
            };
            written.map_err(|error| error.to_string())?;
            if bytes.is_empty() { Ok(out) } else { Err(format!("{} bytes left over", bytes.len())) }
        }
    };
}

echo_by_key! {
    Produce: ProduceRequestData, ProduceResponseData;
    Fetch: FetchRequestData, FetchResponseData;
    ListOffsets: ListOffsetsRequestData, ListOffsetsResponseData;
    Metadata: MetadataRequestData, MetadataResponseData;
    OffsetCommit: OffsetCommitRequestData, OffsetCommitResponseData;
    OffsetFetch: OffsetFetchRequestData, OffsetFetchResponseData;
    FindCoordinator: FindCoordinatorRequestData, FindCoordinatorResponseData;
    JoinGroup: JoinGroupRequestData, JoinGroupResponseData;
    Heartbeat: HeartbeatRequestData, HeartbeatResponseData;
    LeaveGroup: LeaveGroupRequestData, LeaveGroupResponseData;
    SyncGroup: SyncGroupRequestData, SyncGroupResponseData;
    DescribeGroups: DescribeGroupsRequestData, DescribeGroupsResponseData;
    ListGroups: ListGroupsRequestData, ListGroupsResponseData;
    SaslHandshake: SaslHandshakeRequestData, SaslHandshakeResponseData;
    ApiVersions: ApiVersionsRequestData, ApiVersionsResponseData;
    CreateTopics: CreateTopicsRequestData, CreateTopicsResponseData;
    DeleteTopics: DeleteTopicsRequestData, DeleteTopicsResponseData;
    DeleteRecords: DeleteRecordsRequestData, DeleteRecordsResponseData;
    InitProducerId: InitProducerIdRequestData, InitProducerIdResponseData;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData;
    AddPartitionsToTxn: AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData;
    AddOffsetsToTxn: AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData;
    EndTxn: EndTxnRequestData, EndTxnResponseData;
    WriteTxnMarkers: WriteTxnMarkersRequestData, WriteTxnMarkersResponseData;
    TxnOffsetCommit: TxnOffsetCommitRequestData, TxnOffsetCommitResponseData;
    DescribeAcls: DescribeAclsRequestData, DescribeAclsResponseData;
    CreateAcls: CreateAclsRequestData, CreateAclsResponseData;
    DeleteAcls: DeleteAclsRequestData, DeleteAclsResponseData;
    DescribeConfigs: DescribeConfigsRequestData, DescribeConfigsResponseData;
    AlterConfigs: AlterConfigsRequestData, AlterConfigsResponseData;
    AlterReplicaLogDirs: AlterReplicaLogDirsRequestData, AlterReplicaLogDirsResponseData;
    DescribeLogDirs: DescribeLogDirsRequestData, DescribeLogDirsResponseData;
    SaslAuthenticate: SaslAuthenticateRequestData, SaslAuthenticateResponseData;
    CreatePartitions: CreatePartitionsRequestData, CreatePartitionsResponseData;
    CreateDelegationToken: CreateDelegationTokenRequestData, CreateDelegationTokenResponseData;
    RenewDelegationToken: RenewDelegationTokenRequestData, RenewDelegationTokenResponseData;
    ExpireDelegationToken: ExpireDelegationTokenRequestData, ExpireDelegationTokenResponseData;
    DescribeDelegationToken: DescribeDelegationTokenRequestData, DescribeDelegationTokenResponseData;
    DeleteGroups: DeleteGroupsRequestData, DeleteGroupsResponseData;
    ElectLeaders: ElectLeadersRequestData, ElectLeadersResponseData;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData;
    AlterPartitionReassignments: AlterPartitionReassignmentsRequestData, AlterPartitionReassignmentsResponseData;
    ListPartitionReassignments: ListPartitionReassignmentsRequestData, ListPartitionReassignmentsResponseData;
    OffsetDelete: OffsetDeleteRequestData, OffsetDeleteResponseData;
    DescribeClientQuotas: DescribeClientQuotasRequestData, DescribeClientQuotasResponseData;
    AlterClientQuotas: AlterClientQuotasRequestData, AlterClientQuotasResponseData;
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequestData, DescribeUserScramCredentialsResponseData;
    AlterUserScramCredentials: AlterUserScramCredentialsRequestData, AlterUserScramCredentialsResponseData;
    DescribeQuorum: DescribeQuorumRequestData, DescribeQuorumResponseData;
    UpdateFeatures: UpdateFeaturesRequestData, UpdateFeaturesResponseData;
    DescribeCluster: DescribeClusterRequestData, DescribeClusterResponseData;
    DescribeProducers: DescribeProducersRequestData, DescribeProducersResponseData;
    UnregisterBroker: UnregisterBrokerRequestData, UnregisterBrokerResponseData;
    DescribeTransactions: DescribeTransactionsRequestData, DescribeTransactionsResponseData;
    ListTransactions: ListTransactionsRequestData, ListTransactionsResponseData;
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData;
    ConsumerGroupDescribe: ConsumerGroupDescribeRequestData, ConsumerGroupDescribeResponseData;
    GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequestData, GetTelemetrySubscriptionsResponseData;
    PushTelemetry: PushTelemetryRequestData, PushTelemetryResponseData;
    ListConfigResources: ListConfigResourcesRequestData, ListConfigResourcesResponseData;
    DescribeTopicPartitions: DescribeTopicPartitionsRequestData, DescribeTopicPartitionsResponseData;
    ShareGroupHeartbeat: ShareGroupHeartbeatRequestData, ShareGroupHeartbeatResponseData;
    ShareGroupDescribe: ShareGroupDescribeRequestData, ShareGroupDescribeResponseData;
    ShareFetch: ShareFetchRequestData, ShareFetchResponseData;
    ShareAcknowledge: ShareAcknowledgeRequestData, ShareAcknowledgeResponseData;
    AddRaftVoter: AddRaftVoterRequestData, AddRaftVoterResponseData;
    RemoveRaftVoter: RemoveRaftVoterRequestData, RemoveRaftVoterResponseData;
    InitializeShareGroupState: InitializeShareGroupStateRequestData, InitializeShareGroupStateResponseData;
    ReadShareGroupState: ReadShareGroupStateRequestData, ReadShareGroupStateResponseData;
    WriteShareGroupState: WriteShareGroupStateRequestData, WriteShareGroupStateResponseData;
    DeleteShareGroupState: DeleteShareGroupStateRequestData, DeleteShareGroupStateResponseData;
    ReadShareGroupStateSummary: ReadShareGroupStateSummaryRequestData, ReadShareGroupStateSummaryResponseData;
    StreamsGroupHeartbeat: StreamsGroupHeartbeatRequestData, StreamsGroupHeartbeatResponseData;
    StreamsGroupDescribe: StreamsGroupDescribeRequestData, StreamsGroupDescribeResponseData;
    DescribeShareGroupOffsets: DescribeShareGroupOffsetsRequestData, DescribeShareGroupOffsetsResponseData;
    AlterShareGroupOffsets: AlterShareGroupOffsetsRequestData, AlterShareGroupOffsetsResponseData;
    DeleteShareGroupOffsets: DeleteShareGroupOffsetsRequestData, DeleteShareGroupOffsetsResponseData;
}

#[test]
fn kacrab_protocol_reads_and_writes_what_we_write() {
    let mut oracle = Oracle(Tally::default());
    visit_apis(&mut oracle);
    oracle.0.finish(ApiKey::all().len());
}

#[test]
fn what_consumers_say_to_each_other_is_alike() {
    for version in 0..=3 {
        for seed in 0..200 {
            let mut s = Sampler::new(seed);
            let bytes = there_and_back(&ConsumerProtocolSubscription::sample(&mut s, version), version);
            let mut out = BytesMut::new();
            let read = oracle::ConsumerProtocolSubscriptionData::read(&mut bytes.clone(), version);
            read.and_then(|message| message.write(&mut out, version)).expect("the oracle reads a subscription");
            assert_eq!(out, bytes, "subscription v{version} seed {seed}");

            let bytes = there_and_back(&ConsumerProtocolAssignment::sample(&mut s, version), version);
            let mut out = BytesMut::new();
            let read = oracle::ConsumerProtocolAssignmentData::read(&mut bytes.clone(), version);
            read.and_then(|message| message.write(&mut out, version)).expect("the oracle reads an assignment");
            assert_eq!(out, bytes, "assignment v{version} seed {seed}");
        }
    }
}
