//! A leader and its followers: who is in sync, what that commits, and who is answered. Exact effects.

use capek_state::partition::{
    Admitted, Effect, Leader, LeaderStart, ReplicaSet, ReplyId, Wait, in_sync_refusal_is_final,
};
use capek_wire::ErrorCode;
use capek_wire::ids::BrokerId;

use crate::fixtures::{assert_refused, batch, context, topic_config};

const FIRST: ReplyId = ReplyId(1);
const SECOND: ReplyId = ReplyId(2);
const LAG_MAX_MS: i64 = 1_000;
/// The broker epoch of broker 2 is 20, that of broker 3 is 30; a later life adds one.
const LIFE: i64 = 10;

struct World {
    leader: Leader,
    now_ms: i64,
}

fn set(in_sync: &[BrokerId], partition_epoch: i32) -> ReplicaSet {
    ReplicaSet { me: 1, replicas: vec![1, 2, 3], in_sync: in_sync.to_vec(), partition_epoch }
}

/// Broker 1 leads in epoch 7; its log holds 10 records, of which 8 are known to be committed; partition epoch 4.
fn world(in_sync: &[BrokerId]) -> World {
    begun_again(in_sync, &[])
}

/// The same, after an incarnation that has proposed something.
fn begun_again(in_sync: &[BrokerId], proposed: &[BrokerId]) -> World {
    let leader = Leader::new(LeaderStart {
        epoch: 7,
        replicas: set(in_sync, 4),
        proposed: proposed.to_vec(),
        in_sync_min: 2,
        now_ms: 0,
        log_start: 0,
        epoch_start: 10,
        log_end: 10,
        flushed_end: 10,
        high_watermark: 8,
        producers: Vec::new(),
    });
    World { leader, now_ms: 0 }
}

fn advance(offset: i64) -> Effect {
    Effect::AdvanceHighWatermark(offset)
}

fn propose(members: &[BrokerId], partition_epoch: i32) -> Effect {
    let epoch_of = |broker: &BrokerId| if *broker == 1 { -1 } else { i64::from(*broker) * LIFE };
    Effect::ProposeInSync {
        members: members.iter().map(|broker| (*broker, epoch_of(broker))).collect(),
        partition_epoch,
    }
}

impl World {
    fn does(&mut self, work: impl FnOnce(&mut Leader, i64, &mut Vec<Effect>)) -> Vec<Effect> {
        let mut effects = Vec::new();
        work(&mut self.leader, self.now_ms, &mut effects);
        effects
    }

    fn fetched(&mut self, from: BrokerId, offset: i64) -> Vec<Effect> {
        self.fetched_in(from, i64::from(from) * LIFE, offset)
    }

    fn fetched_in(&mut self, from: BrokerId, broker_epoch: i64, offset: i64) -> Vec<Effect> {
        self.does(|leader, now_ms, effects| leader.follower_fetched(from, broker_epoch, offset, now_ms, effects))
    }

    fn follower_flushed(&mut self, from: BrokerId, end_offset: i64) -> Vec<Effect> {
        let broker_epoch = i64::from(from) * LIFE;
        self.does(|leader, _, effects| leader.follower_flushed(from, broker_epoch, end_offset, effects))
    }

    /// The follower fetches from there, and has flushed all before.
    fn holds(&mut self, from: BrokerId, offset: i64) -> Vec<Effect> {
        let mut effects = self.fetched(from, offset);
        effects.extend(self.follower_flushed(from, offset));
        effects
    }

    fn flushed(&mut self, end_offset: i64) -> Vec<Effect> {
        self.does(|leader, _, effects| leader.flushed(end_offset, effects))
    }

    fn review(&mut self) -> Vec<Effect> {
        self.does(|leader, now_ms, effects| leader.review_in_sync(LAG_MAX_MS, now_ms, effects))
    }

    fn commits(&mut self, set: &ReplicaSet) -> Vec<Effect> {
        self.does(|leader, now_ms, effects| leader.in_sync_changed(set, now_ms, effects))
    }

    fn refuses(&mut self, partition_epoch: i32) -> Vec<Effect> {
        self.does(|leader, now_ms, effects| leader.in_sync_refused(partition_epoch, now_ms, effects))
    }

    /// Appends records as one entry of the journal; where they end.
    fn append(&mut self, record_count: i32) -> i64 {
        let config = topic_config(&[("min.insync.replicas", "1")]);
        match self.leader.admit(&batch(record_count), &context(&config)) {
            Ok(Admitted::Append { end_offset, .. }) => {
                self.leader.submitted(self.now_ms);
                end_offset
            }
            other => panic!("{other:?}"),
        }
    }

    fn in_sync(&self) -> Vec<BrokerId> {
        self.leader.in_sync().collect()
    }
}

#[test]
fn the_high_watermark_waits_for_what_every_in_sync_replica_has_flushed() {
    let mut world = world(&[1, 2, 3]);
    assert_eq!(world.holds(2, 10), []);
    assert_eq!(world.fetched(3, 10), [], "fetched is not flushed");
    assert_eq!(world.follower_flushed(3, 9), [advance(9)]);
    assert_eq!(world.follower_flushed(3, 10), [advance(10)]);
    assert_eq!(world.append(2), 12);
    assert_eq!(world.holds(2, 12), []);
    assert_eq!(world.holds(3, 12), [], "the leader's own flush counts too");
    assert_eq!(world.flushed(12), [advance(12)]);
}

#[test]
fn a_replica_out_of_sync_is_not_waited_for() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.holds(3, 0), []);
    assert_eq!(world.holds(2, 10), [advance(10)]);
}

#[test]
fn a_follower_whose_broker_is_gone_is_not_proposed_until_it_speaks_again() {
    let mut world = world(&[1, 2, 3]);
    assert_eq!(world.holds(2, 10), []);
    assert_eq!(world.holds(3, 10), [advance(10)]);
    assert!(!world.leader.follower_left(3), "what it holds counts while it is in sync");
    assert_eq!(world.commits(&set(&[1, 2], 5)), []);
    assert!(world.leader.follower_left(3));
    assert_eq!(world.review(), [], "the controller would refuse it, again and again");
    assert_eq!(world.holds(3, 10), []);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 5)]);
    assert!(!world.leader.follower_left(3), "it is waited for until the controller has said no");
    assert_eq!(world.append(1), 11);
    assert_eq!(world.flushed(11), []);
    assert_eq!(world.holds(2, 11), []);
    assert_eq!(world.refuses(5), [advance(11)]);
    assert!(world.leader.follower_left(3));
}

#[test]
fn nothing_is_committed_while_too_few_are_in_sync() {
    let mut world = world(&[1]);
    assert_eq!(world.append(1), 11);
    assert_eq!(world.flushed(11), [], "min.insync.replicas is 2");
    assert!(world.leader.park(11, FIRST, Wait::Committed), "what was admitted before waits");
    assert_eq!(
        world.does(|leader, _, effects| leader.set_in_sync_min(1, effects)),
        [advance(11), Effect::Reply(FIRST)]
    );
}

#[test]
fn all_acks_are_refused_before_the_append_while_too_few_are_in_sync() {
    let mut world = world(&[1]);
    let config = topic_config(&[("min.insync.replicas", "2")]);
    let refused = world.leader.admit(&batch(1), &context(&config));
    let message = "1 of 3 replicas are in sync, fewer than the 2 needed";
    assert_refused(refused, ErrorCode::NotEnoughReplicas, message);
    let mut one = context(&config);
    one.acks = 1;
    assert!(matches!(world.leader.admit(&batch(1), &one), Ok(Admitted::Append { base_offset: 10, end_offset: 11 })));
}

#[test]
fn an_append_that_lost_its_in_sync_replicas_is_not_acknowledged_until_they_are_back() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.holds(2, 10), [advance(10)]);
    assert_eq!(world.append(1), 11);
    assert!(world.leader.park(11, FIRST, Wait::Committed));
    assert_eq!(world.commits(&set(&[1], 5)), []);
    assert_eq!(world.flushed(11), [], "one copy is not two");
    assert_eq!(world.fetched_in(2, 21, 0), []);
    assert_eq!(world.holds(3, 11), []);
    assert_eq!(world.review(), [propose(&[1, 3], 5)]);
    assert_eq!(world.commits(&set(&[1, 3], 6)), [advance(11), Effect::Reply(FIRST)]);
}

#[test]
fn one_ack_is_answered_by_the_leaders_flush_and_all_acks_by_everyones() {
    let mut world = world(&[1, 2, 3]);
    assert_eq!(world.append(1), 11);
    assert!(world.leader.park(11, FIRST, Wait::Flushed));
    assert!(world.leader.park(11, SECOND, Wait::Committed));
    assert_eq!(world.flushed(11), [Effect::Reply(FIRST)]);
    assert!(!world.leader.park(11, FIRST, Wait::Flushed), "it is safe already");
    assert_eq!(world.holds(2, 11), []);
    assert_eq!(world.holds(3, 11), [advance(11), Effect::Reply(SECOND)]);
}

#[test]
fn a_reply_of_either_kind_that_timed_out_is_answered_no_more() {
    let mut world = world(&[1, 2]);
    let end_offset = world.append(1);
    assert!(world.leader.park(end_offset, FIRST, Wait::Flushed));
    assert!(world.leader.park(end_offset, SECOND, Wait::Committed));
    assert!(world.leader.unpark(end_offset, FIRST));
    assert!(world.leader.unpark(end_offset, SECOND));
    assert!(!world.leader.unpark(end_offset, SECOND));
    assert_eq!(world.flushed(end_offset), []);
    assert_eq!(world.holds(2, end_offset), [advance(end_offset)]);
}

#[test]
fn a_failed_append_refuses_both_kinds_of_replies_and_commits_what_stood_before() {
    let mut world = world(&[1, 2]);
    assert_eq!((world.append(1), world.append(1)), (11, 12));
    assert!(world.leader.park(12, FIRST, Wait::Flushed));
    assert!(world.leader.park(12, SECOND, Wait::Committed));
    let refused = |reply| Effect::Refuse(reply, ErrorCode::KafkaStorageError);
    let effects = world.does(|leader, _, effects| leader.append_failed(12, effects));
    assert_eq!(effects, [refused(FIRST), refused(SECOND)]);
    assert_eq!(world.flushed(11), []);
    assert_eq!(world.holds(2, 12), [advance(11)], "not what the follower has of the failed one");
}

#[test]
fn a_follower_that_holds_what_is_committed_is_proposed() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.holds(2, 10), [advance(10)]);
    assert_eq!(world.review(), []);
    assert_eq!(world.holds(3, 9), []);
    assert_eq!(world.review(), [], "9 is below the high watermark");
    assert_eq!(world.fetched(3, 10), []);
    assert_eq!(world.review(), [], "it has not flushed what is committed");
    assert_eq!(world.follower_flushed(3, 10), []);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
    assert_eq!(world.in_sync(), [1, 2], "proposed is not committed");
}

#[test]
fn a_follower_must_reach_the_start_of_the_leaders_epoch() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.fetched(2, 10), []);
    assert_eq!(world.holds(3, 9), []);
    assert_eq!(world.review(), [], "above the high watermark, 8, but an earlier leader may have committed up to 10");
    assert_eq!(world.holds(3, 10), []);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
}

#[test]
fn a_follower_must_have_flushed_up_to_the_start_of_the_leaders_epoch() {
    let mut world = world(&[1, 2]);
    world.fetched(2, 10);
    world.fetched(3, 10);
    assert_eq!(world.follower_flushed(3, 9), []);
    assert_eq!(world.review(), [], "what an earlier leader has committed up to 10 it could lose");
    assert_eq!(world.follower_flushed(3, 10), []);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
}

#[test]
fn a_follower_that_never_fetched_is_not_proposed() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.follower_flushed(3, 10), []);
    assert_eq!(world.review(), [], "a flush without a fetch says nothing of agreement");
}

#[test]
fn the_high_watermark_waits_for_the_proposed_too() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    world.holds(3, 10);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
    assert_eq!((world.append(1), world.flushed(11)), (11, vec![]));
    assert_eq!(world.holds(2, 11), [], "the controller may have committed 3 already");
    assert_eq!(world.holds(3, 11), [advance(11)]);
}

#[test]
fn the_high_watermark_waits_for_who_is_proposed_to_go() {
    let mut world = world(&[1, 2, 3]);
    world.holds(2, 10);
    world.now_ms = LAG_MAX_MS + 1;
    assert_eq!(world.review(), [propose(&[1, 2], 4)]);
    assert_eq!(world.append(1), 11);
    assert_eq!(world.flushed(11), []);
    assert_eq!(world.holds(2, 11), [], "the controller may never commit it");
    assert_eq!(world.commits(&set(&[1, 2], 5)), [advance(11)]);
}

#[test]
fn what_an_earlier_incarnation_has_proposed_is_waited_for() {
    let mut world = begun_again(&[1, 2], &[1, 2, 3]);
    assert!(world.leader.is_proposing());
    assert_eq!(world.holds(2, 10), [], "3 may be in sync already");
    assert_eq!(world.review(), []);
    assert_eq!(world.commits(&set(&[1, 2, 3], 5)), []);
    assert_eq!(world.holds(3, 10), [advance(10)]);
}

#[test]
fn one_change_is_proposed_at_a_time() {
    let mut world = world(&[1]);
    world.holds(2, 10);
    assert_eq!(world.review(), [propose(&[1, 2], 4)]);
    assert!(world.leader.is_proposing());
    world.holds(3, 10);
    assert_eq!(world.review(), []);
    assert_eq!(world.commits(&set(&[1, 2], 5)), [advance(10)]);
    assert!(!world.leader.is_proposing());
    assert_eq!(world.review(), [propose(&[1, 2, 3], 5)]);
}

#[test]
fn a_refused_proposal_is_waited_for_no_longer_and_made_again_later() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    world.holds(3, 10);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
    world.append(1);
    world.flushed(11);
    assert_eq!(world.holds(2, 11), []);
    assert_eq!(world.refuses(4), [advance(11)]);
    assert_eq!(world.holds(3, 11), []);
    assert_eq!(world.review(), [], "not at once");
    world.now_ms += 500;
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
}

#[test]
fn the_refusal_of_an_earlier_proposal_does_not_touch_the_present_one() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    world.holds(3, 10);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
    assert_eq!(world.commits(&set(&[1, 2], 5)), [], "the controller has changed something else meanwhile");
    assert_eq!(world.review(), [propose(&[1, 2, 3], 5)]);
    assert_eq!(world.refuses(4), []);
    assert!(world.leader.is_proposing());
}

/// An answer may be lost, and the same proposal sent again: then the controller knows a later partition epoch, or even that
/// another leads, because it has done what was asked.
#[test]
fn a_refusal_that_may_come_of_the_proposals_own_success_takes_nothing_back() {
    use ErrorCode::{FencedLeaderEpoch, IneligibleReplica, InvalidRequest, InvalidUpdateVersion, NewLeaderElected};
    for error in [InvalidUpdateVersion, FencedLeaderEpoch, NewLeaderElected] {
        assert!(!in_sync_refusal_is_final(error), "{error:?}");
    }
    assert!(in_sync_refusal_is_final(IneligibleReplica) && in_sync_refusal_is_final(InvalidRequest));
}

#[test]
fn an_older_image_changes_nothing() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.commits(&set(&[1, 2, 3], 4)), []);
    assert_eq!(world.commits(&set(&[1], 3)), []);
    assert_eq!((world.in_sync(), world.leader.partition_epoch()), (vec![1, 2], 4));
}

#[test]
fn whoever_falls_behind_is_proposed_to_go() {
    let mut world = world(&[1, 2, 3]);
    world.holds(2, 10);
    world.holds(3, 9);
    world.now_ms = LAG_MAX_MS;
    assert_eq!(world.review(), []);
    world.now_ms += 1;
    assert_eq!(world.review(), [propose(&[1, 2], 4)]);
}

#[test]
fn whoever_has_everything_is_not_behind_however_long_nothing_happens() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    world.now_ms = 100 * LAG_MAX_MS;
    assert_eq!(world.review(), []);
    world.append(1);
    assert_eq!(world.review(), [], "it had everything until now");
    world.now_ms += LAG_MAX_MS + 1;
    assert_eq!(world.review(), [propose(&[1], 4)]);
}

#[test]
fn whoever_keeps_up_with_the_end_of_a_moment_ago_is_not_behind() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    for _ in 0..20 {
        let end_offset = world.append(1);
        world.now_ms += LAG_MAX_MS / 4;
        world.append(1);
        world.holds(2, end_offset);
        assert_eq!(world.review(), []);
    }
    world.holds(2, 11);
    world.now_ms += LAG_MAX_MS + 1;
    assert_eq!(world.review(), [propose(&[1], 4)]);
}

#[test]
fn a_follower_whose_disk_hangs_goes_out_though_it_fetches() {
    let mut world = world(&[1, 2, 3]);
    world.holds(2, 10);
    world.holds(3, 10);
    let end_offset = world.append(1);
    assert_eq!(world.flushed(end_offset), []);
    assert_eq!(world.holds(2, end_offset), []);
    for _ in 0..3 {
        world.now_ms += LAG_MAX_MS / 2;
        world.holds(2, end_offset);
        world.fetched(3, end_offset);
    }
    assert_eq!(world.review(), [propose(&[1, 2], 4)], "3 has everything and has made nothing durable");
    assert_eq!(world.commits(&set(&[1, 2], 5)), [advance(end_offset)]);
}

#[test]
fn a_follower_that_flushes_a_moment_later_than_it_fetches_stays() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    for _ in 0..10 {
        let end_offset = world.append(1);
        world.now_ms += LAG_MAX_MS * 2 / 3;
        world.append(1);
        world.follower_flushed(2, end_offset - 1);
        world.fetched(2, end_offset + 1);
        assert_eq!(world.review(), []);
    }
}

#[test]
fn one_follower_that_the_controller_does_not_want_keeps_no_other_out() {
    let mut world = world(&[1]);
    world.holds(2, 10);
    world.holds(3, 10);
    assert_eq!(world.review(), [propose(&[1, 2, 3], 4)]);
    let mut proposed = Vec::new();
    for _ in 0..2 {
        world.refuses(4);
        world.now_ms += 500;
        proposed.extend(world.review());
    }
    assert_eq!(proposed, [propose(&[1, 2], 4), propose(&[1, 3], 4)], "each is tried by itself");
}

#[test]
fn one_follower_that_the_controller_does_not_want_does_not_keep_another_in() {
    let mut world = world(&[1, 2]);
    world.now_ms = LAG_MAX_MS + 1;
    world.holds(3, 10);
    assert_eq!(world.review(), [propose(&[1, 3], 4)]);
    world.refuses(4);
    world.now_ms += 500;
    assert_eq!(world.review(), [propose(&[1], 4)], "2 is gone for certain, 3 is in doubt");
    world.commits(&set(&[1], 5));
    assert_eq!(world.review(), [propose(&[1, 3], 5)]);
    world.commits(&set(&[1, 3], 6));
    assert_eq!(world.in_sync(), [1, 3]);
}

#[test]
fn another_life_of_a_follower_must_show_again_what_it_holds() {
    let mut world = world(&[1, 2, 3]);
    world.holds(2, 10);
    assert_eq!(world.append(1), 11);
    world.flushed(11);
    world.holds(2, 11);
    world.follower_flushed(3, 11);
    assert_eq!(world.fetched_in(3, 31, 10), []);
    assert_eq!(world.follower_flushed(3, 11), [], "said in the earlier life");
    assert_eq!(world.fetched_in(3, 30, 11), [], "fetched in the earlier life");
    let flushed = |leader: &mut Leader, _, effects: &mut Vec<Effect>| leader.follower_flushed(3, 31, 10, effects);
    assert_eq!(world.does(flushed), [advance(10)]);
}

#[test]
fn a_proposal_names_the_life_in_which_each_member_has_caught_up() {
    let mut world = world(&[1, 2]);
    world.holds(2, 10);
    world.holds(3, 10);
    world.fetched_in(3, 31, 10);
    assert_eq!(world.review(), [], "the new life has not said what it has flushed");
    world.does(|leader, _, effects| leader.follower_flushed(3, 31, 10, effects));
    let members = vec![(1, -1), (2, 20), (3, 31)];
    assert_eq!(world.review(), [Effect::ProposeInSync { members, partition_epoch: 4 }]);
}

#[test]
fn a_follower_that_goes_back_is_believed() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.holds(2, 10), [advance(10)]);
    world.append(2);
    world.flushed(12);
    assert_eq!(world.fetched(2, 12), []);
    assert_eq!(world.fetched(2, 11), []);
    assert_eq!(world.follower_flushed(2, 12), [advance(11)], "it no longer has the twelfth");
}

#[test]
fn a_follower_has_flushed_no_more_than_it_has_fetched() {
    let mut world = world(&[1, 2]);
    world.append(2);
    world.flushed(12);
    assert_eq!(world.fetched(2, 10), []);
    assert_eq!(world.follower_flushed(2, 12), [advance(10)], "what lies beyond is not known to agree");
}

#[test]
fn a_broker_that_has_no_replica_is_nobody() {
    let mut world = world(&[1, 2]);
    assert_eq!(world.holds(9, 10), []);
    assert_eq!(world.review(), []);
}

#[test]
fn a_replica_that_comes_is_followed_and_one_that_goes_is_forgotten() {
    let mut world = world(&[1, 2]);
    world.fetched(2, 10);
    let moved = ReplicaSet { me: 1, replicas: vec![1, 2, 4], in_sync: vec![1, 2], partition_epoch: 5 };
    assert_eq!(world.commits(&moved), []);
    world.holds(3, 10);
    assert_eq!(world.review(), [], "3 has no replica any more");
    world.holds(4, 10);
    assert_eq!(world.review(), [propose(&[1, 2, 4], 5)]);
}

#[test]
fn readers_are_told_where_the_log_ends_only_when_it_is_certain() {
    let mut world = world(&[1, 2]);
    assert!(!world.leader.knows_committed_end(), "the leader before may have shown more");
    world.holds(2, 9);
    assert!(!world.leader.knows_committed_end());
    world.holds(2, 10);
    assert!(world.leader.knows_committed_end());
}
