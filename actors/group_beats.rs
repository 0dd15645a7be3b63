//! The beats of a shard's groups, where connections note heartbeats without asking the coordinator: two hops between arbiters
//! cost many times what the answer does. What is in there, and what must hold of it, says `state::group::Beats`.
//!
//! A lock, held for a look-up by name: a coordinator that ends a group's beats then knows that nobody notes one more.

use std::sync::{Mutex, MutexGuard, PoisonError};

use capek_state::group::{Beats, HeartbeatRequest, SteadyGroup};
use capek_wire::codec::Str;

use crate::clock::now_ms;

#[derive(Default)]
pub struct GroupBeats(Mutex<Beats>);

impl GroupBeats {
    /// True: the member lives. False: ask the coordinator.
    pub fn beat(&self, request: &HeartbeatRequest) -> bool {
        self.lock().beat(request, now_ms())
    }

    pub fn is_steady(&self, group: &str) -> bool {
        self.lock().is_steady(group)
    }

    pub fn begin(&self, group: Str, steady: SteadyGroup) {
        self.lock().begin(group, steady);
    }

    pub fn end(&self, group: &str) -> Option<SteadyGroup> {
        self.lock().end(group)
    }

    pub fn end_all(&self) {
        self.lock().end_all();
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        // No step of it leaves anything half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
