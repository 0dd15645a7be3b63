//! What goes wrong, one thing after the other and several at once; and the end of it.

use crate::broker::Role;
use crate::messages::{Event, ToController};
use crate::world::World;

impl World {
    pub fn trouble(&mut self) {
        if self.is_quiet {
            return;
        }
        let next_ms = self.random.between(50, 900);
        self.after(next_ms, Event::Trouble);
        let count = self.brokers.len() as u64;
        let leader = self.controller.image().partition.leader;
        let victim = if self.random.one_in(3) && leader >= 0 { leader } else { 1 + self.random.below(count) as i32 };
        let lasts_ms = self.random.between(10, 2_500);
        match self.random.below(20) {
            0..=3 => {
                let is_power_cut = self.random.one_in(2);
                self.crash(victim, is_power_cut);
                self.after(lasts_ms, Event::Start { broker: victim });
            }
            4 => self.crash_all(),
            5 | 6 => {
                let until_ms = self.now_ms + lasts_ms;
                self.note(|| format!("broker {victim} pauses until {until_ms}"));
                self.broker(victim).paused_until_ms = until_ms;
            }
            7 => {
                let until_ms = self.now_ms + lasts_ms;
                self.note(|| format!("the disk of broker {victim} hangs until {until_ms}"));
                self.broker(victim).slow_disk_until_ms = until_ms;
            }
            8..=10 => self.part(victim),
            11 | 12 => {
                self.note(|| "the network is whole".to_owned());
                self.blocked.clear();
            }
            13 | 14 => self.restart_role(victim),
            15 => {
                self.active = None;
                self.elect_at_ms = self.now_ms + self.random.between(100, 800);
                self.note(|| "the controller moves".to_owned());
            }
            16 => self.reassign(),
            17 if self.active.is_some() => {
                self.note(|| "the preferred leader is elected".to_owned());
                self.controller.elect_preferred();
            }
            18 => {
                self.note(|| format!("broker {victim} shuts down"));
                if let Some(epoch) = self.broker(victim).epoch {
                    self.tell_controller(victim, ToController::ShutDown { broker: victim, epoch });
                }
                let stop_ms = self.random.between(20, 200);
                self.stop_later(victim, stop_ms);
            }
            _ => {}
        }
    }

    /// What it had parked is not answered any more; it goes, and comes back.
    fn stop_later(&mut self, victim: i32, stop_ms: i64) {
        if self.broker(victim).is_up {
            let life = self.broker(victim).life;
            let flushed = self.broker(victim).disk.flushed == self.broker(victim).disk.end();
            self.note(|| format!("broker {victim} in life {life} is asked to stop; flushed: {flushed}"));
            self.after(stop_ms, Event::Stop { broker: victim, life });
        }
    }

    fn crash_all(&mut self) {
        self.note(|| "all brokers crash".to_owned());
        let is_power_cut = self.random.one_in(2);
        for broker in 1..=self.brokers.len() as i32 {
            self.crash(broker, is_power_cut);
            let down_ms = self.random.between(10, 2_000);
            self.after(down_ms, Event::Start { broker });
        }
    }

    /// One alone, one that only hears or only speaks, or a chain.
    fn part(&mut self, victim: i32) {
        let nodes: Vec<i32> = (1..=self.brokers.len() as i32).chain(100..106).collect();
        let kind = self.random.below(5);
        let with_clients = self.random.one_in(2);
        self.note(|| format!("broker {victim} is cut off, kind {kind}, clients too: {}", !with_clients));
        for other in nodes.into_iter().filter(|other| *other != victim && !(with_clients && *other >= 100)) {
            match kind {
                0 | 1 => self.blocked.extend([(victim, other), (other, victim)]),
                2 => self.blocked.extend([(victim, other)]),
                3 => self.blocked.extend([(other, victim)]),
                _ if other % 2 == 0 => self.blocked.extend([(victim, other), (other, victim)]),
                _ => {}
            }
        }
    }

    fn reassign(&mut self) {
        let mut brokers: Vec<i32> = (1..=self.brokers.len() as i32).collect();
        while brokers.len() > 3 {
            let index = self.random.below(brokers.len() as u64) as usize;
            brokers.remove(index);
        }
        let rotation = self.random.below(3) as usize;
        brokers.rotate_left(rotation);
        if self.active.is_some() {
            self.note(|| format!("the replicas shall be {brokers:?}"));
            self.controller.reassign(brokers);
        }
    }

    /// The trouble ends: everything is whole and everyone is back.
    pub fn heal(&mut self) {
        self.note(|| "all is well again".to_owned());
        self.is_quiet = true;
        self.blocked.clear();
        for broker in 1..=self.brokers.len() as i32 {
            let found = self.broker(broker);
            found.paused_until_ms = 0;
            found.slow_disk_until_ms = 0;
            self.start(broker);
        }
    }

    /// C: there is a leader, all are in sync, and nothing that was confirmed is missing anywhere.
    pub fn check_healed(&mut self, acked_before: u64) {
        let image = self.controller.image().clone();
        let partition = &image.partition;
        assert!(partition.leader >= 0, "there is no leader: {partition:?}");
        assert!(image.brokers.values().all(|known| !known.fenced), "somebody is fenced: {image:?}");
        let mut in_sync = partition.isr.clone();
        let mut replicas = partition.replicas.clone();
        in_sync.sort_unstable();
        replicas.sort_unstable();
        assert_eq!(in_sync, replicas, "not all replicas are in sync: {partition:?}");
        assert!(matches!(self.broker(partition.leader).role, Role::Leader(_)), "the leader does not lead");
        assert!(!partition.is_reassigned, "the reassignment does not end: {partition:?}");
        assert!(self.checker.counts.acked > acked_before, "nothing is acknowledged after the trouble");
        let end_offset = self.checker.true_high_watermark();
        for replica in replicas {
            let batches = &self.broker(replica).disk.batches;
            let count = batches.partition_point(|batch| batch.end_offset() <= end_offset);
            let held = batches[..count].to_vec();
            assert_eq!(held, self.checker.committed, "replica {replica} differs");
        }
        for (value, base_offset) in &self.checker.acked {
            let found = self.checker.committed.iter().any(|batch| batch.value == *value);
            assert!(found, "value {value}, acknowledged at {base_offset}, is lost");
        }
    }
}
