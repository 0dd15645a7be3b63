//! Every order of events in a small cluster, checked by stateright: three brokers with a replica each, `acks=all`, the decisions
//! of the real controller, and the state machines that the actors run. Disks, controller and most of the invariants are those
//! of `cluster_simulation`.
//!
//! One record and one trouble are looked at each time, from a whole cluster and from one with a replica out of sync.
//! `CAPEK_TEST_CLUSTER_MODEL=RECORDS,TROUBLES,MIN_INSYNC` looks at more (reliability/REPORT.md has how much that is);
//! `-- --nocapture` prints the figures.
//!
//! A trouble is a crash that keeps what is synced and some of the rest, a session that ends while the broker lives, a
//! controlled shutdown, a panic of the partition's actor, a fetch, an answer or a report that is late (or lost with its
//! connection), a lost answer of the controller, or a leader that finds whoever is behind too slow. For free is the time of
//! everything else: when a broker learns what the controller has decided, a disk syncs, a follower fetches, a proposal is
//! decided, a broker comes back.
//!
//! Time stands still, and some events are one: a fetch, its answer, and the next fetch that says so; a sync and its report;
//! a divergence and the cut. When no trouble can come any more, what is written is synced at once.

#[path = "../cluster_simulation/checker.rs"]
#[expect(dead_code, reason = "the simulation has more")]
mod checker;
#[path = "../cluster_simulation/controller.rs"]
#[expect(dead_code, reason = "the simulation has more")]
mod controller;
#[path = "../cluster_simulation/disk.rs"]
mod disk;
mod lifecycle;
#[path = "../cluster_simulation/messages.rs"]
#[expect(dead_code, reason = "the simulation has more")]
mod messages;
mod model;
mod replication;
mod world;

use stateright::{Checker, HasDiscoveries, Model};

use model::{PROMISES, SmallCluster};
use world::Bounds;

const USUAL: [Bounds; 1] = [Bounds { records: 1, troubles: 1, in_sync_min: 2 }];

fn bounds() -> Vec<Bounds> {
    let Ok(text) = std::env::var("CAPEK_TEST_CLUSTER_MODEL") else { return USUAL.to_vec() };
    let numbers: Vec<u8> = text.split(',').map(|number| number.parse().expect("a number")).collect();
    let [records, troubles, in_sync_min] = numbers[..] else { panic!("three numbers, not {text}") };
    vec![Bounds { records, troubles, in_sync_min }]
}

/// For `--nocapture`: how much was looked at.
#[allow(clippy::print_stdout)]
fn report(bounds: Bounds, checker: &impl Checker<SmallCluster>) {
    println!(
        "{bounds:?}: {} states, {} with those met again, depth {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
}

/// They are caught, and told with what led to them.
fn keep_quiet_about_broken_promises() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_checker = std::thread::current().name().is_some_and(|name| name.starts_with("checker-"));
        if !is_checker {
            tell(panic);
        }
    }));
}

#[test]
fn in_every_order_of_events_what_was_confirmed_survives() {
    keep_quiet_about_broken_promises();
    for bounds in bounds() {
        let checker = SmallCluster(bounds).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        report(bounds, &checker);
        if let Some(path) = checker.discovery(PROMISES) {
            let why = path.last_state().broken.clone().unwrap_or_default();
            let actions: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
            panic!("{why}\nafter {}", actions.join("\n      "));
        }
        checker.assert_properties();
        assert!(checker.unique_state_count() > 50_000, "only {} states", checker.unique_state_count());
    }
}
