//! Where each leader epoch begins: what a follower is told when it asks how far it agrees (OffsetForLeaderEpoch).

/// Epochs and their first offsets, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    pub fn new(entries: Vec<(i32, i64)>) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in entries {
            epochs.note(epoch, start);
        }
        epochs
    }

    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    /// A batch of `epoch` begins at `offset`; `true` when that is news.
    pub fn note(&mut self, epoch: i32, offset: i64) -> bool {
        if epoch < 0 || self.entries.last().is_some_and(|last| epoch <= last.0) {
            return false;
        }
        // An epoch without a batch in this log is forgotten when the next begins at the same place.
        self.entries.retain(|entry| entry.1 < offset);
        self.entries.push((epoch, offset));
        true
    }

    /// Everything from `end_offset` on was cut.
    pub fn cut_end(&mut self, end_offset: i64) {
        self.entries.retain(|entry| entry.1 < end_offset);
    }

    /// Everything before `start_offset` is gone: its epoch begins there.
    pub fn cut_start(&mut self, start_offset: i64) {
        let before = self.entries.partition_point(|entry| entry.1 <= start_offset);
        if before > 0 {
            self.entries.drain(..before - 1);
            self.entries[0].1 = start_offset;
        }
    }

    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.0)
    }

    /// The epoch of the batch that holds `offset`.
    pub fn of(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        after.checked_sub(1).map(|at| self.entries[at].0)
    }

    /// The largest epoch up to `epoch` and where it ends; `(-1, -1)` when that is not known.
    pub fn end_offset(&self, epoch: i32, log_end: i64) -> (i32, i64) {
        if epoch < 0 {
            return (-1, -1);
        }
        if self.latest() == Some(epoch) {
            return (epoch, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.0 <= epoch);
        match (higher.checked_sub(1), self.entries.get(higher)) {
            (_, None) => (-1, -1),
            (None, Some(first)) => (epoch, first.1),
            (Some(floor), Some(next)) => (self.entries[floor].0, next.1),
        }
    }

    /// The same for a client of the leader of `leader_epoch`. That epoch has begun, where the log ends, even if it has no batch
    /// yet; an epoch of which nothing is left ended there, too, if there ever was anything.
    pub fn end_offset_at_leader(&self, epoch: i32, leader_epoch: i32, log_end: i64) -> (i32, i64) {
        match self.latest() {
            _ if epoch == leader_epoch => (epoch, log_end),
            None if (0..leader_epoch).contains(&epoch) => (epoch, log_end),
            Some(latest) if (latest..leader_epoch).contains(&epoch) => (latest, log_end),
            _ => self.end_offset(epoch, log_end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;

    #[test]
    fn epoch_ends_are_where_the_next_begins() {
        let epochs = Epochs::new(vec![(1, 10), (3, 20), (5, 30)]);
        for (asked, answer) in [
            (0, (0, 10)),
            (1, (1, 20)),
            (2, (1, 20)),
            (3, (3, 30)),
            (4, (3, 30)),
            (5, (5, 42)),
            (6, (-1, -1)),
            (-1, (-1, -1)),
        ] {
            assert_eq!(epochs.end_offset(asked, 42), answer, "epoch {asked}");
        }
        assert_eq!(Epochs::default().end_offset(0, 0), (-1, -1));
        for (asked, answer) in
            [(0, (0, 10)), (4, (3, 30)), (5, (5, 42)), (6, (5, 42)), (7, (7, 42)), (8, (-1, -1)), (-1, (-1, -1))]
        {
            assert_eq!(epochs.end_offset_at_leader(asked, 7, 42), answer, "epoch {asked} at the leader of 7");
        }
        assert_eq!((epochs.of(9), epochs.of(10), epochs.of(25), epochs.of(99)), (None, Some(1), Some(3), Some(5)));
    }

    #[test]
    fn nothing_was_cut_from_a_log_that_never_had_a_batch() {
        let empty = Epochs::default();
        let answers = [-1, 0, 1, 2, 3].map(|asked| empty.end_offset_at_leader(asked, 2, 0));
        assert_eq!(answers, [(-1, -1), (0, 0), (1, 0), (2, 0), (-1, -1)]);
    }

    #[test]
    fn cuts_keep_the_epoch_that_holds_the_edge() {
        let mut epochs = Epochs::new(vec![(1, 10), (3, 20), (5, 30)]);
        epochs.cut_end(30);
        assert_eq!(epochs.entries(), [(1, 10), (3, 20)]);
        epochs.cut_start(15);
        assert_eq!(epochs.entries(), [(1, 15), (3, 20)]);
        epochs.cut_start(20);
        assert_eq!(epochs.entries(), [(3, 20)]);
        assert!(!epochs.note(3, 25));
        assert!(epochs.note(4, 25));
    }
}
