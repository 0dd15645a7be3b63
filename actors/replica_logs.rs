//! The logs of this broker's replicas are opened or made.
//!
//! One that is damaged is set aside and made anew where another broker leads and nobody counts on this replica: it follows from
//! nothing, as a new one does, and is in sync when it has everything. Elsewhere it stays as it is, for it may be the only one.

use std::collections::BTreeMap;
use std::sync::Arc;

use capek_log::{Log, LogError, LogId};
use capek_state::cluster::Image;
use capek_wire::ids::BrokerId;
use log::warn;

use crate::journal::JournalHandle;
use crate::replica::{Wanted, spec};

/// For each replica its log, with one sync for each directory.
pub async fn open_or_make(
    journals: &[JournalHandle],
    wanted: Vec<Wanted>,
    image: &Image,
    me: BrokerId,
) -> Vec<(Wanted, Result<Arc<Log>, LogError>)> {
    let mut by_dir: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
    for replica in wanted {
        by_dir.entry(replica.dir).or_default().push(replica);
    }
    let mut made = Vec::new();
    for (dir, wanted) in by_dir {
        let journal = &journals[dir];
        let logs = journal.create(wanted.iter().map(spec).collect()).await;
        for (wanted, log) in wanted.into_iter().zip(logs) {
            let log = match log {
                Err(LogError::Damaged(problem)) if can_do_without(image, me, &wanted) => {
                    make_anew(journal, &wanted, &problem).await
                }
                other => other,
            };
            made.push((wanted, log));
        }
    }
    made
}

fn can_do_without(image: &Image, me: BrokerId, wanted: &Wanted) -> bool {
    let partition = image.partition(wanted.key.topic_id, wanted.key.partition);
    partition.is_some_and(|partition| partition.can_do_without(me))
}

async fn make_anew(journal: &JournalHandle, wanted: &Wanted, problem: &str) -> Result<Arc<Log>, LogError> {
    let spec = spec(wanted);
    warn!("{}: its log is set aside and fetched from broker {}: {problem}", wanted.key, wanted.assignment.leader);
    let damaged = || LogError::Damaged(problem.to_owned());
    journal.set_aside(vec![spec.id.clone()]).await.pop().unwrap_or_else(|| Err(damaged()))?;
    journal.create(vec![spec]).await.pop().unwrap_or_else(|| Err(damaged()))
}

/// Logs of partitions that this broker has no part in any more. One that stays where it is costs room, and nothing else.
pub async fn set_aside(journal: &JournalHandle, strays: Vec<LogId>) {
    let names: Vec<String> = strays.iter().map(LogId::directory_name).collect();
    warn!("this broker has no replica of {} any more: set aside as -stray, to be removed", names.join(", "));
    for (name, result) in names.iter().zip(journal.set_aside(strays).await) {
        if let Err(error) = result {
            warn!("{name} cannot be set aside: {error}");
        }
    }
}
