//! Asking a coordinator again while it loads or moves: the doors' own clients would only do the same, with a round trip each time.

use std::time::Duration;

use capek_wire::codec::Request;
use capek_wire::error_code::ErrorCode;

use crate::local::LocalClient;
use crate::local_requests::{AskError, Caller, Destination};

const TRIES_MAX: usize = 50;
/// How often an answer may be lost on its way.
const UNHEARD_MAX: usize = 2;
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl LocalClient {
    /// Like [`LocalClient::ask`], again while the answer's code is one that passes. The request is made anew each time: a
    /// member's epoch moves with its heartbeats. The last answer may still hold such a code. For what may be asked twice: also
    /// when nobody knows whether it was heard.
    pub async fn ask_patiently<R: Request>(
        &self,
        destination: Destination<'_>,
        caller: &Caller,
        version: i16,
        request: impl Fn() -> R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, AskError> {
        let mut unheard_count = 0;
        for _ in 1..TRIES_MAX {
            let answer = match self.ask(destination, caller, &request(), version).await {
                Err(AskError::Unknown(_)) if unheard_count < UNHEARD_MAX => {
                    unheard_count += 1;
                    continue;
                }
                outcome => outcome?,
            };
            if !is_passing(ErrorCode::from_code(code_of(&answer))) {
                return Ok(answer);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.ask(destination, caller, &request(), version).await
    }
}

/// A stale epoch is that of a member whose heartbeat is under way.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::StaleMemberEpoch
    )
}
