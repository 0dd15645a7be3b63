//! Raising and lowering the levels of features (KIP-584). All updates of a request are made or none; the words are Kafka's.

use std::collections::BTreeMap;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;

use super::command::{Decision, FeatureUpdate, UpdateFeatures};
use super::decide::records;
use super::image::Image;
use super::record::Record;
use crate::Refusal;

/// How an update may change a level; the numbers are the protocol's.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

pub(super) fn update(image: &Image, command: &UpdateFeatures) -> Result<Decision, Refusal> {
    let mut changed = Vec::new();
    for update in last_of_each(&command.updates) {
        judge(image, command, update).map_err(|reason| refused(update, &reason))?;
        if image.feature_level(&update.name).unwrap_or(0) != update.level {
            changed.push(Record::Feature { name: update.name.clone(), level: update.level });
        }
    }
    Ok(records(changed))
}

/// Of a feature that is named twice the last update counts.
fn last_of_each(updates: &[FeatureUpdate]) -> impl Iterator<Item = &FeatureUpdate> {
    let last: BTreeMap<&str, usize> =
        updates.iter().enumerate().map(|(index, update)| (update.name.as_str(), index)).collect();
    let is_last = move |(index, update): &(usize, &FeatureUpdate)| last.get(update.name.as_str()) == Some(index);
    updates.iter().enumerate().filter(is_last).map(|(_, update)| update)
}

fn judge(image: &Image, command: &UpdateFeatures, update: &FeatureUpdate) -> Result<(), String> {
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&update.upgrade_type) {
        return Err("The controller does not support the given upgrade type.".to_owned());
    }
    if update.level < 0 {
        return Err("A feature version cannot be less than 0.".to_owned());
    }
    let current = image.feature_level(&update.name).unwrap_or(0);
    check_supported(command, update, command.broker)?;
    let is_downgrade = update.level < current;
    if is_downgrade && update.upgrade_type == UPGRADE {
        return Err("Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                    unsafe downgrade."
            .to_owned());
    }
    if update.level > current && matches!(update.upgrade_type, SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return Err("Can't downgrade to a newer version.".to_owned());
    }
    Ok(())
}

fn check_supported(command: &UpdateFeatures, update: &FeatureUpdate, broker: BrokerId) -> Result<(), String> {
    let Some(feature) = command.supported.iter().find(|feature| feature.name == update.name) else {
        return Err(match update.level {
            0 => format!("Feature {} not found.", update.name),
            _ => format!("Local controller {broker} does not support this feature."),
        });
    };
    let (lowest, highest) = (feature.lowest, feature.highest);
    if !(lowest..=highest).contains(&update.level) {
        return Err(format!("Local controller {broker} only supports versions {lowest}-{highest}"));
    }
    Ok(())
}

fn refused(update: &FeatureUpdate, reason: &str) -> Refusal {
    let FeatureUpdate { name, level, .. } = update;
    let message = format!(
        "The update failed for all features since the following feature had an error: Invalid update version {level} \
         for feature {name}. {reason}"
    );
    Refusal::new(ErrorCode::InvalidUpdateVersion, message)
}
