//! A coordinator with its [`Beats`], as it is used: most heartbeats do not reach it. Beside it a second one that every
//! heartbeat does reach, to compare: nobody may be able to tell them apart.

use std::fmt::Debug;
use std::ops::Deref;

use capek_state::group::{Beats, CommitRequest, Coordinator, Effects, Group, HeartbeatRequest};
use capek_wire::error_code::ErrorCode;

use crate::fixtures::GROUP;

#[derive(Clone)]
pub struct WithBeats {
    coordinator: Coordinator,
    beats: Beats,
    /// Hears every heartbeat itself.
    other: Coordinator,
}

impl Deref for WithBeats {
    type Target = Coordinator;

    fn deref(&self) -> &Coordinator {
        &self.coordinator
    }
}

impl WithBeats {
    pub fn new(coordinator: Coordinator) -> WithBeats {
        WithBeats { other: coordinator.clone(), coordinator, beats: Beats::default() }
    }

    pub fn heartbeat(&mut self, now_ms: i64, request: &HeartbeatRequest) -> ErrorCode {
        let expected = self.other.heartbeat(now_ms, request);
        if self.beats.beat(request, now_ms) {
            assert_eq!(expected, ErrorCode::None, "{request:?} was taken for granted");
            return ErrorCode::None;
        }
        let error = self.coordinator.heartbeat(now_ms, request);
        assert_eq!(error, expected, "{request:?}");
        self.begin();
        error
    }

    /// What does not touch the members but for the time of one.
    pub fn commit(
        &mut self,
        now_ms: i64,
        request: CommitRequest,
        effects: &mut Effects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let expected = self.other.commit_offsets(now_ms, request.clone(), &mut Effects::default());
        let committed = self.coordinator.commit_offsets(now_ms, request, effects);
        assert_eq!(committed, expected);
        committed
    }

    pub fn tick(&mut self, now_ms: i64, effects: &mut Effects) {
        assert!(
            self.coordinator.next_deadline_ms() <= self.other.next_deadline_ms(),
            "something is looked at too late"
        );
        if self.coordinator.due(now_ms).is_empty() {
            return self.both(effects, |coordinator, effects| coordinator.tick(now_ms, effects));
        }
        self.change(effects, |coordinator, effects| coordinator.tick(now_ms, effects));
    }

    /// What may change the group.
    pub fn change<T: PartialEq + Debug>(
        &mut self,
        effects: &mut Effects,
        work: impl Fn(&mut Coordinator, &mut Effects) -> T,
    ) -> T {
        if let Some(steady) = self.beats.end(GROUP) {
            self.coordinator.beaten(GROUP, &steady);
        }
        let done = self.both(effects, work);
        let group = |coordinator: &Coordinator| coordinator.group(GROUP).map(|group: &Group| group.kind.clone());
        assert_eq!(group(&self.coordinator), group(&self.other));
        self.begin();
        done
    }

    fn both<T: PartialEq + Debug>(
        &mut self,
        effects: &mut Effects,
        work: impl Fn(&mut Coordinator, &mut Effects) -> T,
    ) -> T {
        let mut of_other = Effects::default();
        let expected = work(&mut self.other, &mut of_other);
        let mut of_this = Effects::default();
        let done = work(&mut self.coordinator, &mut of_this);
        assert_eq!((&done, &of_this), (&expected, &of_other));
        effects.records.append(&mut of_this.records);
        effects.joins.append(&mut of_this.joins);
        effects.syncs.append(&mut of_this.syncs);
        done
    }

    fn begin(&mut self) {
        if !self.beats.is_steady(GROUP)
            && let Some(steady) = self.coordinator.steady(GROUP)
        {
            self.beats.begin(GROUP.into(), steady);
        }
    }
}
