//! How often a leader's proposal is asked for, and when its refusal is certain.

use capek_state::partition::{Ask, Asking, Fate};
use capek_wire::ErrorCode;

const REFUSED: Result<(), ErrorCode> = Err(ErrorCode::IneligibleReplica);

#[test]
fn the_refusal_of_the_only_asking_is_certain() {
    let mut asking = Asking::default();
    assert_eq!(asking.ask(), Ask::Proposed);
    assert_eq!(asking.answered(REFUSED), Fate::Refused);
}

/// The first may be under way, and come to the controller when it would not refuse any more.
#[test]
fn after_an_asking_without_an_answer_a_refusal_is_made_certain_first() {
    let mut asking = Asking::default();
    assert_eq!((asking.ask(), asking.ask()), (Ask::Proposed, Ask::Proposed));
    assert_eq!(asking.answered(REFUSED), Fate::AskAgain);
    assert_eq!((asking.ask(), asking.ask()), (Ask::AsItIs, Ask::AsItIs), "until there is an answer");
    assert_eq!(asking.answered(Ok(())), Fate::Shown);
}

#[test]
fn what_reached_no_controller_leaves_no_doubt() {
    let mut asking = Asking::default();
    asking.ask();
    asking.unheard();
    asking.ask();
    assert_eq!(asking.answered(Err(ErrorCode::NotController)), Fate::AskAgain);
    assert_eq!(asking.ask(), Ask::Proposed);
    assert_eq!(asking.answered(REFUSED), Fate::Refused);
}

#[test]
fn what_may_come_of_the_proposals_own_success_is_left_to_the_image() {
    for answer in [Ok(()), Err(ErrorCode::InvalidUpdateVersion), Err(ErrorCode::NewLeaderElected)] {
        let mut asking = Asking::default();
        asking.ask();
        assert_eq!(asking.answered(answer), Fate::Shown);
    }
}
