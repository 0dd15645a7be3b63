//! What a viewer sees of a partition that is faster than it can look: of each key the newest record, and of these the newest
//! so many.
//!
//! ```text
//!   offsets   0   1   2   3   4   5   6         at most 2 records
//!   keys      a   b   a   -   b   b   a
//!             x   x   x   x   x   5   6         dropped: 5 records from 0 to 4
//! ```
//!
//! A record without a key is newer than nothing: only their number drops it.

use std::collections::BTreeMap;
use std::sync::Arc;

use capek_wire::ids::Offset;

use super::Credit;

/// See the head of this file. `R` is a record, whatever that is to whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflation<R> {
    /// What is kept at most; one record is kept whatever its size.
    most: Credit,
    kept: BTreeMap<Offset, Kept<R>>,
    newest: BTreeMap<Arc<[u8]>, Offset>,
    bytes: u64,
    dropped: Option<Dropped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept<R> {
    key: Option<Arc<[u8]>>,
    bytes: u64,
    record: R,
}

/// So many of the records between these offsets do not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    pub first: Offset,
    /// Exclusive.
    pub end: Offset,
    pub count: u64,
}

impl<R> Conflation<R> {
    pub fn new(most: Credit) -> Conflation<R> {
        Conflation { most, kept: BTreeMap::new(), newest: BTreeMap::new(), bytes: 0, dropped: None }
    }

    /// The next record of the partition, which takes so many bytes.
    pub fn add(&mut self, offset: Offset, key: Option<&[u8]>, bytes: u64, record: R) {
        let key = key.map(|key| match self.newest.get_key_value(key) {
            Some((known, older)) => {
                let (known, older) = (known.clone(), *older);
                self.drop_record(older);
                known
            }
            None => Arc::from(key),
        });
        if let Some(key) = &key {
            self.newest.insert(key.clone(), offset);
        }
        self.kept.insert(offset, Kept { key, bytes, record });
        self.bytes += bytes;
        while self.kept.len() > 1 && (self.kept.len() as u64 > self.most.records || self.bytes > self.most.bytes) {
            let Some((oldest, _)) = self.kept.first_key_value() else { return };
            self.drop_record(*oldest);
        }
    }

    fn drop_record(&mut self, offset: Offset) {
        let Some(gone) = self.kept.remove(&offset) else { return };
        self.bytes -= gone.bytes;
        if let Some(key) = gone.key {
            self.newest.remove(&key);
        }
        let (first, end, count) =
            self.dropped.map_or((offset, offset + 1, 0), |dropped| (dropped.first, dropped.end, dropped.count));
        self.dropped = Some(Dropped { first: first.min(offset), end: end.max(offset + 1), count: count + 1 });
    }

    /// All that are kept from this offset on.
    pub fn kept_from(&mut self, offset: Offset) -> impl Iterator<Item = &mut R> {
        self.kept.range_mut(offset..).map(|(_, kept)| &mut kept.record)
    }

    /// What is to be shown, in order, and what is not.
    pub fn finish(self) -> (Vec<R>, Option<Dropped>) {
        (self.kept.into_values().map(|kept| kept.record).collect(), self.dropped)
    }
}
