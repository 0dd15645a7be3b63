//! Levels of features. The words were taken from a Kafka 4.3.

use capek_state::Refusal;
use capek_state::cluster::{Command, Decision, FeatureUpdate, Image, Record, SupportedFeature, UpdateFeatures, decide};
use capek_wire::ErrorCode;

use crate::fixtures::{assert_refused, cluster, run};

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;

/// metadata.version is at 30, group.version at 1.
fn image() -> Image {
    let mut image = cluster(1);
    for (name, level) in [("metadata.version", 30), ("group.version", 1)] {
        run(&mut image, &Command::SetFeature { name: name.to_owned(), level });
    }
    image
}

fn update(updates: &[(&str, i16, i8)]) -> Result<Decision, Refusal> {
    let supported = vec![
        SupportedFeature { name: "metadata.version".into(), lowest: 7, highest: 30 },
        SupportedFeature { name: "group.version".into(), lowest: 0, highest: 1 },
    ];
    let of = |(name, level, upgrade_type): &(&str, i16, i8)| FeatureUpdate {
        name: (*name).to_owned(),
        level: *level,
        upgrade_type: *upgrade_type,
    };
    let updates = updates.iter().map(of).collect();
    decide(&image(), &Command::UpdateFeatures(UpdateFeatures { broker: 1, supported, updates }))
}

#[test]
fn a_level_that_changes_is_recorded() {
    assert_eq!(update(&[]).expect("nothing is asked").records, []);
    assert_eq!(update(&[("metadata.version", 30, UPGRADE)]).expect("it is so").records, []);
    let taken_back = update(&[("group.version", 0, SAFE_DOWNGRADE)]).expect("it may be");
    assert_eq!(taken_back.records, [Record::Feature { name: "group.version".to_owned(), level: 0 }]);
}

#[test]
fn of_a_feature_that_is_named_twice_the_last_update_counts() {
    let decision = update(&[("group.version", 9, UPGRADE), ("group.version", 1, UPGRADE)]);
    assert_eq!(decision.expect("the first does not count").records, []);
}

#[test]
fn one_that_is_wrong_refuses_all_in_kafkas_words() {
    let refused = |name: &str, level: i16, upgrade_type: i8, reason: &str| {
        let message = format!(
            "The update failed for all features since the following feature had an error: Invalid update version \
             {level} for feature {name}. {reason}"
        );
        let updates = [("group.version", 0, SAFE_DOWNGRADE), (name, level, upgrade_type)];
        assert_refused(update(&updates), ErrorCode::InvalidUpdateVersion, &message);
    };
    let supported = "Local controller 1 only supports versions 7-30";
    refused("metadata.version", 99, UPGRADE, supported);
    refused("metadata.version", 1, 3, supported);
    refused("metadata.version", 0, 3, supported);
    refused("metadata.version", -1, UPGRADE, "A feature version cannot be less than 0.");
    let downgrade = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                     unsafe downgrade.";
    refused("metadata.version", 20, UPGRADE, downgrade);
    refused("metadata.version", 20, 0, "The controller does not support the given upgrade type.");
    refused("metadata.version", 20, 9, "The controller does not support the given upgrade type.");
    refused("nope", 1, UPGRADE, "Local controller 1 does not support this feature.");
    refused("nope", 0, UPGRADE, "Feature nope not found.");
}
