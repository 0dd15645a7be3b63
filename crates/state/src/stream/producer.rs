//! How a producer's numbered frames are known again, also over another connection and after a crash of the broker.
//!
//! A frame's records are written in the name of one of [`IN_FLIGHT_MAX`] producers, in turn, each time in its next epoch, with a
//! sequence that is made of what they hold; the leader of a partition does the rest by the rules that it has for idempotent
//! producers:
//!
//! ```text
//!   sequence             0  1 … 63   64 65 … 127   …  2097151   2097152 …
//!   producer (lane)      0  1 … 63    0  1 …  63   …       63         0 …    others: another generation
//!   epoch                0  0 …  0    1  1 …   1   …    32767         0 …
//!
//!   the same frame again            duplicate: answered like the first time
//!   its number with other records   OUT_OF_ORDER_SEQUENCE_NUMBER: a client that has lost its count must not take them for stored
//!   one that 64 later overtook      INVALID_PRODUCER_EPOCH: it cannot be told any more, and is not stored
//! ```
//!
//! So a partition remembers 64 producers for each name, however many frames they write. A client that has at most
//! [`IN_FLIGHT_MAX`] frames without an answer is never overtaken by itself: [`InFlight`] sees to that.

use std::collections::BTreeSet;

/// How many frames of one connection may be without an answer.
pub const IN_FLIGHT_MAX: usize = 64;
/// And how many bytes; one frame passes whatever its size.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

const LANES: u64 = IN_FLIGHT_MAX as u64;
const EPOCHS: u64 = i16::MAX as u64 + 1;

/// As what a frame is written: see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceSlot {
    pub generation: u64,
    pub lane: u64,
    pub epoch: i16,
}

impl ProduceSlot {
    pub fn of(sequence: u64) -> ProduceSlot {
        let turn = sequence / LANES;
        let epoch = i16::try_from(turn % EPOCHS).expect("it is less than the number of epochs");
        ProduceSlot { generation: turn / EPOCHS, lane: sequence % LANES, epoch }
    }
}

/// The same sequence has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentAgain;

/// The frames of one connection that have no answer yet.
#[derive(Debug, Default)]
pub struct InFlight {
    count: usize,
    bytes: usize,
    sequences: BTreeSet<u64>,
}

impl InFlight {
    /// Whether this one may begin. If not, nothing more is read from the client until something is answered: there is too much, or
    /// a frame that has no answer yet could be overtaken.
    pub fn has_room(&self, sequence: Option<u64>) -> bool {
        let lowest = self.sequences.first().copied();
        let is_far_ahead =
            lowest.zip(sequence).is_some_and(|(lowest, sequence)| sequence.saturating_sub(lowest) >= LANES);
        self.count < IN_FLIGHT_MAX && self.bytes < IN_FLIGHT_BYTES_MAX && !is_far_ahead
    }

    pub fn begin(&mut self, sequence: Option<u64>, bytes: usize) -> Result<(), SentAgain> {
        if let Some(sequence) = sequence
            && !self.sequences.insert(sequence)
        {
            return Err(SentAgain);
        }
        self.count += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// What was begun with the same arguments has its answer.
    pub fn answered(&mut self, sequence: Option<u64>, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
        if let Some(sequence) = sequence {
            self.sequences.remove(&sequence);
        }
    }
}
