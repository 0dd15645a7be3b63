//! A partition as its leader and its followers see it.
//!
//! ```text
//!    log start      high watermark     flushed end      log end
//!        │                │                 │               │
//!        ▼                ▼                 ▼               ▼
//!   ─────┬────────────────┬─────────────────┬───────────────┬───▶ offsets
//!        │   committed,   │ durable here,   │ in the journal│
//!        │   readable     │ not everywhere  │ or before it  │
//! ```
//!
//! The high watermark is what every in-sync replica has made durable; a `Follower` copies the leader's log and learns the
//! high watermark from it.
//!
//! All four are exclusive ends (the log start is the first that is left) and none goes back while a leader lives, but
//! for the log end after a failed append, and then the leader admits nothing more.

mod admit;
mod convert;
mod follower;
mod leader;
mod new_producers;
mod producers;
mod proposal;
mod record_checks;
mod replicas;
mod reports;

pub use admit::{AdmitContext, Admitted, check_before_checksum, check_bytes};
pub use convert::convert;
pub use follower::{Divergence, Fetched, FetchedRecords, Follower, FollowerEffect, FollowerStart};
pub use leader::{Effect, Leader, LeaderStart, ReplyId, Trim, Wait, in_sync_refusal_is_final};
pub use new_producers::{NewProducers, ProducerMoments};
pub use producers::{PRODUCER_BATCHES_MAX, ProducerBatch};
pub use proposal::{Ask, Asking, Fate};
pub use record_checks::{RecordError, RecordsRefused, check_keys, check_timestamps, timestamp_errors};
pub use replicas::ReplicaSet;
pub use reports::{FollowerReport, FollowerReports, FollowerVoice};
