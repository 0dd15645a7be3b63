//! Who asks where something is while its broker may be dying waits for the controller to decide, instead of being sent there.

use std::time::{Duration, Instant};

use capek_state::cluster::Image;
use capek_wire::ids::BrokerId;

use super::RequestContext;

/// An election of another controller is within it. Clients have more patience than that.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Until no broker is suspected that `concerns` the answer; what is fenced is decided.
pub async fn wait(context: &RequestContext, concerns: impl Fn(&Image, &[BrokerId]) -> bool) {
    let Some(quorum) = &context.broker.quorum else { return };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        let mut suspects = quorum.lanes().pulses().suspects(now);
        {
            let image = context.broker.image.load();
            suspects.retain(|suspect| image.broker(*suspect).is_some_and(|broker| !broker.fenced));
            if suspects.is_empty() || now > deadline || !concerns(&image, &suspects) {
                return;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
