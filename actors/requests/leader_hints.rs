//! Whom to ask instead (KIP-951): the leader of a partition that is not led here, and where it is reached on the listener that
//! the client came in on, so that a client goes on without asking for metadata first.

use std::collections::BTreeMap;

use capek_state::cluster::{Image, Partition};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch};

/// Leaders that an answer names, and where they are.
#[derive(Default)]
pub struct LeaderHints {
    endpoints: BTreeMap<BrokerId, Endpoint>,
}

pub struct Endpoint {
    pub node_id: BrokerId,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
}

impl LeaderHints {
    /// The leader to name beside this error, if there is one that can be reached.
    pub fn note(
        &mut self,
        image: &Image,
        listener: &str,
        code: i16,
        partition: Option<&Partition>,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let is_elsewhere = code == ErrorCode::NotLeaderOrFollower.code() || code == ErrorCode::FencedLeaderEpoch.code();
        let partition = partition.filter(|_| is_elsewhere)?;
        let broker = image.broker(partition.leader)?;
        let endpoint = broker.endpoint(listener)?;
        self.endpoints.entry(broker.id).or_insert_with(|| Endpoint {
            node_id: broker.id,
            host: Str::from(&*endpoint.host),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Str::from),
        });
        Some((partition.leader, partition.leader_epoch))
    }

    pub fn into_endpoints(self) -> impl Iterator<Item = Endpoint> {
        self.endpoints.into_values()
    }
}
