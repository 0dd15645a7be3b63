//! What was delivered of one partition and is not acknowledged, and up to where all is.
//!
//! ```text
//!   offsets   10  11  12  --  14  15  16  17        13 is no record: a marker of a transaction, or compacted away
//!             done    ?       done ?  ?   next
//!                     ▲                   ▲
//!                     committable         where reading goes on; committable when nothing is outstanding
//! ```
//!
//! An acknowledgement is of everything up to an offset, of one record, or of all frames up to a number. Each may come twice.

use std::collections::{BTreeMap, VecDeque};

use capek_wire::ids::Offset;

/// An acknowledgement of what this client has not been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDelivered {
    /// What was delivered lies below.
    pub next: Offset,
}

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryWindow {
    /// Records without an acknowledgement, as ranges of offsets that follow each other: first and end.
    outstanding: BTreeMap<Offset, Offset>,
    outstanding_count: u64,
    next: Offset,
    /// The frames whose records may be outstanding, oldest first: their number, and where reading went on after each.
    frames: VecDeque<(u64, Offset)>,
}

impl DeliveryWindow {
    /// Reading begins at `next`.
    pub fn new(next: Offset) -> DeliveryWindow {
        DeliveryWindow { outstanding: BTreeMap::new(), outstanding_count: 0, next, frames: VecDeque::new() }
    }

    /// A frame brought these records, in order; reading goes on at `next`.
    pub fn delivered(&mut self, frame: u64, offsets: impl IntoIterator<Item = Offset>, next: Offset) {
        for offset in offsets {
            assert!(offset >= self.next, "offset {offset} is delivered in order, from {} on", self.next);
            match self.outstanding.last_entry() {
                Some(mut last) if *last.get() == offset => *last.get_mut() = offset + 1,
                _ => drop(self.outstanding.insert(offset, offset + 1)),
            }
            self.outstanding_count += 1;
            self.next = offset + 1;
        }
        self.passed(next);
        self.frames.push_back((frame, self.next));
    }

    /// There was nothing for the client below `next`.
    pub fn passed(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// The client has done everything up to and with `offset`.
    pub fn acknowledge_through(&mut self, offset: Offset) -> Result<(), NotDelivered> {
        if offset >= self.next {
            return Err(NotDelivered { next: self.next });
        }
        self.done_below(offset + 1);
        Ok(())
    }

    /// The client has done this record; others before it may be outstanding.
    pub fn acknowledge(&mut self, offset: Offset) -> Result<(), NotDelivered> {
        if offset >= self.next {
            return Err(NotDelivered { next: self.next });
        }
        let found = self.outstanding.range(..=offset).next_back().map(|(first, end)| (*first, *end));
        let Some((first, end)) = found.filter(|(_, end)| offset < *end) else { return Ok(()) };
        self.outstanding.remove(&first);
        if first < offset {
            self.outstanding.insert(first, offset);
        }
        if offset + 1 < end {
            self.outstanding.insert(offset + 1, end);
        }
        self.outstanding_count -= 1;
        self.forget_frames();
        Ok(())
    }

    /// The client has all frames up to and with this one.
    pub fn received(&mut self, frame: u64) {
        let arrived = self.frames.iter().take_while(|(number, _)| *number <= frame).last();
        if let Some((_, next)) = arrived.copied() {
            self.done_below(next);
        }
    }

    fn done_below(&mut self, end: Offset) {
        while let Some(first) = self.outstanding.first_entry().filter(|first| *first.key() < end) {
            let (first, range_end) = first.remove_entry();
            self.outstanding_count -= range_end.min(end).abs_diff(first);
            if range_end > end {
                self.outstanding.insert(end, range_end);
            }
        }
        self.forget_frames();
    }

    fn forget_frames(&mut self) {
        let committable = self.committable();
        while self.frames.front().is_some_and(|(_, next)| *next <= committable) {
            self.frames.pop_front();
        }
    }

    /// Everything below is done: the first record that is not, or where reading goes on.
    pub fn committable(&self) -> Offset {
        self.outstanding.first_key_value().map_or(self.next, |(first, _)| *first)
    }

    /// What was delivered lies below.
    pub fn next(&self) -> Offset {
        self.next
    }

    pub fn outstanding_count(&self) -> u64 {
        self.outstanding_count
    }
}
