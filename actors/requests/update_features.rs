//! UpdateFeatures (key 57, versions 0–2): raises or lowers the levels of features (KIP-584). All are changed or none.
//!
//! Version 0 knows whether a downgrade is allowed, later ones how safe it must be and `validate_only`; version 2 has no
//! result for each feature any more.

use std::rc::Rc;

use capek_state::cluster::{Command, FeatureUpdate, UpdateFeatures};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::{RequestContext, change};
use crate::features;

/// Versions from here say how safe a downgrade must be.
const UPGRADE_TYPE_VERSION_MIN: i16 = 1;
/// The last version with results.
const RESULTS_VERSION_MAX: i16 = 1;
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;

pub async fn answer(
    context: Rc<RequestContext>,
    request: UpdateFeaturesRequest,
    version: i16,
) -> UpdateFeaturesResponse {
    let updates = request.feature_updates.iter().map(|update| wish(update, version)).collect();
    let command = UpdateFeatures { broker: context.broker.config.node_id, supported: features::supported(), updates };
    let command = Command::UpdateFeatures(command);
    let validate_only = version >= UPGRADE_TYPE_VERSION_MIN && request.validate_only;
    let made = change::make(&context.broker, command, validate_only).await;
    let (error_code, error_message) = change::error_of(&made);
    let mut results = Vec::new();
    if version <= RESULTS_VERSION_MAX && made.is_ok() {
        results.extend(request.feature_updates.into_iter().map(|update| UpdatableFeatureResult {
            feature: update.feature,
            error_code,
            error_message: Some(Str::from_static(ErrorCode::None.name())),
        }));
    }
    UpdateFeaturesResponse { error_code, error_message, results, ..Default::default() }
}

fn wish(update: &FeatureUpdateKey, version: i16) -> FeatureUpdate {
    let upgrade_type = match version {
        0 if update.allow_downgrade => SAFE_DOWNGRADE,
        0 => UPGRADE,
        _ => update.upgrade_type,
    };
    FeatureUpdate { name: update.feature.to_string(), level: update.max_version_level, upgrade_type }
}
