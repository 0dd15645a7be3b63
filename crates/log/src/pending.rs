//! What a segment has in the journal but not in its file yet: small appends gather here, and go into the file together.
//!
//! ```text
//!  file    |################|
//!  chunks                   |####|##|      frozen: a helper may be writing them into the file
//!  tail                             |###|  grows with each round
//!          0             written     size_bytes of the segment
//! ```
//!
//! Until they are written the journal is the log, and readers take them from here. Whoever writes them may do so at the same
//! time as another: the bytes and the places are the same. A cut must not meet a writer: the journal waits for its helper.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// So much gathers for one segment before it is written.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 10;

pub(crate) struct Pending(Mutex<State>);

#[derive(Default)]
struct State {
    written: u64,
    chunks: Vec<Bytes>,
    tail: BytesMut,
    /// The segment's files are removed, or are about to be: nothing may make them again.
    is_gone: bool,
}

/// All that was pending at one moment.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The file holds everything below this position.
    pub written: u64,
    pub chunks: Vec<Bytes>,
}

impl Snapshot {
    pub fn len_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// What of `position..position + length` is pending, which is the end of it.
    pub fn copy_into(&self, target: &mut Vec<u8>, position: u64, length: usize) {
        copy_range(target, self.written, self.chunks.iter().map(|chunk| &chunk[..]), position, length);
    }
}

impl State {
    fn len_bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }
}

impl Pending {
    /// Everything below `written` is in the file.
    pub fn new(written: u64) -> Pending {
        Pending(Mutex::new(State { written, ..State::default() }))
    }

    /// What a segment that was cut at `position` has of another's.
    pub fn cut_from(snapshot: Snapshot, position: u64) -> Pending {
        let mut tail = BytesMut::new();
        let mut left = usize::try_from(position.saturating_sub(snapshot.written)).unwrap_or(usize::MAX);
        for chunk in &snapshot.chunks {
            let kept = chunk.len().min(left);
            tail.extend_from_slice(&chunk[..kept]);
            left -= kept;
        }
        Pending(Mutex::new(State { written: snapshot.written.min(position), tail, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len_bytes(&self) -> usize {
        self.state().len_bytes()
    }

    /// Adds to the end.
    pub fn push(&self, slices: &[io::IoSlice<'_>]) {
        let mut state = self.state();
        assert!(!state.is_gone, "an append to a segment whose files go");
        for slice in slices {
            state.tail.extend_from_slice(slice);
        }
    }

    /// All that is pending, to be written; `None` when nothing is, or when it is no longer wanted.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let snapshot = self.snapshot_or_empty();
        (!snapshot.chunks.is_empty()).then_some(snapshot)
    }

    /// The same for who reads or cuts: where the file ends counts, too, and both are of one moment.
    pub fn snapshot_or_empty(&self) -> Snapshot {
        let mut state = self.state();
        if !state.tail.is_empty() {
            let frozen = state.tail.split().freeze();
            state.chunks.push(frozen);
        }
        Snapshot { written: state.written, chunks: state.chunks.clone() }
    }

    /// Everything below `position` is in the file now; returns how many bytes that were pending are so no longer.
    pub fn note_written(&self, position: u64) -> usize {
        let mut state = self.state();
        let mut freed = 0;
        while let Some(first) = state.chunks.first()
            && state.written + first.len() as u64 <= position
        {
            freed += first.len();
            state.written += first.len() as u64;
            state.chunks.remove(0);
        }
        if state.chunks.is_empty() && state.written + state.tail.len() as u64 <= position {
            freed += state.tail.len();
            state.tail = BytesMut::new();
            state.written = position;
        }
        freed
    }

    /// The segment goes; returns how many bytes were pending.
    pub fn discard(&self) -> usize {
        let mut state = self.state();
        let freed = state.len_bytes();
        state.is_gone = true;
        state.chunks.clear();
        state.tail = BytesMut::new();
        freed
    }

    /// The file's end, and a copy of what lies beyond it of `position..position + length`.
    pub fn read(&self, position: u64, length: usize) -> (u64, Vec<u8>) {
        let state = self.state();
        let pieces = state.chunks.iter().map(|chunk| &chunk[..]).chain(std::iter::once(&state.tail[..]));
        let mut copy = Vec::new();
        copy_range(&mut copy, state.written, pieces, position, length);
        (state.written, copy)
    }
}

fn copy_range<'a>(
    target: &mut Vec<u8>,
    start: u64,
    pieces: impl Iterator<Item = &'a [u8]>,
    position: u64,
    length: usize,
) {
    let end = position.saturating_add(length as u64);
    let mut at = start;
    for piece in pieces {
        let from = position.saturating_sub(at).min(piece.len() as u64) as usize;
        let to = end.saturating_sub(at).min(piece.len() as u64) as usize;
        if from < to {
            target.extend_from_slice(&piece[from..to]);
        }
        at += piece.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    fn pushed(pending: &Pending, bytes: &[u8]) {
        pending.push(&[IoSlice::new(bytes)]);
    }

    #[test]
    fn what_is_pending_is_read_behind_what_is_written() {
        let pending = Pending::new(100);
        pushed(&pending, b"abc");
        assert!(pending.snapshot().is_some());
        pushed(&pending, b"def");
        assert_eq!(pending.read(90, 12), (100, b"ab".to_vec()));
        assert_eq!(pending.read(101, 4), (100, b"bcde".to_vec()));
        assert_eq!(pending.read(104, 100), (100, b"ef".to_vec()));
        assert_eq!(pending.read(0, 100), (100, Vec::new()));
    }

    #[test]
    fn a_helper_and_the_journal_may_write_the_same() {
        let pending = Pending::new(0);
        pushed(&pending, b"abc");
        let helper = pending.snapshot().expect("something is pending");
        pushed(&pending, b"de");
        let journal = pending.snapshot().expect("more is pending");
        assert_eq!((helper.len_bytes(), journal.len_bytes()), (3, 5));
        assert_eq!(pending.note_written(9), 5, "the journal wrote them, and four bytes more");
        assert_eq!(pending.note_written(3), 0, "the helper is late");
        assert_eq!(pending.read(0, 9), (9, Vec::new()));
    }

    #[test]
    fn what_was_added_while_a_helper_wrote_stays_pending() {
        let pending = Pending::new(10);
        pushed(&pending, b"abc");
        let helper = pending.snapshot().expect("something is pending");
        pushed(&pending, b"de");
        assert_eq!(pending.note_written(helper.written + 3), 3);
        assert_eq!(pending.read(0, 20), (13, b"de".to_vec()));
    }

    #[test]
    fn a_cut_keeps_what_lies_before_it() {
        let pending = Pending::new(10);
        pushed(&pending, b"abc");
        pending.snapshot();
        pushed(&pending, b"def");
        let cut = Pending::cut_from(pending.snapshot_or_empty(), 14);
        assert_eq!(cut.read(0, 100), (10, b"abcd".to_vec()));
        let cut_in_the_file = Pending::cut_from(pending.snapshot_or_empty(), 7);
        assert_eq!(cut_in_the_file.read(0, 100), (7, Vec::new()));
    }

    /// What a reader is given reaches the end that it was told of, whoever writes meanwhile.
    #[test]
    fn no_reader_misses_what_is_written_while_it_looks() {
        use std::sync::atomic::{AtomicU64, Ordering};

        const BYTES: u64 = 200_000;
        let (pending, end) = (Pending::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for position in 1..=BYTES {
                    pushed(&pending, b"x");
                    end.store(position, Ordering::Release);
                    pending.note_written(position);
                }
            });
            while end.load(Ordering::Acquire) < BYTES {
                let end = end.load(Ordering::Acquire);
                let seen = pending.snapshot_or_empty();
                assert!(seen.written + seen.len_bytes() as u64 >= end, "{} of {end}", seen.written);
            }
        });
    }

    #[test]
    fn nothing_of_a_segment_that_is_gone_is_written() {
        let pending = Pending::new(0);
        pushed(&pending, b"abc");
        assert_eq!(pending.discard(), 3);
        assert!(pending.snapshot().is_none());
    }
}
