//! The controller gives partitions back to their preferred leaders, now and then: brokers that were restarted lead again.

use std::sync::Arc;
use std::time::Duration;

use capek_state::cluster::{Command, preferred_leaders_to_return};
use log::info;

use super::messages::ProposeReply;
use super::quorum::Quorum;
use crate::config::BrokerConfig;

const ENABLED: &str = "auto.leader.rebalance.enable";
const INTERVAL: &str = "leader.imbalance.check.interval.seconds";

/// Goes on for ever; does something while this node leads.
pub async fn run(quorum: Arc<Quorum>, config: Arc<BrokerConfig>) {
    loop {
        let interval = u64::try_from(config.number(&quorum.image(), INTERVAL)).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(interval.max(1))).await;
        let image = quorum.image();
        if !quorum.is_controller() || config.text(&image, ENABLED).trim() != "true" {
            continue;
        }
        let Some(command) = preferred_leaders_to_return(&image) else { continue };
        let count = if let Command::ElectLeaders(elections) = &command { elections.partitions.len() } else { 0 };
        if let ProposeReply::Decided { .. } = quorum.decide_here(command).await {
            info!("{count} partitions were given back to their preferred leaders");
        }
    }
}
