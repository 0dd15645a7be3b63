//! What raft carries for us: entries of records that were decided together, and whether they were taken in.

use std::io::Cursor;
use std::sync::Arc;

use capek_state::cluster::Record;
use capek_wire::ids::BrokerId;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// How openraft is used here.
    pub TypeConfig:
        D = MetadataEntry,
        R = EntryApplied,
        NodeId = u64,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub type Raft = openraft::Raft<TypeConfig>;
pub type Entry = openraft::Entry<TypeConfig>;
pub type LogId = openraft::LogId<u64>;
pub type Vote = openraft::Vote<u64>;
pub type Membership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub type StorageError = openraft::StorageError<u64>;

/// What was decided on the image that `base` records had made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataEntry {
    pub base: u64,
    /// With the versions that each record's own encoding carries. Shared by all that an entry is sent to.
    #[serde(with = "encoded_records")]
    pub records: Arc<[Record]>,
}

/// What became of an entry once it was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryApplied {
    /// False: the image had moved on, the records were not taken in.
    pub is_accepted: bool,
    /// The place of the image afterwards.
    pub records_applied: u64,
}

/// Brokers are numbered from 0 on; the configuration refuses others.
pub fn node_of(broker: BrokerId) -> u64 {
    u64::try_from(broker).expect("a broker id is not negative")
}

/// See [`node_of`].
pub fn broker_of(node: u64) -> BrokerId {
    BrokerId::try_from(node).expect("a node of this group was made from a broker id")
}

mod encoded_records {
    use std::sync::Arc;

    use super::Record;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(records: &[Record], serializer: S) -> Result<S::Ok, S::Error> {
        let encoded: Vec<Vec<u8>> = records.iter().map(Record::encode).collect();
        encoded.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Record]>, D::Error> {
        let encoded = Vec::<Vec<u8>>::deserialize(deserializer)?;
        encoded.iter().map(|bytes| Record::decode(bytes).map_err(D::Error::custom)).collect()
    }
}
