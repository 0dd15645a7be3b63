//! A partition as its leader sees it.
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
//! All four are exclusive ends (the log start is the first that is left) and none goes back while a leader lives, but
//! for the log end after a failed append, and then the leader admits nothing more.

mod admit;
mod convert;
mod leader;
mod producers;
mod record_checks;

pub use admit::{AdmitContext, Admitted, check_before_checksum, check_bytes};
pub use convert::convert;
pub use leader::{Effect, Leader, LeaderStart, ReplyId, Trim};
pub use producers::{PRODUCER_BATCHES_MAX, ProducerBatch};
pub use record_checks::{RecordError, RecordsRefused, check_keys, check_timestamps, timestamp_errors};
