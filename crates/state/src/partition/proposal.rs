//! How a proposed in-sync set is asked for until its fate is certain.
//!
//! ```text
//!   ask ──▶ refused, and nothing else was asked            nothing comes of it: the leader may take it back
//!       ├─▶ refused, but an earlier asking has no answer   that one may be taken up yet: ask for the set as it is, which
//!       │                                                  moves the partition epoch on and makes all before it void
//!       ├─▶ no answer                                      ask again
//!       └─▶ anything else                                  the image tells
//! ```

use capek_wire::error_code::ErrorCode;

use super::leader::in_sync_refusal_is_final;

/// Which set to ask for, about the same partition epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Proposed,
    /// The in-sync set of the image.
    AsItIs,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// For certain nothing comes of the proposal: the leader may be told.
    Refused,
    AskAgain,
    /// The image has a later record of the partition, or will have.
    Shown,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asking {
    /// Sent to a controller that has not said what became of it.
    unanswered: u32,
    is_withdrawn: bool,
}

impl Asking {
    /// It is sent (once more).
    pub fn ask(&mut self) -> Ask {
        self.unanswered = self.unanswered.saturating_add(1);
        if self.is_withdrawn { Ask::AsItIs } else { Ask::Proposed }
    }

    /// What was sent last has reached nobody who would decide about it, and will not.
    pub fn unheard(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// A controller has decided about what was sent last.
    pub fn answered(&mut self, answer: Result<(), ErrorCode>) -> Fate {
        match answer {
            // It has yet to learn what the leader knows.
            Err(ErrorCode::NotController) => {
                self.unheard();
                Fate::AskAgain
            }
            Err(error) if in_sync_refusal_is_final(error) => {
                self.unheard();
                if self.unanswered == 0 {
                    return Fate::Refused;
                }
                self.is_withdrawn = true;
                Fate::AskAgain
            }
            Ok(()) | Err(_) => Fate::Shown,
        }
    }
}
