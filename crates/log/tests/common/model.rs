//! What a log may look like after a crash: the states that its operations led through, from the last confirmed one on.

use bytes::Bytes;
use capek_log::{Completion, Entry, Log, Outcome};
use capek_wire::batch::batches;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    pub exists: bool,
    pub log_start: i64,
    pub end: i64,
    pub batches: Vec<(i64, i64, Bytes)>,
    /// Where the last batch ended that is below the log start.
    dropped_end: i64,
    /// Ranges of cleaned segments: a cut that leaves nothing of one ends where it began.
    swaps: Vec<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Append { end_offset: i64 },
    Truncate,
    LogStart,
    Delete,
    Swap,
    Barrier { token: u64 },
}

/// What leads from one state to the next.
#[derive(Clone, Debug)]
enum Change {
    Create,
    Batch(i64, i64, Bytes),
    Entry(Entry),
    Swap { base_offset: i64, end_offset: i64, bytes: Bytes },
}

/// One log's history. The first state is the last that was confirmed.
#[derive(Clone, Debug)]
pub struct Model {
    pub is_async: bool,
    states: Vec<State>,
    /// The step that leads from each state to the next.
    steps: Vec<Step>,
    changes: Vec<Change>,
}

/// The batches in `bytes` with their offsets.
fn split(bytes: &Bytes) -> Vec<(i64, i64, Bytes)> {
    let each = batches(bytes).map(Result::unwrap);
    each.map(|(at, header)| (header.base_offset, header.next_offset(), bytes.slice(at..at + header.size_bytes())))
        .collect()
}

impl State {
    fn empty_at(offset: i64) -> State {
        State { exists: true, log_start: offset, end: offset, dropped_end: offset, ..State::default() }
    }

    /// What a reader gets from the log start on.
    pub fn content(&self) -> Vec<u8> {
        self.batches.iter().filter(|batch| batch.1 > self.log_start).flat_map(|batch| batch.2.to_vec()).collect()
    }

    fn after(&self, change: &Change) -> State {
        let mut next = self.clone();
        match change {
            Change::Create => next = State::empty_at(0),
            Change::Batch(base_offset, next_offset, batch) => {
                next.batches.push((*base_offset, *next_offset, batch.clone()));
                next.end = *next_offset;
            }
            Change::Entry(entry) => next.apply(entry),
            Change::Swap { base_offset, end_offset, bytes } => {
                let at = next.batches.partition_point(|batch| batch.0 < *base_offset);
                next.batches.retain(|batch| !(*base_offset..*end_offset).contains(&batch.0));
                let (below, new): (Vec<_>, Vec<_>) =
                    split(bytes).into_iter().partition(|batch| batch.1 <= self.log_start);
                if (*base_offset..*end_offset).contains(&self.log_start) {
                    next.dropped_end = below.last().map_or(*base_offset, |batch| batch.1);
                }
                next.batches.splice(at..at, new);
                next.swaps.push((*base_offset, *end_offset));
            }
        }
        next
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Truncate { end_offset, .. } if *end_offset < self.end => {
                let removed = self.batches.iter().find(|batch| batch.1 > *end_offset).map(|removed| removed.0);
                self.batches.retain(|batch| batch.1 <= *end_offset);
                self.end = match (self.batches.last(), removed) {
                    (Some(last), _) => last.1,
                    (None, Some(removed)) => self.begin_of(removed).min(*end_offset),
                    (None, None) => *end_offset,
                };
                self.log_start = self.log_start.min(self.end);
            }
            Entry::LogStart { offset, .. } if *offset > self.end => *self = State::empty_at(*offset),
            Entry::LogStart { offset, .. } if *offset > self.log_start => {
                self.log_start = *offset;
                let dropped = self.batches.iter().map(|batch| batch.1).filter(|next_offset| *next_offset <= *offset);
                self.dropped_end = dropped.max().unwrap_or(self.dropped_end);
                self.batches.retain(|batch| batch.1 > *offset);
            }
            Entry::Delete { .. } => *self = State::default(),
            _ => {}
        }
    }

    /// Where the files end when the batch at `offset` and all after it go, and nothing before it is left.
    fn begin_of(&self, offset: i64) -> i64 {
        let swap = self.swaps.iter().rev().find(|swap| (swap.0..swap.1).contains(&offset));
        swap.map_or(offset, |swap| swap.0.max(self.dropped_end))
    }
}

impl Model {
    pub fn new(is_async: bool) -> Model {
        Model { is_async, states: vec![State::default()], steps: Vec::new(), changes: Vec::new() }
    }

    /// As everything that was issued leaves it.
    pub fn last(&self) -> &State {
        self.states.last().expect("there is always one")
    }

    pub fn confirmed_end(&self) -> i64 {
        self.states[0].end
    }

    /// It is being made: from now on it may be there.
    pub fn creating(&mut self) {
        self.push(Step::Truncate, Change::Create);
    }

    pub fn created(&mut self) {
        self.confirm(self.steps.len());
    }

    pub fn issue(&mut self, entry: &Entry) {
        let step = match entry {
            Entry::Append { batches, .. } => return self.issue_batches(batches),
            Entry::Truncate { .. } => Step::Truncate,
            Entry::LogStart { .. } => Step::LogStart,
            Entry::Delete { .. } => Step::Delete,
            Entry::Barrier { token, .. } => Step::Barrier { token: *token },
            Entry::Configure { .. } | Entry::CleanedTo { .. } => return,
            Entry::Swap { .. } => panic!("it comes with what it has written"),
        };
        self.push(step, Change::Entry(entry.clone()));
    }

    /// A cleaned segment shall take its place.
    pub fn issue_swap(&mut self, base_offset: i64, end_offset: i64, bytes: Bytes) {
        self.push(Step::Swap, Change::Swap { base_offset, end_offset, bytes });
    }

    /// Before it is confirmed, an append may survive in part: each batch is a step.
    fn issue_batches(&mut self, appended: &[Bytes]) {
        for (base_offset, end_offset, batch) in appended.iter().flat_map(split) {
            self.push(Step::Append { end_offset }, Change::Batch(base_offset, end_offset, batch));
        }
    }

    fn push(&mut self, step: Step, change: Change) {
        self.states.push(self.last().after(&change));
        self.steps.push(step);
        self.changes.push(change);
    }

    /// The first step was not done: what follows goes on from before it.
    fn refuse(&mut self) {
        self.expect(Step::Swap);
        self.steps.remove(0);
        self.changes.remove(0);
        self.states.truncate(1);
        for change in &self.changes {
            self.states.push(self.states.last().expect("there is always one").after(change));
        }
    }

    /// Completions come in the order of the entries.
    pub fn complete(&mut self, completion: &Completion) {
        let count = match &completion.outcome {
            Outcome::Flushed { end_offset: flushed } => {
                let is_covered = |step: &&Step| matches!(step, Step::Append { end_offset } if end_offset <= flushed);
                let count = self.steps.iter().take_while(is_covered).count();
                assert!(count > 0, "{flushed} was not asked for: {:?}", self.steps);
                count
            }
            Outcome::Written { .. } => return,
            Outcome::Truncated => self.expect(Step::Truncate),
            Outcome::LogStartDurable { .. } => self.expect(Step::LogStart),
            Outcome::Deleted => self.expect(Step::Delete),
            Outcome::Swapped => self.expect(Step::Swap),
            Outcome::SwapRefused => return self.refuse(),
            Outcome::Drained { token, end_offset } => {
                assert_eq!(*end_offset, self.states[0].end, "drained");
                self.expect(Step::Barrier { token: *token })
            }
            Outcome::AppendFailed { error, .. } => panic!("the append failed: {error}"),
        };
        self.confirm(count);
    }

    fn expect(&self, step: Step) -> usize {
        assert_eq!(self.steps.first(), Some(&step), "out of order: {:?}", self.steps);
        1
    }

    fn confirm(&mut self, count: usize) {
        self.states.drain(..count);
        self.steps.drain(..count);
        self.changes.drain(..count);
    }

    /// What is not confirmed may survive in part: a new log start, too, without the appends of the same round that went past
    /// the journal.
    fn skipping_states(&self) -> Vec<State> {
        let mut skipping = Vec::new();
        for (at, state) in self.states.iter().enumerate() {
            let is_plain = |step: &&Step| matches!(step, Step::Append { .. } | Step::LogStart | Step::Barrier { .. });
            let count = self.steps[at..].iter().take_while(is_plain).count();
            for later in &self.states[at..=at + count] {
                if state.exists && later.log_start > state.end {
                    skipping.push(State::empty_at(later.log_start));
                } else if state.exists && later.log_start > state.log_start {
                    skipping.push(State { log_start: later.log_start, ..state.clone() });
                }
            }
        }
        skipping
    }

    /// Whether this is a state that a crash may leave; from here on it is the only one.
    pub fn check_after_crash(&mut self, found: Option<&Log>) {
        let found = found.map(|log| (log.log_start(), log.end_offset(), super::content(log)));
        let is_allowed = |state: &State| match &found {
            // One that was made and never written to is made again by whoever wants it.
            None => !state.exists || (state.log_start, state.end) == (0, 0),
            Some((log_start, end, content)) if self.is_async => {
                let whole = state.content();
                let is_prefix = whole.starts_with(content) && *end <= state.end.max(state.log_start);
                state.exists && *log_start == state.log_start && is_prefix
            }
            Some((log_start, end, content)) => {
                state.exists && *log_start == state.log_start && *end == state.end && *content == state.content()
            }
        };
        let skipping = self.skipping_states();
        let matching = self.states.iter().chain(&skipping).rfind(|state| is_allowed(state)).cloned();
        if matching.is_none() {
            let found = found.map(|(log_start, end, content)| (log_start, end, super::base_offsets(&content)));
            let states: Vec<_> = self
                .states
                .iter()
                .map(|state| (state.exists, state.log_start, state.end, super::base_offsets(&state.content())))
                .collect();
            panic!("found {found:?}, allowed are {states:?} by {:?}", self.steps);
        }
        let state = match found {
            None => State::default(),
            Some((log_start, end, content)) => {
                let batches = split(&Bytes::from(content));
                State { exists: true, log_start, end, batches, ..matching.expect("it was found") }
            }
        };
        *self = Model { states: vec![state], ..Model::new(self.is_async) };
    }
}
