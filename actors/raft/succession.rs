//! Succession: a controller that is dead for sure is followed at once, instead of when its lease is over.
//!
//! A voter that has heard of a leader votes for nobody else while that one's lease lasts: half a second, in which no in-sync set
//! shrinks, so nothing is confirmed by any leader that the dead one followed. The lease binds who follows a leader; whoever stands
//! for election follows nobody. So those who have found the controller dead agree first:
//!
//! ```text
//!   A, B   each finds that nobody listens at the controller's address, or another process
//!   A ── Claim ──▶ B     B has found so too, and comes first: "after me", and B claims in its turn
//!   A ◀── Claim ── B     A stands aside: it stands for election, for which it gets no vote, and is bound by no lease
//!   A ── aside ──▶ B     a majority, with B itself: B stands for election, and A votes for it
//! ```
//!
//! Why that is safe: the votes are raft's own, and raft's safety needs no lease; that keeps a leader that lives from being
//! disturbed. Whom only one finds dead is not: nobody stands aside for a claim before it has looked itself. What fails here
//! (votes that crossed, a peer of the release before) is left to the lease and its end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use capek_wire::ids::BrokerId;
use capek_wire::peer::encode_head;
use log::info;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::messages::{ControlRequest, ControlResponse};
use super::quorum::{ELECTION_MAX_MS, ELECTION_MIN_MS, Quorum};
use super::types::broker_of;

/// Another voter may not have found out yet.
const CLAIM_AGAIN: Duration = Duration::from_millis(50);
const CLAIM_DEADLINE: Duration = Duration::from_millis(100);
/// What a node has found is good for the claims that follow at once: a process may be started again at this address.
const NEWS_FOR: Duration = Duration::from_secs(1);
/// An election by claims is given this long before it is tried again.
const ELECTION: Duration = Duration::from_millis(ELECTION_MIN_MS);
const LEASE: Duration = Duration::from_millis(ELECTION_MAX_MS);
/// How long one who has seen the controller die waits for the one before it to be elected, when the lease is over.
const TURN: Duration = Duration::from_millis(200);

/// Who led, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    pub controller: BrokerId,
    pub term: u64,
}

/// "It is dead. Let me follow."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub reign: Reign,
    /// The end of the claimant's log: who has more comes first, else whose id is greater.
    pub log_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimReply {
    /// Not as far as this node knows; or there is another by now.
    NotDead,
    AfterMe,
    Aside,
}

/// What this node has found.
#[derive(Debug, Default)]
pub struct Succession {
    dead: Mutex<Option<(Reign, Instant)>>,
    /// Somebody who does not come first has claimed.
    is_my_turn: Notify,
}

impl Succession {
    fn found_dead(&self, reign: Reign) {
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = Some((reign, Instant::now()));
    }

    fn has_found(&self, reign: Reign) -> bool {
        let dead = *self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.is_some_and(|(dead, found)| dead == reign && found.elapsed() < NEWS_FOR)
    }
}

/// What a node knows of itself.
#[derive(Clone, Copy, Debug)]
struct Standing {
    me: BrokerId,
    log_end: u64,
    /// Whom it follows, or that it leads itself. None: it is bound to nobody.
    reign: Option<Reign>,
}

impl Standing {
    /// `has_found`: this node has found for itself that this controller is dead.
    fn reply(&self, claimant: BrokerId, claim: &Claim, has_found: bool) -> ClaimReply {
        let is_followed_already = self.reign.is_some_and(|reign| reign != claim.reign);
        if !has_found || is_followed_already {
            ClaimReply::NotDead
        } else if (self.log_end, self.me) > (claim.log_end, claimant) {
            ClaimReply::AfterMe
        } else {
            ClaimReply::Aside
        }
    }
}

/// Whether the claimant may stand: a majority with itself stands aside, and nobody comes first.
fn is_agreed(replies: &[ClaimReply], voters: usize) -> bool {
    let aside = replies.iter().filter(|reply| **reply == ClaimReply::Aside).count();
    !replies.contains(&ClaimReply::AfterMe) && aside + 1 > voters / 2
}

impl Quorum {
    /// The controller is dead for sure: this node or another is elected as soon as the others agree, at the latest when the
    /// lease is over, instead of after as long as one waits who only hears nothing.
    pub(super) async fn succeed(&self, dead: BrokerId) {
        let Some(reign) = self.standing().reign.filter(|reign| reign.controller == dead) else { return };
        self.succession().found_dead(reign);
        let lease_over = Instant::now() + LEASE;
        // The end of time is no error: the rest is below.
        let _ = timeout_at(lease_over, self.claim_until_followed(reign)).await;
        // One after the other: two at a time would split the votes and cost another election.
        let turn = self.view().voters.keys().filter(|voter| **voter != dead && **voter < self.id()).count() as u32;
        sleep_until(lease_over + TURN * turn).await;
        if !self.is_followed(reign) {
            self.stand().await;
        }
    }

    async fn claim_until_followed(&self, reign: Reign) {
        while !self.is_followed(reign) {
            if self.claim(reign).await {
                info!("controller {} is dead, as a majority has found: standing for election", reign.controller);
                self.stand().await;
                sleep(ELECTION).await;
            } else {
                tokio::select! {
                    () = sleep(CLAIM_AGAIN) => {}
                    () = self.succession().is_my_turn.notified() => {}
                }
            }
        }
    }

    async fn claim(&self, reign: Reign) -> bool {
        let voters = self.view().voters;
        let others = voters.keys().filter(|voter| **voter != self.id() && **voter != reign.controller);
        let claim = ControlRequest::Claim(Claim { reign, log_end: self.standing().log_end });
        let mut asked = JoinSet::new();
        for lane in others.filter_map(|voter| self.lane(*voter)) {
            let claim = encode_head(&claim);
            asked.spawn(async move {
                match lane.request_encoded(claim, CLAIM_DEADLINE).await {
                    Ok(ControlResponse::Claim(reply)) => reply,
                    Ok(_) | Err(_) => ClaimReply::NotDead,
                }
            });
        }
        is_agreed(&asked.join_all().await, voters.len())
    }

    /// Another voter claims; see the head of this file.
    pub(super) async fn claimed_by(&self, claimant: BrokerId, claim: Claim) -> ClaimReply {
        let reply = self.standing().reply(claimant, &claim, self.succession().has_found(claim.reign));
        match reply {
            ClaimReply::NotDead => {}
            ClaimReply::AfterMe => self.succession().is_my_turn.notify_one(),
            // Once: whoever follows nobody any more is bound by nothing.
            ClaimReply::Aside if self.standing().reign.is_some() => self.stand().await,
            ClaimReply::Aside => {}
        }
        reply
    }

    async fn stand(&self) {
        // An error says that raft has ended.
        let _ = self.raft().trigger().elect().await;
    }

    fn is_followed(&self, reign: Reign) -> bool {
        self.standing().reign.is_some_and(|now| now != reign)
    }

    fn standing(&self) -> Standing {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow();
        let log_end = metrics.last_log_index.map_or(0, |index| index + 1);
        let reign =
            metrics.current_leader.map(|leader| Reign { controller: broker_of(leader), term: metrics.current_term });
        Standing { me: self.id(), log_end, reign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Reign = Reign { controller: 1, term: 7 };

    fn standing(me: BrokerId, log_end: u64) -> Standing {
        Standing { me, log_end, reign: Some(DEAD) }
    }

    #[test]
    fn nobody_stands_aside_who_has_not_looked_itself_or_follows_another() {
        let claim = Claim { reign: DEAD, log_end: 9 };
        assert_eq!(standing(2, 9).reply(3, &claim, false), ClaimReply::NotDead);
        for next in [Reign { controller: 2, term: 8 }, Reign { controller: 1, term: 8 }] {
            let follows = Standing { reign: Some(next), ..standing(2, 9) };
            assert_eq!(follows.reply(3, &claim, true), ClaimReply::NotDead, "{next:?}");
        }
        assert_eq!(Standing { reign: None, ..standing(2, 9) }.reply(3, &claim, true), ClaimReply::Aside);
    }

    #[test]
    fn of_two_who_claim_exactly_one_stands_aside() {
        let check = |ends: [u64; 2]| {
            let of = |me: usize| standing(me as BrokerId + 2, ends[me]);
            let claim = |me: usize| Claim { reign: DEAD, log_end: ends[me] };
            [of(1).reply(2, &claim(0), true), of(0).reply(3, &claim(1), true)]
        };
        use ClaimReply::{AfterMe, Aside};
        assert_eq!(check([9, 9]), [AfterMe, Aside]);
        assert_eq!(check([10, 9]), [Aside, AfterMe], "nobody votes for a shorter log");
        assert_eq!(check([9, 10]), [AfterMe, Aside]);
    }

    #[test]
    fn a_majority_must_stand_aside_and_nobody_come_first() {
        use ClaimReply::{AfterMe, Aside, NotDead};
        for (replies, voters, expected) in [
            (&[Aside][..], 3, true),
            (&[NotDead], 3, false),
            (&[AfterMe], 3, false),
            (&[], 2, false),
            (&[Aside, Aside, NotDead], 5, true),
            (&[Aside, NotDead, NotDead], 5, false),
            (&[Aside, Aside, AfterMe], 5, false),
        ] {
            assert_eq!(is_agreed(replies, voters), expected, "{replies:?} of {voters}");
        }
    }
}
