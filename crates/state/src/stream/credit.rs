//! What a client has not used up of what it allowed: records and bytes, whichever comes first.

/// See the head of this file. `u64::MAX` is never used up: the socket alone holds such a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    pub records: u64,
    pub bytes: u64,
}

impl Credit {
    pub const UNLIMITED: Credit = Credit { records: u64::MAX, bytes: u64::MAX };
    /// What a client can have at most.
    pub const MAX: Credit = Credit { records: 1 << 20, bytes: 64 << 20 };

    /// Bounded as a grant is.
    pub fn limited(records: u64, bytes: u64) -> Credit {
        Credit { records: records.min(Credit::MAX.records), bytes: bytes.min(Credit::MAX.bytes) }
    }

    pub fn is_used_up(self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    /// One large record may take more than there is.
    pub fn spend(&mut self, records: u64, bytes: u64) {
        if *self != Credit::UNLIMITED {
            self.records = self.records.saturating_sub(records);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    pub fn grant(&mut self, more: Credit) {
        if *self != Credit::UNLIMITED {
            self.records = self.records.saturating_add(more.records).min(Credit::MAX.records);
            self.bytes = self.bytes.saturating_add(more.bytes).min(Credit::MAX.bytes);
        }
    }
}
