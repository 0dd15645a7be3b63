//! What a subscription takes of what was read for it: records, batches as they are stored, or of many records the newest.
//!
//! ```text
//!   conflate: begin_sweep ──read, add──▶ … ──all is swept, or it takes too long──▶ gap, records
//! ```
//!
//! A sweep holds what one frame holds. The cursor moves when that is sent: what is dropped before is read again.

use bytes::Bytes;
use capek_state::stream::{Conflation, Credit, Dropped, Linger};
use capek_wire::batch::Record;
use capek_wire::ids::{LeaderEpoch, Offset};

use crate::stream_cursors::{Cursor, GapReason};
use crate::stream_events::{StreamBatches, StreamEvent, StreamRecords};
use crate::stream_records::{Allowance, size_bytes};
use crate::stream_subscription::{ReadAhead, Step, Subscription};

/// The newest records of one partition, while they are looked for.
pub(crate) struct Sweep {
    index: usize,
    conflation: Conflation<Record>,
    next: Offset,
    leader_epoch: LeaderEpoch,
    /// Where it ends; and when, wherever it is then.
    up_to: Offset,
    due_ms: u64,
}

/// Records that were taken out of what was read, as far as they are for this client.
struct Part {
    index: usize,
    records: Vec<Record>,
    next: Offset,
    leader_epoch: LeaderEpoch,
}

impl Subscription {
    pub(crate) fn linger(&self) -> Linger {
        let Allowance { records, bytes } = self.allowance();
        // A viewer looks once in a while, however much there is.
        let full = if self.conflates { Credit::UNLIMITED } else { Credit { records, bytes } };
        Linger { for_ms: self.linger_ms, full }
    }

    fn allowance(&self) -> Allowance {
        Allowance {
            records: self.credit.records.min(self.frame.records),
            bytes: self.credit.bytes.min(self.frame.bytes),
        }
    }

    /// The next of what was read; None when nothing of it is for this client, or not yet.
    pub(crate) fn take_read(&mut self, sequence: &mut u64) -> Option<StreamEvent> {
        if let Some((_, ReadAhead::Stored(_))) = &self.opened {
            return self.take_batches(sequence);
        }
        if self.sweep.is_some() {
            self.sweep_part();
            return None;
        }
        let part = self.take_part(self.allowance())?;
        self.cursors.advance(part.index, part.next, part.leader_epoch);
        self.records_event(part, sequence)
    }

    fn take_batches(&mut self, sequence: &mut u64) -> Option<StreamEvent> {
        let allowance = self.allowance();
        let Some((index, ReadAhead::Stored(stored))) = &mut self.opened else { return None };
        let index = *index;
        let taken = stored.take(allowance);
        let (mut next, leader_epoch, is_empty) = (stored.next(), stored.leader_epoch(), stored.is_empty());
        let Cursor { place, end, next: first, .. } = self.cursors.get(index);
        let (place, first) = (place.clone(), *first);
        let is_over = end.is_some_and(|end| next >= end);
        next = end.map_or(next, |end| next.min(end));
        if is_over || is_empty {
            self.opened = None;
        }
        self.cursors.advance(index, next, leader_epoch);
        if taken.bytes.is_empty() {
            if let Some(group) = &mut self.group {
                group.passed(&place, next);
            }
            return None;
        }
        self.spend(taken.record_count, taken.bytes.len() as u64);
        self.cursors.sent(index, taken.record_count, taken.bytes.len() as u64);
        *sequence += 1;
        if let Some(group) = &mut self.group {
            let offsets = taken.offsets.iter().flat_map(|(first, end)| *first..*end);
            group.delivered(&place, *sequence, offsets, next);
        }
        Some(StreamEvent::Batches(StreamBatches {
            sequence: *sequence,
            high_watermark: self.cursors.get(index).source.high_watermark(),
            place,
            first,
            next,
            batches: taken.bytes,
        }))
    }

    /// What is for this client of what was opened, up to the allowance.
    fn take_part(&mut self, allowance: Allowance) -> Option<Part> {
        let Some((index, ReadAhead::Opened(opened))) = &mut self.opened else { return None };
        let index = *index;
        let mut taken = opened.take(allowance);
        let (mut next, leader_epoch, is_empty) = (opened.next(), opened.leader_epoch(), opened.is_empty());
        let Cursor { place, end, .. } = self.cursors.get(index);
        let is_over = end.is_some_and(|end| next >= end);
        if let Some(end) = end.filter(|_| is_over) {
            taken.records.retain(|record| record.offset < end);
            next = end;
        }
        if is_over || is_empty {
            self.opened = None;
        }
        if let Some(filter) = &self.filter {
            taken.records.retain(|record| filter(place, record));
        }
        if let Some(damaged) = taken.damaged {
            let message = format!("a batch before offset {next} cannot be read: {damaged}");
            let (place, code) = (Some(place.clone()), damaged.error_code());
            self.pending.push_back(StreamEvent::Problem { place, code, message });
        }
        Some(Part { index, records: taken.records, next, leader_epoch })
    }

    /// They are sent: None when there are none.
    fn records_event(&mut self, part: Part, sequence: &mut u64) -> Option<StreamEvent> {
        let Part { index, records, next, .. } = part;
        let place = self.place(index);
        if records.is_empty() {
            if let Some(group) = &mut self.group {
                group.passed(&place, next);
            }
            return None;
        }
        let size_bytes: u64 = records.iter().map(size_bytes).sum();
        self.spend(records.len() as u64, size_bytes);
        self.cursors.sent(index, records.len() as u64, size_bytes);
        *sequence += 1;
        if let Some(group) = &mut self.group {
            group.delivered(&place, *sequence, records.iter().map(|record| record.offset), next);
        }
        Some(StreamEvent::Records(StreamRecords {
            sequence: *sequence,
            high_watermark: self.cursors.get(index).source.high_watermark(),
            place,
            records,
            next,
            size_bytes,
            positions: self.tells_positions.then(|| self.positions()),
        }))
    }

    /// The partition is about to be read up to there. Nothing for those who get every record.
    pub(crate) fn begin_sweep(&mut self, index: usize, up_to: Offset, now_ms: u64) {
        let Allowance { records, bytes } = self.allowance();
        let Cursor { next, leader_epoch, .. } = self.cursors.get(index);
        self.sweep = self.conflates.then(|| Sweep {
            index,
            conflation: Conflation::new(Credit { records, bytes }),
            next: *next,
            leader_epoch: *leader_epoch,
            up_to,
            due_ms: now_ms.saturating_add(self.linger_ms),
        });
    }

    fn sweep_part(&mut self) {
        let Some(part) = self.take_part(Allowance { records: u64::MAX, bytes: self.frame.bytes }) else { return };
        let Some(sweep) = &mut self.sweep else { return };
        let first = sweep.next;
        (sweep.next, sweep.leader_epoch) = (part.next, part.leader_epoch);
        for record in part.records {
            let (key, bytes) = (record.key.clone(), size_bytes(&record));
            sweep.conflation.add(record.offset, key.as_deref(), bytes, record);
        }
        // One small record must not hold all that was read with it.
        sweep.conflation.kept_from(first).for_each(detach);
    }

    /// Reads on, or sends what the newest are.
    pub(crate) fn go_on_sweeping(&mut self, sequence: &mut u64, now_ms: u64) -> Step {
        let Some(sweep) = self.sweep.take_if(|sweep| sweep.next >= sweep.up_to || now_ms >= sweep.due_ms) else {
            return self.sweep.as_ref().map_or(Step::Idle, |sweep| Step::Read {
                index: sweep.index,
                source: self.cursors.get(sweep.index).source.clone(),
                offset: sweep.next,
            });
        };
        let Sweep { index, conflation, next, leader_epoch, .. } = sweep;
        self.cursors.advance(index, next, leader_epoch);
        let (records, dropped) = conflation.finish();
        let Some(event) = self.records_event(Part { index, records, next, leader_epoch }, sequence) else {
            return Step::Passed;
        };
        let Some(Dropped { first, end, count }) = dropped else { return Step::Send(event) };
        self.pending.push_back(event);
        let (place, reason) = (self.place(index), GapReason::Filtered { count });
        Step::Send(StreamEvent::Gap { place, requested: first, resumed: end, reason })
    }
}

/// Into memory of its own.
fn detach(record: &mut Record) {
    let own = |bytes: &mut Bytes| *bytes = Bytes::copy_from_slice(bytes);
    record.key.iter_mut().chain(&mut record.value).for_each(own);
    for header in &mut record.headers {
        own(&mut header.key);
        header.value.iter_mut().for_each(own);
    }
}
