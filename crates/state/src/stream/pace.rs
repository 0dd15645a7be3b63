//! When the records of one partition go out: at once, or gathered for a while so that fewer frames carry them.
//!
//! ```text
//!   new ──records──▶ released up to the end ──all of it sent, more came──▶ gathering since then
//!                           ▲                                                    │
//!                           └──── a frame is full, or the first has waited ◀─────┘
//! ```
//!
//! Whoever is behind waits for nothing: only what comes after a reader had everything is gathered. Nothing is read for it
//! meanwhile, so gathering costs no memory.

use capek_wire::ids::Offset;

use super::Credit;

/// How long the first record of a frame may wait for others; 0 is not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    pub for_ms: u64,
    /// What a frame holds at most: nothing waits when so much is there.
    pub full: Credit,
}

/// What may be sent of a partition now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Everything below.
    UpTo(Offset),
    /// Nothing before this time.
    At(u64),
}

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pace {
    state: State,
    /// What a record had in the last frame, on the average: so the size of what is not read yet is guessed.
    record_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum State {
    #[default]
    New,
    Released {
        up_to: Offset,
    },
    Gathering {
        since_ms: u64,
    },
}

impl Pace {
    /// There are records from `next` to `end`.
    pub fn due(&mut self, linger: Linger, next: Offset, end: Offset, now_ms: u64) -> Due {
        assert!(next < end, "from {next} to {end} there is nothing");
        let since_ms = match self.state {
            State::New => return self.release(end),
            State::Released { up_to } if next < up_to => return Due::UpTo(up_to.min(end)),
            State::Released { .. } => now_ms,
            State::Gathering { since_ms } => since_ms,
        };
        let count = next.abs_diff(end);
        let is_full = count >= linger.full.records || count.saturating_mul(self.record_bytes) >= linger.full.bytes;
        let due_ms = since_ms.saturating_add(linger.for_ms);
        if is_full || now_ms >= due_ms {
            return self.release(end);
        }
        self.state = State::Gathering { since_ms };
        Due::At(due_ms)
    }

    fn release(&mut self, end: Offset) -> Due {
        self.state = State::Released { up_to: end };
        Due::UpTo(end)
    }

    /// A reader has all that there is.
    pub fn caught_up(&mut self, next: Offset) {
        self.state = State::Released { up_to: next };
    }

    /// A frame had so many records.
    pub fn sent(&mut self, records: u64, bytes: u64) {
        self.record_bytes = bytes.checked_div(records).unwrap_or(self.record_bytes);
    }

    /// Reading goes on elsewhere: what is there goes out at once.
    pub fn moved(&mut self) {
        self.state = State::New;
    }
}
