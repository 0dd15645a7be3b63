//! Where a stream stands in each of its partitions, and which of them has something for it.

use capek_wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::partition_source::PartitionSource;
use crate::stream_events::StreamPlace;

/// What a cursor needs to know of its partition.
pub trait Readable {
    fn log_start(&self) -> Offset;
    fn high_watermark(&self) -> Offset;
    fn is_deleted(&self) -> bool;

    /// Whether an offset above the high watermark is beyond the end for certain; else the reader is woken when it is known.
    fn is_beyond_end(&self, _: Offset) -> bool {
        true
    }
}

impl Readable for PartitionSource {
    fn log_start(&self) -> Offset {
        PartitionSource::log_start(self)
    }

    fn high_watermark(&self) -> Offset {
        PartitionSource::high_watermark(self)
    }

    fn is_deleted(&self) -> bool {
        PartitionSource::is_deleted(self)
    }

    fn is_beyond_end(&self, offset: Offset) -> bool {
        PartitionSource::is_beyond_end(self, offset)
    }
}

/// The place in one partition.
#[derive(Debug)]
pub struct Cursor<P> {
    pub place: StreamPlace,
    pub topic_id: TopicId,
    pub source: P,
    /// The next record to send.
    pub next: Offset,
    /// Nothing from here on is wanted; None goes on for ever.
    pub end: Option<Offset>,
    /// Of the last record that was sent; -1 when there was none.
    pub leader_epoch: LeaderEpoch,
    /// Since the client was last told that it had everything.
    is_behind: bool,
}

impl<P> Cursor<P> {
    pub fn new(place: StreamPlace, topic_id: TopicId, source: P, next: Offset) -> Cursor<P> {
        Cursor { place, topic_id, source, next, end: None, leader_epoch: -1, is_behind: true }
    }

    fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// They were deleted before they were read.
    Retention,
    /// The position was beyond the end of the log, or in a part of it that was cut off.
    Truncation,
    /// The topic was deleted, and made anew.
    TopicRecreated,
}

/// What a look at all partitions found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// This one has records.
    Readable { index: usize },
    /// The position of this one was not in the log; it is now.
    Gap { place: StreamPlace, requested: Offset, resumed: Offset, reason: GapReason },
    /// This one has caught up.
    CaughtUp { place: StreamPlace, next: Offset },
    /// This one's topic is gone.
    Deleted { place: StreamPlace },
    /// All have come to the end that was asked for.
    Finished,
    /// None has anything new.
    Nothing,
}

/// All places of a stream; partitions take turns.
pub struct Cursors<P> {
    cursors: Vec<Cursor<P>>,
    turn: usize,
}

impl<P> Default for Cursors<P> {
    fn default() -> Self {
        Self { cursors: Vec::new(), turn: 0 }
    }
}

impl<P: Readable> Cursors<P> {
    pub fn add(&mut self, cursor: Cursor<P>) {
        self.cursors.push(cursor);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cursor<P>> {
        self.cursors.iter()
    }

    pub fn get(&self, index: usize) -> &Cursor<P> {
        &self.cursors[index]
    }

    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    pub fn contains(&self, place: &StreamPlace) -> bool {
        self.cursors.iter().any(|cursor| cursor.place == *place)
    }

    pub fn retain(&mut self, is_kept: impl Fn(&StreamPlace) -> bool) {
        self.cursors.retain(|cursor| is_kept(&cursor.place));
    }

    /// How many records the client has not been sent.
    pub fn lag(&self) -> i64 {
        self.cursors.iter().map(|cursor| (cursor.source.high_watermark() - cursor.next).max(0)).sum()
    }

    /// Goes to another place; false when the stream does not read that partition.
    pub fn seek(&mut self, place: &StreamPlace, offset: Offset) -> bool {
        let found = self.cursors.iter_mut().find(|cursor| cursor.place == *place);
        found.is_some_and(|cursor| {
            cursor.next = offset;
            cursor.leader_epoch = -1;
            cursor.is_behind = true;
            true
        })
    }

    /// Records were sent from this one up to `next`, the last of them of this epoch.
    pub fn advance(&mut self, index: usize, next: Offset, leader_epoch: LeaderEpoch) {
        let cursor = &mut self.cursors[index];
        cursor.next = next;
        cursor.leader_epoch = leader_epoch;
        // Whoever gets each record as it comes need not hear each time that there is no more.
        cursor.is_behind |= next < cursor.source.high_watermark();
    }

    /// Looks for something to do, beginning with the partition whose turn it is.
    pub fn look(&mut self) -> Look {
        let count = self.cursors.len();
        let mut is_finished = count > 0;
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let cursor = &mut self.cursors[index];
            if cursor.source.is_deleted() {
                return Look::Deleted { place: cursor.place.clone() };
            }
            if cursor.is_finished() {
                continue;
            }
            is_finished = false;
            let (log_start, high_watermark) = (cursor.source.log_start(), cursor.source.high_watermark());
            let requested = cursor.next;
            if requested > high_watermark && !cursor.source.is_beyond_end(requested) {
                continue;
            }
            let resumed = if requested < log_start { log_start } else { requested.min(high_watermark) };
            if resumed != requested {
                let reason = if requested < log_start { GapReason::Retention } else { GapReason::Truncation };
                cursor.next = resumed;
                cursor.is_behind = true;
                return Look::Gap { place: cursor.place.clone(), requested, resumed, reason };
            }
            if cursor.next < high_watermark {
                self.turn = index + 1;
                return Look::Readable { index };
            }
        }
        if is_finished {
            return Look::Finished;
        }
        match self.cursors.iter_mut().find(|cursor| cursor.is_behind && !cursor.is_finished()) {
            Some(cursor) => {
                cursor.is_behind = false;
                Look::CaughtUp { place: cursor.place.clone(), next: cursor.next }
            }
            None => Look::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use capek_wire::ids::Uuid;

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

    fn place(partition: i32) -> StreamPlace {
        StreamPlace::new("t", partition)
    }

    fn cursor(partition: i32, source: Source, next: Offset) -> Cursor<Source> {
        Cursor::new(place(partition), Uuid([7; 16]), source, next)
    }

    #[test]
    fn a_stream_with_an_end_is_finished_when_all_of_it_was_sent() {
        let mut cursors = Cursors::default();
        for (partition, end) in [(0, 2), (1, 0)] {
            let end = Some(end);
            cursors.add(Cursor { end, ..cursor(partition, source(0, 5), 0) });
        }
        assert_eq!(cursors.look(), Look::Readable { index: 0 }, "nothing is wanted of the other");
        cursors.advance(0, 2, 0);
        assert_eq!(cursors.look(), Look::Finished);
        assert_eq!(Cursors::<Source>::default().look(), Look::Nothing, "one without partitions waits for some");
    }

    #[test]
    fn partitions_take_turns_and_each_catches_up_once() {
        let mut cursors = Cursors::default();
        let sources = [source(0, 2), source(0, 2)];
        for (partition, source) in sources.iter().enumerate() {
            cursors.add(cursor(partition as i32, source.clone(), 0));
        }
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        cursors.advance(0, 1, 0);
        assert_eq!(cursors.look(), Look::Readable { index: 1 });
        cursors.advance(1, 2, 0);
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        assert_eq!(cursors.lag(), 1);
        cursors.advance(0, 2, 0);
        assert_eq!(cursors.look(), Look::CaughtUp { place: place(0), next: 2 });
        assert_eq!(cursors.look(), Look::CaughtUp { place: place(1), next: 2 });
        assert_eq!(cursors.look(), Look::Nothing);
        sources[1].0.set((0, 3, false));
        assert_eq!(cursors.look(), Look::Readable { index: 1 });
        cursors.advance(1, 3, 0);
        assert_eq!(cursors.look(), Look::Nothing, "a live record is no news of having caught up");
    }

    #[test]
    fn a_position_outside_the_log_is_a_gap() {
        let check = |next, expected: Look| {
            let mut cursors = Cursors::default();
            cursors.add(cursor(7, source(10, 20), next));
            assert_eq!(cursors.look(), expected);
            assert!(!matches!(cursors.look(), Look::Gap { .. }), "it is told once");
        };
        check(3, Look::Gap { place: place(7), requested: 3, resumed: 10, reason: GapReason::Retention });
        check(30, Look::Gap { place: place(7), requested: 30, resumed: 20, reason: GapReason::Truncation });
        check(10, Look::Readable { index: 0 });
        check(20, Look::CaughtUp { place: place(7), next: 20 });
    }

    #[test]
    fn a_deleted_topic_is_noticed_and_seek_goes_where_it_is_told() {
        let mut cursors = Cursors::default();
        let source = source(0, 5);
        cursors.add(cursor(0, source.clone(), 5));
        assert!(cursors.seek(&place(0), 2) && !cursors.seek(&place(1), 2));
        assert_eq!(cursors.look(), Look::Readable { index: 0 });
        source.0.set((0, 5, true));
        assert_eq!(cursors.look(), Look::Deleted { place: place(0) });
    }
}
