//! Where a stream stands in each of its partitions, and which of them has something for it.

use std::sync::Arc;

use capek_wire::ids::{LeaderEpoch, Offset, PartitionIndex};

use crate::shared::PartitionShared;

/// What a cursor needs to know of its partition.
pub trait Readable {
    fn log_start(&self) -> Offset;
    fn high_watermark(&self) -> Offset;
    fn is_deleted(&self) -> bool;
}

impl Readable for Arc<PartitionShared> {
    fn log_start(&self) -> Offset {
        PartitionShared::log_start(self)
    }

    fn high_watermark(&self) -> Offset {
        PartitionShared::high_watermark(self)
    }

    fn is_deleted(&self) -> bool {
        PartitionShared::is_deleted(self)
    }
}

/// The place in one partition.
pub struct Cursor<P> {
    pub partition: PartitionIndex,
    pub source: P,
    /// The next record to send.
    pub next: Offset,
    /// Since the client was last told that it had everything.
    is_behind: bool,
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// They were deleted before they were read.
    Retention,
    /// The position was beyond the end of the log.
    Truncation,
}

/// What a look at all partitions found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// This one has records.
    Readable { index: usize },
    /// The position of this one was not in the log; it is now.
    Gap { partition: PartitionIndex, requested: Offset, resumed: Offset, reason: GapReason },
    /// This one has caught up.
    CaughtUp { partition: PartitionIndex, next: Offset },
    /// This one's topic is gone.
    Deleted,
    /// None has anything new.
    Nothing,
}

/// All places of a stream; partitions take turns.
pub struct Cursors<P> {
    cursors: Vec<Cursor<P>>,
    turn: usize,
}

/// A place as the client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub partition: PartitionIndex,
    pub next: Offset,
    pub end: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl<P> Default for Cursors<P> {
    fn default() -> Self {
        Self { cursors: Vec::new(), turn: 0 }
    }
}

impl<P: Readable> Cursors<P> {
    pub fn add(&mut self, partition: PartitionIndex, source: P, next: Offset) {
        self.cursors.push(Cursor { partition, source, next, is_behind: true });
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cursor<P>> {
        self.cursors.iter()
    }

    pub fn get(&self, index: usize) -> &Cursor<P> {
        &self.cursors[index]
    }

    pub fn contains(&self, partition: PartitionIndex) -> bool {
        self.cursors.iter().any(|cursor| cursor.partition == partition)
    }

    pub fn clear(&mut self) {
        self.cursors.clear();
    }

    /// How many records the client has not been sent.
    pub fn lag(&self) -> i64 {
        self.cursors.iter().map(|cursor| (cursor.source.high_watermark() - cursor.next).max(0)).sum()
    }

    /// Goes to another place; false when the stream does not read that partition.
    pub fn seek(&mut self, partition: PartitionIndex, offset: Offset) -> bool {
        let found = self.cursors.iter_mut().find(|cursor| cursor.partition == partition);
        found.is_some_and(|cursor| {
            cursor.next = offset;
            cursor.is_behind = true;
            true
        })
    }

    /// Records were sent from this one up to `next`.
    pub fn advance(&mut self, index: usize, next: Offset) {
        let cursor = &mut self.cursors[index];
        cursor.next = next;
        // Whoever gets each record as it comes need not hear each time that there is no more.
        cursor.is_behind |= next < cursor.source.high_watermark();
    }

    /// Looks for something to do, beginning with the partition whose turn it is.
    pub fn look(&mut self) -> Look {
        let count = self.cursors.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let cursor = &mut self.cursors[index];
            if cursor.source.is_deleted() {
                return Look::Deleted;
            }
            let (log_start, high_watermark) = (cursor.source.log_start(), cursor.source.high_watermark());
            let requested = cursor.next;
            let resumed = if requested < log_start { log_start } else { requested.min(high_watermark) };
            if resumed != requested {
                let reason = if requested < log_start { GapReason::Retention } else { GapReason::Truncation };
                cursor.next = resumed;
                cursor.is_behind = true;
                return Look::Gap { partition: cursor.partition, requested, resumed, reason };
            }
            if cursor.next < high_watermark {
                self.turn = index + 1;
                return Look::Readable { index };
            }
        }
        match self.cursors.iter_mut().find(|cursor| cursor.is_behind) {
            Some(cursor) => {
                cursor.is_behind = false;
                Look::CaughtUp { partition: cursor.partition, next: cursor.next }
            }
            None => Look::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone)]
    struct Source(Rc<Cell<(Offset, Offset, bool)>>);

    impl Readable for Source {
        fn log_start(&self) -> Offset {
            self.0.get().0
        }

        fn high_watermark(&self) -> Offset {
            self.0.get().1
        }

        fn is_deleted(&self) -> bool {
            self.0.get().2
        }
    }

    fn source(log_start: Offset, high_watermark: Offset) -> Source {
        Source(Rc::new(Cell::new((log_start, high_watermark, false))))
    }

    #[test]
    fn partitions_take_turns_and_each_catches_up_once() {
        let mut cursors = Cursors::default();
        let sources = [source(0, 2), source(0, 2)];
        for (partition, source) in sources.iter().enumerate() {
            cursors.add(partition as i32, source.clone(), 0);
        }
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        cursors.advance(0, 1);
        assert_eq!(cursors.look(), Look::Readable { index: 1 });
        cursors.advance(1, 2);
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        assert_eq!(cursors.lag(), 1);
        cursors.advance(0, 2);
        assert_eq!(cursors.look(), Look::CaughtUp { partition: 0, next: 2 });
        assert_eq!(cursors.look(), Look::CaughtUp { partition: 1, next: 2 });
        assert_eq!(cursors.look(), Look::Nothing);
        sources[1].0.set((0, 3, false));
        assert_eq!(cursors.look(), Look::Readable { index: 1 });
        cursors.advance(1, 3);
        assert_eq!(cursors.look(), Look::Nothing, "a live record is no news of having caught up");
    }

    #[test]
    fn a_position_outside_the_log_is_a_gap() {
        let check = |next, expected: Look| {
            let mut cursors = Cursors::default();
            cursors.add(7, source(10, 20), next);
            assert_eq!(cursors.look(), expected);
            assert!(!matches!(cursors.look(), Look::Gap { .. }), "it is told once");
        };
        check(3, Look::Gap { partition: 7, requested: 3, resumed: 10, reason: GapReason::Retention });
        check(30, Look::Gap { partition: 7, requested: 30, resumed: 20, reason: GapReason::Truncation });
        check(10, Look::Readable { index: 0 });
        check(20, Look::CaughtUp { partition: 7, next: 20 });
    }

    #[test]
    fn a_deleted_topic_is_noticed_and_seek_goes_where_it_is_told() {
        let mut cursors = Cursors::default();
        let source = source(0, 5);
        cursors.add(0, source.clone(), 5);
        assert!(cursors.seek(0, 2) && !cursors.seek(1, 2));
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        source.0.set((0, 5, true));
        assert_eq!(cursors.look(), Look::Deleted);
    }
}
