//! Subscriptions by regular expression.

use capek_state::group::consumer::TopicInfo;
use capek_wire::ErrorCode;
use capek_wire::messages::ConsumerGroupHeartbeatRequest;

use crate::world::{World, assigned, beat, beat_holding, epoch, join, names, partitions, topic_id};

fn by_regex(member_id: &str, regex: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(regex.into()),
        ..join(member_id, &[])
    }
}

fn topics_1_and_2() -> capek_state::group::consumer::Assignment {
    partitions(1, 0..6).into_iter().chain(partitions(2, 0..6)).collect()
}

#[test]
fn a_member_gets_the_topics_that_match_as_a_whole() {
    let mut world = World::new();
    world.topics.put("xt1", TopicInfo { id: topic_id(8), partition_count: 1 });
    let answer = world.send(&by_regex("a", "t.|nothing"));
    assert_eq!((epoch(&answer), assigned(&answer)), (2, Some(topics_1_and_2())));
}

#[test]
fn names_and_an_expression_add_up() {
    let mut world = World::new();
    let mut request = by_regex("a", "t1");
    request.subscribed_topic_names = names(&["u"]);
    let expected = partitions(1, 0..6).into_iter().chain(partitions(3, 0..3)).collect();
    assert_eq!(assigned(&world.send(&request)), Some(expected));
}

#[test]
fn a_topic_that_comes_later_and_matches_is_assigned() {
    let mut world = World::new();
    world.send(&by_regex("a", "t.*")).expect("a joins");
    world.topics.put("t-new", TopicInfo { id: topic_id(7), partition_count: 2 });
    world.let_assign();
    let answer = world.send(&beat("a", 2));
    let expected = topics_1_and_2().into_iter().chain(partitions(7, 0..2)).collect();
    assert_eq!((epoch(&answer), assigned(&answer)), (3, Some(expected)));
    world.topics.remove("t1");
    world.let_assign();
    let expected = partitions(2, 0..6).into_iter().chain(partitions(7, 0..2)).collect();
    assert_eq!(assigned(&world.send(&beat("a", 3))), Some(expected));
}

#[test]
fn a_member_may_change_its_expression() {
    let mut world = World::new();
    world.send(&by_regex("a", "t.*")).expect("a joins");
    let mut changed = beat("a", 2);
    changed.subscribed_topic_regex = Some("t2|u".into());
    assert_eq!(assigned(&world.send(&changed)), Some(partitions(2, 0..6)), "what both match stays");
    world.let_assign();
    let expected = partitions(2, 0..6).into_iter().chain(partitions(3, 0..3)).collect();
    assert_eq!(assigned(&world.send(&beat_holding("a", 2, &partitions(2, 0..6)))), Some(expected));
}

#[test]
fn an_empty_expression_ends_the_subscription() {
    let mut world = World::new();
    world.send(&by_regex("a", "t.*")).expect("a joins");
    let mut changed = beat("a", 2);
    changed.subscribed_topic_regex = Some("".into());
    changed.subscribed_topic_names = names(&["u"]);
    world.send(&changed).expect("it wants names now");
    world.let_assign();
    assert_eq!(assigned(&world.send(&beat_holding("a", 2, &partitions(1, [])))), Some(partitions(3, 0..3)));
    assert!(!world.group.is_subscribed_to("t1"));
    assert!(world.group.is_subscribed_to("u"));
}

#[test]
fn an_expression_that_nobody_uses_is_forgotten() {
    let mut world = World::new();
    world.send(&by_regex("a", "t.*")).expect("a joins");
    world.send(&by_regex("b", "t.*")).expect("b joins");
    world.send(&beat("a", -1)).expect("a leaves");
    assert!(world.group.is_subscribed_to("t1"));
    world.send(&beat("b", -1)).expect("b leaves");
    assert!(!world.group.is_subscribed_to("t1"));
}

#[test]
fn an_expression_that_does_not_compile_is_refused() {
    let mut world = World::new();
    for regex in ["a(", "[z-a]", "*", "a)(b", "(?<x", &"(a{1000}){1000}".repeat(9)] {
        let (code, message) = world.send(&by_regex("a", regex)).expect_err("it does not compile");
        assert_eq!(code, ErrorCode::InvalidRegularExpression);
        let start = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: ");
        assert!(message.starts_with(&start) && message.ends_with('.') && !message.contains('\n'), "{message}");
    }
    assert!(world.group.is_empty());
}

#[test]
fn alternatives_are_matched_as_a_whole_too() {
    let mut world = World::new();
    world.topics.put("at", TopicInfo { id: topic_id(8), partition_count: 1 });
    assert_eq!(assigned(&world.send(&by_regex("a", "u|a"))), Some(partitions(3, 0..3)));
}
