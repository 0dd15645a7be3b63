//! The replicas of a partition go one by one.

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::load::{Load, PARTITIONS, rounds};
use crate::support::wait_for;

/// The last one dies, and those that went before come back first. What two had confirmed is there, whoever leads.
#[test]
#[ignore = "long: tests/faults runs it"]
fn acked_records_survive_the_death_of_the_last_replica_in_sync() {
    let mut cluster = Cluster::start_with(5, &[]);
    let load = Load::start(&cluster, "standing");
    for _ in 0..rounds(1) {
        let view = cluster.view("standing").expect("brokers answer").partitions.remove(&0).expect("it has partitions");
        let followers: Vec<i32> = view.replicas.iter().copied().filter(|id| *id != view.leader).collect();
        for (left, id) in [(2, followers[0]), (1, followers[1])] {
            cluster.kill(id);
            wait_for("fewer are in sync", HEALED_WITHIN, || {
                (cluster.view_of(view.leader, "standing")?.partitions[&0].in_sync.len() == left).then_some(())
            });
        }
        cluster.kill(view.leader);
        // Two of five voters are left: the others are needed to decide anything.
        followers.iter().for_each(|id| cluster.broker_mut(*id).spawn());
        cluster.broker_mut(view.leader).spawn();
        cluster.wait_until_whole();
        load.wait_for_progress();
        cluster.wait_until_in_sync("standing", PARTITIONS);
    }
    load.stop_and_check(&cluster, "last replica standing");
}
