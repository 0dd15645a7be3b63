//! Heartbeats that do not reach the coordinator: they are answered as it would, and they count.

use capek_state::group::{Beats, Effects, HeartbeatRequest};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use crate::fixtures::{GROUP, SESSION_MS, Shard, text};

fn beat_of(member_id: &str, instance_id: Option<&str>, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        group: text(GROUP),
        member_id: text(member_id),
        instance_id: instance_id.map(Str::from),
        generation,
    }
}

/// A stable group of two, the second of them static, and its beats.
fn steady() -> (Shard, Vec<String>, Beats) {
    let mut shard = Shard::new();
    let requests = [shard.newcomer(), shard.static_member("instance")];
    for request in requests {
        shard.join(request);
    }
    let joined = shard.pass(0).joins;
    let ids: Vec<String> = joined.iter().map(|(_, answer)| answer.member_id.to_string()).collect();
    let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "some")).collect();
    assert_eq!(shard.coordinator.steady(GROUP), None, "nobody has assigned");
    for id in &ids {
        shard.sync(id, 1, &assignments);
    }
    assert_eq!(shard.state(), "Stable");
    let mut beats = Beats::default();
    beats.begin(text(GROUP), shard.coordinator.steady(GROUP).expect("it is stable"));
    (shard, ids, beats)
}

#[test]
fn only_what_the_coordinator_would_say_yes_to_is_answered_without_it() {
    let (shard, ids, mut beats) = steady();
    let requests = [
        (beat_of(&ids[0], None, 1), true),
        (beat_of(&ids[1], Some("instance"), 1), true),
        // The coordinator asks nobody for an instance id who does not say one.
        (beat_of(&ids[1], None, 1), true),
        (beat_of(&ids[1], Some("other"), 1), false),
        (beat_of(&ids[0], Some("instance"), 1), false),
        (beat_of(&ids[0], Some(""), 1), false),
        (beat_of(&ids[0], None, 0), false),
        (beat_of(&ids[0], None, 2), false),
        (beat_of("nobody", None, 1), false),
        (beat_of("", None, 1), false),
        (HeartbeatRequest { group: text("other"), ..beat_of(&ids[0], None, 1) }, false),
        (HeartbeatRequest { group: text(""), ..beat_of(&ids[0], None, 1) }, false),
    ];
    for (request, is_answered) in requests {
        let error = shard.coordinator.clone().heartbeat(shard.now_ms, &request);
        assert_eq!(error == ErrorCode::None, is_answered, "{request:?}");
        assert_eq!(beats.beat(&request, shard.now_ms), is_answered, "{request:?}");
    }
}

#[test]
fn a_member_that_was_told_it_lives_is_not_thrown_out() {
    let (mut shard, ids, mut beats) = steady();
    shard.now_ms += i64::from(SESSION_MS) - 1;
    assert!(beats.beat(&beat_of(&ids[0], None, 1), shard.now_ms));
    shard.now_ms += 1;
    assert_eq!(shard.coordinator.due(shard.now_ms - 1), Vec::<Str>::new());
    assert_eq!(shard.coordinator.due(shard.now_ms), [text(GROUP)]);
    let noted = beats.end(GROUP).expect("it was begun");
    shard.coordinator.beaten(GROUP, &noted);
    assert_eq!(shard.pass(0), Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance", "the other has said nothing");
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    assert_eq!(shard.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_lives_for_a_session_after_its_last_beat_and_not_longer() {
    let (mut shard, ids, mut beats) = steady();
    shard.now_ms += 1_000;
    for id in &ids {
        assert!(beats.beat(&beat_of(id, None, 1), shard.now_ms));
    }
    let noted = beats.end(GROUP).expect("it was begun");
    shard.coordinator.beaten(GROUP, &noted);
    shard.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(shard.state(), "Stable");
    shard.pass(1);
    assert_eq!(shard.state(), "Empty");
}

#[test]
fn what_the_coordinator_heard_later_than_the_last_beat_counts() {
    let (mut shard, ids, mut beats) = steady();
    assert!(beats.beat(&beat_of(&ids[0], None, 1), shard.now_ms));
    shard.now_ms += 5_000;
    let (committed, _) = shard.commit(shard.commit_request(&ids[0], 1, 7));
    assert_eq!(committed, Ok(vec![ErrorCode::None]));
    let noted = beats.end(GROUP).expect("it was begun");
    shard.coordinator.beaten(GROUP, &noted);
    shard.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(shard.state(), "PreparingRebalance", "the other's session is over");
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn nothing_is_answered_for_a_group_that_has_ended_or_rebalances() {
    let (mut shard, ids, mut beats) = steady();
    let noted = beats.end(GROUP).expect("it was begun");
    shard.coordinator.beaten(GROUP, &noted);
    assert!(!beats.beat(&beat_of(&ids[0], None, 1), shard.now_ms));
    assert_eq!(beats.end(GROUP), None);
    let request = shard.newcomer();
    shard.join(request);
    assert_eq!(shard.coordinator.steady(GROUP), None);
    assert_eq!(shard.coordinator.steady("other"), None);
    beats.begin(text(GROUP), noted);
    beats.end_all();
    assert!(!beats.is_steady(GROUP));
}
