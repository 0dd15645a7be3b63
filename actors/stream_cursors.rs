//! Where a stream stands in each of its partitions, and which of them has something for it.

use capek_state::stream::{Due, Linger, Pace};
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
    pub pace: Pace,
}

impl<P> Cursor<P> {
    pub fn new(place: StreamPlace, topic_id: TopicId, source: P, next: Offset) -> Cursor<P> {
        Cursor { place, topic_id, source, next, end: None, leader_epoch: -1, is_behind: true, pace: Pace::default() }
    }

    fn is_finished(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

impl<P: Readable> Cursor<P> {
    /// Nothing more comes of what has its end already: it waits for nothing.
    fn due(&mut self, linger: Linger, high_watermark: Offset, now_ms: u64) -> Due {
        match self.end.filter(|end| *end <= high_watermark) {
            Some(end) => Due::UpTo(end),
            None => self.pace.due(linger, self.next, high_watermark, now_ms),
        }
    }

    /// And its client has not been told.
    fn has_caught_up(&self) -> bool {
        self.is_behind && !self.is_finished() && self.next >= self.source.high_watermark()
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
    /// So many of the records in it do not come: newer ones are shown instead. It moves no position.
    Filtered { count: u64 },
}

/// What a look at all partitions found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// This one has records that may be sent, up to there.
    Readable { index: usize, up_to: Offset },
    /// The position of this one was not in the log; it is now.
    Gap { place: StreamPlace, requested: Offset, resumed: Offset, reason: GapReason },
    /// This one has caught up.
    CaughtUp { place: StreamPlace, next: Offset },
    /// This one's topic is gone.
    Deleted { place: StreamPlace },
    /// What there is waits for more until then.
    Gathering { until_ms: u64 },
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
            cursor.pace.moved();
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

    /// A frame of this one had so many records.
    pub fn sent(&mut self, index: usize, records: u64, bytes: u64) {
        self.cursors[index].pace.sent(records, bytes);
    }

    /// Looks for something to do, beginning with the partition whose turn it is.
    pub fn look(&mut self, linger: Linger, now_ms: u64) -> Look {
        let count = self.cursors.len();
        let mut is_finished = count > 0;
        let mut gathers_until_ms: Option<u64> = None;
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
                cursor.pace.moved();
                return Look::Gap { place: cursor.place.clone(), requested, resumed, reason };
            }
            if cursor.next < high_watermark {
                match cursor.due(linger, high_watermark, now_ms) {
                    Due::UpTo(up_to) => {
                        self.turn = index + 1;
                        return Look::Readable { index, up_to };
                    }
                    Due::At(due_ms) => gathers_until_ms = gathers_until_ms.into_iter().chain([due_ms]).min(),
                }
            } else {
                cursor.pace.caught_up(requested);
            }
        }
        if is_finished {
            return Look::Finished;
        }
        if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.has_caught_up()) {
            cursor.is_behind = false;
            return Look::CaughtUp { place: cursor.place.clone(), next: cursor.next };
        }
        gathers_until_ms.map_or(Look::Nothing, |until_ms| Look::Gathering { until_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use capek_state::stream::Credit;
    use capek_wire::ids::Uuid;

    use super::*;

    const AT_ONCE: Linger = Linger { for_ms: 0, full: Credit::UNLIMITED };

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
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 0, up_to: 2 }, "nothing is wanted of the other");
        cursors.advance(0, 2, 0);
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Finished);
        assert_eq!(
            Cursors::<Source>::default().look(AT_ONCE, 0),
            Look::Nothing,
            "one without partitions waits for some"
        );
    }

    #[test]
    fn partitions_take_turns_and_each_catches_up_once() {
        let mut cursors = Cursors::default();
        let sources = [source(0, 2), source(0, 2)];
        for (partition, source) in sources.iter().enumerate() {
            cursors.add(cursor(partition as i32, source.clone(), 0));
        }
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 0, up_to: 2 });
        cursors.advance(0, 1, 0);
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 1, up_to: 2 });
        cursors.advance(1, 2, 0);
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 0, up_to: 2 });
        assert_eq!(cursors.lag(), 1);
        cursors.advance(0, 2, 0);
        assert_eq!(cursors.look(AT_ONCE, 0), Look::CaughtUp { place: place(0), next: 2 });
        assert_eq!(cursors.look(AT_ONCE, 0), Look::CaughtUp { place: place(1), next: 2 });
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Nothing);
        sources[1].0.set((0, 3, false));
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 1, up_to: 3 });
        cursors.advance(1, 3, 0);
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Nothing, "a live record is no news of having caught up");
    }

    #[test]
    fn what_comes_to_one_that_has_everything_is_gathered() {
        let linger = Linger { for_ms: 10, ..AT_ONCE };
        let sources = [source(0, 0), source(0, 0)];
        let mut cursors = Cursors::default();
        for (partition, source) in sources.iter().enumerate() {
            cursors.add(cursor(partition as i32, source.clone(), 0));
        }
        assert_eq!(cursors.look(linger, 0), Look::CaughtUp { place: place(0), next: 0 });
        sources[0].0.set((0, 1, false));
        assert_eq!(cursors.look(linger, 1), Look::CaughtUp { place: place(1), next: 0 }, "the other waits for nothing");
        assert_eq!(cursors.look(linger, 2), Look::Gathering { until_ms: 11 });
        sources[1].0.set((0, 1, false));
        assert_eq!(cursors.look(linger, 5), Look::Gathering { until_ms: 11 }, "the one that waits longest");
        sources[0].0.set((0, 3, false));
        assert_eq!(cursors.look(linger, 11), Look::Readable { index: 0, up_to: 3 });
        cursors.advance(0, 3, 0);
        assert_eq!(cursors.look(linger, 12), Look::Gathering { until_ms: 15 });
    }

    #[test]
    fn an_end_that_is_there_is_not_waited_for() {
        let linger = Linger { for_ms: 10, ..AT_ONCE };
        let source = source(0, 0);
        let mut cursors = Cursors::default();
        cursors.add(Cursor { end: Some(2), ..cursor(0, source.clone(), 0) });
        assert_eq!(cursors.look(linger, 0), Look::CaughtUp { place: place(0), next: 0 });
        source.0.set((0, 1, false));
        assert_eq!(cursors.look(linger, 1), Look::Gathering { until_ms: 11 });
        source.0.set((0, 7, false));
        assert_eq!(cursors.look(linger, 2), Look::Readable { index: 0, up_to: 2 });
    }

    #[test]
    fn a_position_outside_the_log_is_a_gap() {
        let check = |next, expected: Look| {
            let mut cursors = Cursors::default();
            cursors.add(cursor(7, source(10, 20), next));
            assert_eq!(cursors.look(AT_ONCE, 0), expected);
            assert!(!matches!(cursors.look(AT_ONCE, 0), Look::Gap { .. }), "it is told once");
        };
        check(3, Look::Gap { place: place(7), requested: 3, resumed: 10, reason: GapReason::Retention });
        check(30, Look::Gap { place: place(7), requested: 30, resumed: 20, reason: GapReason::Truncation });
        check(10, Look::Readable { index: 0, up_to: 20 });
        check(20, Look::CaughtUp { place: place(7), next: 20 });
    }

    #[test]
    fn a_deleted_topic_is_noticed_and_seek_goes_where_it_is_told() {
        let mut cursors = Cursors::default();
        let source = source(0, 5);
        cursors.add(cursor(0, source.clone(), 5));
        assert!(cursors.seek(&place(0), 2) && !cursors.seek(&place(1), 2));
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Readable { index: 0, up_to: 5 });
        source.0.set((0, 5, true));
        assert_eq!(cursors.look(AT_ONCE, 0), Look::Deleted { place: place(0) });
    }
}
