//! Publication: hands the newest image to the metadata publisher, one at a time, and notes what this broker acts on.

use std::sync::Arc;
use std::time::Duration;

use super::applied::News;
use super::quorum::Quorum;
use crate::children::Slot;
use crate::metadata_publisher::{Committed, MetadataPublisher};

/// Between two tries while the publisher is between two lives.
const RETRY: Duration = Duration::from_millis(10);

/// Publishes until the quorum is gone.
pub async fn run(quorum: Arc<Quorum>, publisher: Arc<Slot<MetadataPublisher>>) {
    let mut place = quorum.applied().place();
    loop {
        place.borrow_and_update();
        let News { image, step } = quorum.applied().take_news();
        let mut committed = Committed { image, step };
        while !matches!(publisher.send(committed.clone()).await, Ok(())) {
            // Perhaps it was half told: the next incarnation finds out what is new to it.
            committed.step = None;
            tokio::time::sleep(RETRY).await;
        }
        quorum.set_published(committed.image.records_applied());
        if place.changed().await.is_err() {
            return;
        }
    }
}
