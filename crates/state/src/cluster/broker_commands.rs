//! Brokers come, stay, are fenced and go; their partitions are led by others meanwhile.

use std::collections::BTreeSet;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, Uuid};

use super::command::{Decision, Outcome, RegisterBroker};
use super::decide::{records, registered};
use super::election_rules::for_each_replica_of;
use super::image::{Broker, Image};
use super::partition_change::{NO_LEADER, PartitionChange};
use super::record::{BrokerRecord, Record};
use crate::Refusal;
use crate::config::Flush;

pub(super) fn register(image: &Image, command: &RegisterBroker) -> Result<Decision, Refusal> {
    let known = image.broker(command.broker);
    if let Some(known) = known {
        if known.incarnation == command.incarnation && same_registration(known, command) {
            // A retry of what was recorded.
            let outcome = Outcome::BrokerRegistered { epoch: known.epoch };
            return Ok(Decision { outcome, ..Decision::default() });
        }
        if known.incarnation != command.incarnation && command.previous_epoch.is_some_and(|epoch| epoch != known.epoch)
        {
            let message = format!("broker {} has been registered since, with epoch {}", command.broker, known.epoch);
            return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
        }
        if known.incarnation != command.incarnation && !known.fenced && !command.previous_is_gone {
            return Err(Refusal::new(
                ErrorCode::DuplicateBrokerRegistration,
                format!(
                    "Another broker is registered with that broker id. If the broker was recently restarted this should self-resolve once the heartbeat timeout expires. (broker {})",
                    command.broker
                ),
            ));
        }
    }
    // The place of the record in the log: it grows with every registration.
    let epoch = image.records_applied() as i64;
    let registered = Record::BrokerRegistered(BrokerRecord {
        broker: command.broker,
        epoch,
        incarnation: command.incarnation,
        listeners: command.listeners.clone(),
        rack: command.rack.clone(),
        dirs: command.dirs.clone(),
        fenced: command.fenced,
    });
    let changes = changes_of_registration(image, &registered, Restart::of(known.map(|known| &**known), command));
    let mut made = vec![registered];
    made.extend(changes);
    Ok(Decision { outcome: Outcome::BrokerRegistered { epoch }, ..records(made) })
}

fn same_registration(known: &Broker, command: &RegisterBroker) -> bool {
    known.listeners == command.listeners && known.rack == command.rack && known.dirs == command.dirs
}

/// What a broker may have lost between two lives.
struct Restart<'a> {
    command: &'a RegisterBroker,
    /// It comes back as it was, and nothing was decided in between.
    is_seamless: bool,
    /// Nobody knows what it had: it was unregistered, or never there.
    is_stranger: bool,
    lost_dirs: Vec<Uuid>,
    damaged: BTreeSet<(Uuid, i32)>,
}

impl<'a> Restart<'a> {
    fn of(known: Option<&Broker>, command: &'a RegisterBroker) -> Restart<'a> {
        let dirs = known.map_or(&[][..], |known| &known.dirs);
        let lost_dirs: Vec<Uuid> = dirs.iter().filter(|dir| !command.dirs.contains(dir)).copied().collect();
        let is_whole = lost_dirs.is_empty() && !command.unclean && command.damaged.is_empty();
        Restart {
            command,
            is_seamless: is_whole && !command.fenced && known.is_some_and(Broker::is_active),
            is_stranger: known.is_none(),
            lost_dirs,
            damaged: command.damaged.iter().copied().collect(),
        }
    }

    /// Whether what this replica had on its disk may be less than what was committed.
    fn may_have_lost(&self, change: &PartitionChange<'_>) -> bool {
        let partition = change.before();
        let place = partition.replicas.iter().position(|replica| *replica == self.command.broker);
        let dir = place.and_then(|place| partition.dirs.get(place)).copied().unwrap_or(Uuid::ZERO);
        // Where it was is not always known: then any directory that is gone may have been it.
        let is_lost = !self.lost_dirs.is_empty() && (dir == Uuid::ZERO || self.lost_dirs.contains(&dir));
        let is_unsynced = self.command.unclean && change.config().flush == Flush::Async;
        self.is_stranger || is_lost || is_unsynced || self.damaged.contains(&change.key())
    }
}

/// The life that others took for in sync is over; where something may be lost, so is the seat.
fn changes_of_registration(image: &Image, registered: &Record, restart: Restart<'_>) -> Vec<Record> {
    if restart.is_seamless {
        return Vec::new();
    }
    let broker = restart.command.broker;
    let mut next = image.clone();
    next.apply(registered);
    for_each_replica_of(&next, broker, |change| {
        let is_stripped = restart.may_have_lost(&change);
        let change = change.online(broker);
        let change = if is_stripped { change.stripped(broker) } else { change };
        let change = if restart.command.fenced { change.without(broker) } else { change };
        change.record()
    })
}

pub(super) fn unregister(image: &Image, broker: BrokerId, epoch: i64) -> Result<Decision, Refusal> {
    current(image, broker, epoch)?;
    let record = Record::BrokerUnregistered { broker, epoch };
    let mut next = image.clone();
    next.apply(&record);
    let mut made = vec![record];
    made.extend(for_each_replica_of(&next, broker, |change| change.without(broker).record()));
    Ok(records(made))
}

pub(super) fn fence(image: &Image, broker: BrokerId, epoch: i64) -> Result<Decision, Refusal> {
    let known = current(image, broker, epoch)?;
    if known.fenced {
        return Ok(Decision::default());
    }
    let mut made = vec![Record::BrokerFenced { broker, epoch }];
    made.extend(for_each_replica_of(image, broker, |change| change.without(broker).record()));
    Ok(records(made))
}

pub(super) fn unfence(image: &Image, broker: BrokerId, epoch: i64) -> Result<Decision, Refusal> {
    let known = current(image, broker, epoch)?;
    if !known.fenced {
        return Ok(Decision::default());
    }
    let record = Record::BrokerUnfenced { broker, epoch };
    let mut next = image.clone();
    next.apply(&record);
    let mut made = vec![record];
    // Where somebody leads it has to catch up first.
    made.extend(for_each_replica_of(&next, broker, |change| {
        if change.before().leader == NO_LEADER { change.record() } else { None }
    }));
    Ok(records(made))
}

/// Its partitions are led by others from now on, where there are others; where there may be, it has to wait for them.
pub(super) fn controlled_shutdown(image: &Image, broker: BrokerId, epoch: i64) -> Result<Decision, Refusal> {
    let known = current(image, broker, epoch)?;
    let mut next = image.clone();
    let mut made = Vec::new();
    if !known.in_controlled_shutdown {
        let record = Record::BrokerInControlledShutdown { broker, epoch };
        next.apply(&record);
        made.push(record);
    }
    let mut still_leading = 0;
    made.extend(for_each_replica_of(&next, broker, |change| {
        let before = change.before();
        let leads = before.leader == broker;
        if !leads && !before.isr.contains(&broker) {
            return None;
        }
        let change = change.without(broker);
        if leads && !change.has_fit_in_sync() {
            // It leads until it is gone: an election that finds nobody helps nobody.
            let may_catch_up =
                |other: &BrokerId| *other != broker && next.broker(*other).is_some_and(|other| other.is_active());
            still_leading += usize::from(before.replicas.iter().any(may_catch_up));
            return None;
        }
        change.record()
    }));
    let outcome = if still_leading == 0 { Outcome::Done } else { Outcome::StillLeading { count: still_leading } };
    Ok(Decision { outcome, ..records(made) })
}

/// The broker in the life that speaks.
pub(super) fn current(image: &Image, broker: BrokerId, epoch: i64) -> Result<&Broker, Refusal> {
    let known = registered(image, broker)?;
    if known.epoch != epoch {
        return Err(Refusal::new(
            ErrorCode::StaleBrokerEpoch,
            format!("broker epoch {epoch} is not the current one, {}", known.epoch),
        ));
    }
    Ok(known)
}
