//! The features of this broker (KIP-584): which levels it can run at, and which it begins with.

use capek_state::cluster::{Command, Image, SupportedFeature};
use capek_wire::api::ApiKey;

use crate::requests::SERVED;

/// `metadata.version` of Kafka 4.3: tools read it to learn what they may ask.
const METADATA_VERSION: i16 = 30;
const GROUP_VERSION: &str = "group.version";

/// What this broker can run at. A feature is in here only when all that it promises is served.
pub fn supported() -> Vec<SupportedFeature> {
    let metadata =
        SupportedFeature { name: "metadata.version".into(), lowest: METADATA_VERSION, highest: METADATA_VERSION };
    let groups = SupportedFeature { name: GROUP_VERSION.into(), lowest: 0, highest: 1 };
    let has_groups = SERVED.contains(&ApiKey::ConsumerGroupHeartbeat);
    std::iter::once(metadata).chain(has_groups.then_some(groups)).collect()
}

/// An operator may have taken `group.version` back: then members of the consumer protocol are told to use the classic one.
pub fn has_consumer_protocol(image: &Image) -> bool {
    image.feature_level(GROUP_VERSION) != Some(0)
}

/// The commands that finalise what nobody has decided on yet, at the highest level.
pub fn undecided(image: &Image) -> Vec<Command> {
    let is_undecided = |feature: &SupportedFeature| image.feature_level(&feature.name).is_none();
    let finalise =
        |feature: SupportedFeature| Command::SetFeature { name: feature.name.to_string(), level: feature.highest };
    supported().into_iter().filter(is_undecided).map(finalise).collect()
}
