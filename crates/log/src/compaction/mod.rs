//! Compaction: of the records with the same key only the last stays.
//!
//! ```text
//!  log start              first dirty              first uncleanable       high watermark
//!     ├── clean: one record of each key ──┼── dirty ──────────────┼── young, or active ──┤
//!
//!  1. the keys of the dirty part and their last offsets go into a map of bounded memory (as far as it has room)
//!  2. each group of segments from the log start on is written again, as `.cleaned` files, without what the map outdates
//!  3. the journal puts each group in the place of the old segments; the dirty part begins where the map ended
//! ```
//!
//! Steps 1 and 2 run on a thread of the caller, who throttles and may end them at any time; only files that nobody looks at
//! are written there. Step 3 is a step of the journal, see `log/swap.rs`.
//!
//! **Offsets never change**, and what other files are made anew from is kept, as an emptied batch if need be: the last
//! batch of each segment (so segments follow each other without a gap, and a lost file is seen), the first of each leader
//! epoch, and the last batches of the idempotent producers.
//!
//! Control batches stay as they are: there are no transactions yet whose end they could tell.

mod clean;
mod cleanable;
mod files;
mod filter;
mod offset_map;
mod output;
mod siphash;

use std::io;

use capek_wire::BatchError;

use crate::vfs::is_no_space;

pub use clean::{Clean, CleanOptions, CleanStats};
pub use cleanable::{Cleanable, CleanableQuery};
pub use output::Cleaned;

pub(crate) use files::{SWAP, cleaned_name, finish_swaps, is_cleaned};
pub(crate) use filter::NeededBatches;
pub(crate) use output::{CLEANED_EXTENSIONS, remove_cleaned};

/// Who watches over a clean: told of all that was read and written.
pub trait CleanWatch {
    /// So many bytes since the last call. It may sleep, to slow the clean down; `false` ends it.
    fn progress(&mut self, read_bytes: u64, written_bytes: u64) -> bool;
}

/// Why a log was not cleaned. What was written for it is removed again.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    #[error("it was ended")]
    Ended,
    #[error("no room for the cleaned segments")]
    NoSpace,
    #[error("the log cannot be cleaned: {0}")]
    Uncleanable(String),
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for CleanError {
    fn from(error: io::Error) -> CleanError {
        if is_no_space(&error) { CleanError::NoSpace } else { CleanError::Io(error) }
    }
}

impl From<BatchError> for CleanError {
    fn from(error: BatchError) -> CleanError {
        CleanError::Uncleanable(error.to_string())
    }
}
