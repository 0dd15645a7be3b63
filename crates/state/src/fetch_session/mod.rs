//! Fetch sessions (KIP-227): what a consumer asks for again and again is remembered, and only what changed travels.
//!
//! ```text
//!   request (id, epoch)     means                                      answered with
//!   (_, -1)                 a full fetch; the session `id` ends        id 0
//!   (_,  0)                 a full fetch; `id` ends, a new one begins  the new id, or 0 where there is no room
//!   (id, n)                 changes to the session, then all of it     id, and the partitions with something to say
//! ```
//!
//! [`FetchSession`] is one session; [`FetchSessionCache`] decides which of them are kept.

mod cache;
mod session;

pub use cache::{FetchSessionCache, SessionLimits};
pub use session::{AnswerFacts, FetchSession, PartitionRequest, Place, SessionPartition, SessionRefused, SessionTopic};

/// The session id of who has none.
pub const NO_SESSION: i32 = 0;
/// Begins a session.
pub const INITIAL_EPOCH: i32 = 0;
/// Ends a session, or does without.
pub const FINAL_EPOCH: i32 = -1;

/// The epoch of the request after the one of `epoch`: never again 0.
pub fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch if epoch < 0 => FINAL_EPOCH,
        epoch => epoch + 1,
    }
}
