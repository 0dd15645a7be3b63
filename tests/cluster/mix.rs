//! One fault after the other, as chance has it. The seed is printed; `CAPEK_FAULT_SEED` begins with it again.

use std::time::{Duration, UNIX_EPOCH};

use crate::cluster::{Cluster, SESSION};
use crate::load::{Load, PARTITIONS, rounds};
use crate::network::Network;

#[test]
#[ignore = "long: tests/faults runs it"]
fn acked_records_survive_a_mix_of_faults() {
    let network = Network::between(3);
    let mut cluster = Cluster::behind(&network, &[]);
    let mut chance = Chance::new();
    let load = Load::start(&cluster, "mix");
    for _ in 0..rounds(8) {
        let victim = chance.below(3) as i32 + 1;
        let others = cluster.others(&[victim]);
        let lasting = Duration::from_millis(chance.below(SESSION.as_millis() as u64 + 1_500));
        match chance.below(7) {
            0 => {
                println!("kill -9 of {victim}");
                cluster.kill(victim);
                std::thread::sleep(lasting);
                cluster.start_again(victim);
            }
            1 => {
                println!("SIGTERM of {victim}");
                assert!(cluster.broker_mut(victim).terminate().success());
                std::thread::sleep(lasting);
                cluster.start_again(victim);
            }
            2 => {
                println!("{victim} is paused for {lasting:?}");
                cluster.broker(victim).signal("STOP");
                std::thread::sleep(lasting);
                cluster.broker(victim).signal("CONT");
            }
            3 => {
                println!("{victim} reaches nobody for {lasting:?}");
                others.iter().for_each(|other| network.separate(victim, *other));
                std::thread::sleep(lasting);
            }
            4 => {
                println!("nobody hears {victim} for {lasting:?}");
                others.iter().for_each(|other| network.cut(victim, *other));
                std::thread::sleep(lasting);
            }
            5 => {
                println!("{victim} and {} are separated for {lasting:?}", others[0]);
                network.separate(victim, others[0]);
                std::thread::sleep(lasting);
            }
            _ => {
                println!("kill -9 of all, {victim} comes back first");
                cluster.ids().into_iter().for_each(|id| cluster.kill(id));
                cluster.broker_mut(victim).spawn();
                cluster.start_all();
            }
        }
        network.heal();
        load.wait_for_progress();
        // Every other fault comes while the last is not healed yet.
        if chance.below(2) == 0 {
            cluster.wait_until_in_sync("mix", PARTITIONS);
        }
    }
    cluster.wait_until_in_sync("mix", PARTITIONS);
    load.stop_and_check(&cluster, "mix");
    cluster.stop_and_compare_replicas("mix", PARTITIONS);
}

/// Xorshift: a few numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn new() -> Chance {
        let seed = std::env::var("CAPEK_FAULT_SEED").map_or_else(
            |_| UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_nanos() as u64 | 1,
            |seed| seed.parse().expect("CAPEK_FAULT_SEED is a number"),
        );
        println!("CAPEK_FAULT_SEED={seed}");
        Chance(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
