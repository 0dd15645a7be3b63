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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Append { end_offset: i64 },
    Truncate,
    LogStart,
    Delete,
    Barrier { token: u64 },
}

/// One log's history. The first state is the last that was confirmed.
#[derive(Clone, Debug)]
pub struct Model {
    pub is_async: bool,
    states: Vec<State>,
    /// The step that leads from each state to the next.
    steps: Vec<Step>,
}

impl State {
    fn empty_at(offset: i64) -> State {
        State { exists: true, log_start: offset, end: offset, batches: Vec::new() }
    }

    /// What a reader gets from the log start on.
    pub fn content(&self) -> Vec<u8> {
        self.batches.iter().filter(|batch| batch.1 > self.log_start).flat_map(|batch| batch.2.to_vec()).collect()
    }

    fn with_batch(&self, base_offset: i64, next_offset: i64, batch: Bytes) -> State {
        let mut next = self.clone();
        next.batches.push((base_offset, next_offset, batch));
        next.end = next_offset;
        next
    }

    fn after(&self, entry: &Entry) -> State {
        let mut next = self.clone();
        match entry {
            Entry::Truncate { end_offset, .. } if *end_offset < self.end => {
                let removed = self.batches.iter().find(|batch| batch.1 > *end_offset);
                next.batches.retain(|batch| batch.1 <= *end_offset);
                next.end = match (next.batches.last(), removed) {
                    (Some(last), _) => last.1,
                    (None, Some(removed)) => removed.0.min(*end_offset),
                    (None, None) => *end_offset,
                };
                next.log_start = next.log_start.min(next.end);
            }
            Entry::LogStart { offset, .. } if *offset > self.end => next = State::empty_at(*offset),
            Entry::LogStart { offset, .. } if *offset > self.log_start => {
                next.log_start = *offset;
                next.batches.retain(|batch| batch.1 > *offset);
            }
            Entry::Delete { .. } => next = State::default(),
            _ => {}
        }
        next
    }
}

impl Model {
    pub fn new(is_async: bool) -> Model {
        Model { is_async, states: vec![State::default()], steps: Vec::new() }
    }

    /// As everything that was issued leaves it.
    pub fn last(&self) -> &State {
        self.states.last().expect("there is always one")
    }

    /// It is being made: from now on it may be there.
    pub fn creating(&mut self) {
        self.states.push(State::empty_at(0));
        self.steps.push(Step::Truncate);
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
            Entry::Configure { .. } => return,
        };
        self.states.push(self.last().after(entry));
        self.steps.push(step);
    }

    /// Before it is confirmed, an append may survive in part: each batch is a step.
    fn issue_batches(&mut self, appended: &[Bytes]) {
        for bytes in appended {
            for (position, header) in batches(bytes).map(Result::unwrap) {
                let batch = bytes.slice(position..position + header.size_bytes());
                self.states.push(self.last().with_batch(header.base_offset, header.next_offset(), batch));
                self.steps.push(Step::Append { end_offset: header.next_offset() });
            }
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
            Outcome::Truncated => self.expect(Step::Truncate),
            Outcome::LogStartDurable { .. } => self.expect(Step::LogStart),
            Outcome::Deleted => self.expect(Step::Delete),
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
        if !self.states.iter().chain(&self.skipping_states()).any(is_allowed) {
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
                let content = Bytes::from(content);
                let each = batches(&content).map(Result::unwrap);
                let batches = each
                    .map(|(at, header)| {
                        (header.base_offset, header.next_offset(), content.slice(at..at + header.size_bytes()))
                    })
                    .collect();
                State { exists: true, log_start, end, batches }
            }
        };
        *self = Model { states: vec![state], ..Model::new(self.is_async) };
    }
}
