//! Consumer groups of the classic protocol: how long members stand still while others join, what heartbeats cost the broker,
//! and how long a commit takes.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::group_frames::{self as frames, Joined};
use crate::offsets::NOT_YET;
use crate::{new_histogram, percentiles};

const REBALANCE_IN_PROGRESS: i16 = 27;

/// Members that come one by one, each `spacing` after the one before.
pub struct JoinLoad {
    pub address: String,
    pub members: usize,
    pub spacing: Duration,
    pub heartbeat: Duration,
}

/// A member's life: it joins, syncs, and heartbeats until the group rebalances, and so on. Returns how long it stood still,
/// each time: from the moment it had to join until it had its assignment.
async fn live(load: Rc<JoinLoad>, group: Rc<str>, mut stop: watch::Receiver<bool>) -> io::Result<Vec<Duration>> {
    let mut socket = crate::frames::connect(&load.address).await?;
    let mut member_id = String::new();
    let mut stood_still = Vec::new();
    loop {
        let began = Instant::now();
        let Some(joined) = join_and_sync(&mut socket, &group, &mut member_id).await? else { continue };
        stood_still.push(began.elapsed());
        loop {
            tokio::select! {
                () = tokio::time::sleep(load.heartbeat) => {}
                _ = stop.changed() => return Ok(stood_still),
            }
            match frames::heartbeat(&mut socket, &group, &joined).await? {
                0 => {}
                REBALANCE_IN_PROGRESS => break,
                error => return Err(io::Error::other(format!("heartbeat: error {error}"))),
            }
        }
    }
}

/// None: the group began another rebalance meanwhile. The member keeps the id that it is given once.
async fn join_and_sync(socket: &mut TcpStream, group: &str, member_id: &mut String) -> io::Result<Option<Joined>> {
    loop {
        let joined = frames::join(socket, group, member_id).await?;
        match joined.error {
            0 => {
                member_id.clone_from(&joined.member_id);
                let error = frames::sync(socket, group, &joined).await?;
                return match error {
                    0 => Ok(Some(joined)),
                    REBALANCE_IN_PROGRESS => Ok(None),
                    error => Err(io::Error::other(format!("sync: error {error}"))),
                };
            }
            REBALANCE_IN_PROGRESS => return Ok(None),
            error if NOT_YET.contains(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
            error => return Err(io::Error::other(format!("join: error {error}"))),
        }
    }
}

pub async fn join(load: JoinLoad) -> io::Result<()> {
    frames::await_coordinator(&load.address, "joins").await?;
    let load = Rc::new(load);
    let group: Rc<str> = Rc::from(format!("joins-{}", std::process::id()));
    let (stop, stopped) = watch::channel(false);
    let mut stood_still = new_histogram();
    LocalSet::new()
        .run_until(async {
            let mut members = JoinSet::new();
            for _ in 0..load.members {
                members.spawn_local(live(load.clone(), group.clone(), stopped.clone()));
                tokio::time::sleep(load.spacing).await;
            }
            tokio::time::sleep(load.heartbeat * 3 + Duration::from_secs(8)).await;
            // Everybody has ended by itself if nobody listens.
            let _ = stop.send(true);
            while let Some(member) = members.join_next().await {
                for time in member.map_err(io::Error::other)?? {
                    stood_still.saturating_record(time.as_micros().max(1) as u64);
                }
            }
            Ok::<_, io::Error>(())
        })
        .await?;
    println!("{{\"rebalances\": {}, {}}}", stood_still.len(), percentiles(&stood_still));
    Ok(())
}

/// Many stable groups whose members do nothing but heartbeat.
#[derive(Clone)]
pub struct HeartbeatLoad {
    pub address: String,
    pub groups: usize,
    pub members: usize,
    pub seconds: u32,
    /// Whose processor time is counted.
    pub broker_pid: u32,
}

pub async fn heartbeats(load: HeartbeatLoad) -> io::Result<()> {
    const INTERVAL: Duration = Duration::from_secs(3);
    const GROUPS_AT_A_TIME: usize = 50;
    const TIMER_STEP: Duration = Duration::from_millis(1);
    frames::await_coordinator(&load.address, "beats").await?;
    let local = LocalSet::new();
    let mut members = Vec::new();
    let ids: Vec<usize> = (0..load.groups).collect();
    // Many at a time: a broker may let the first members of a group wait for more.
    for ids in ids.chunks(GROUPS_AT_A_TIME) {
        let groups = ids.iter().map(|id| format!("beats-{}-{id}", std::process::id()));
        members.extend(local.run_until(set_up_all(&load, groups)).await?);
    }
    let mut socket = crate::frames::connect(&load.address).await?;
    let before = cpu_seconds(load.broker_pid)?;
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(u64::from(load.seconds)) {
        // As evenly as clients that do not know of each other.
        for (group, joined) in &members {
            let due = INTERVAL.mul_f64(sent as f64 / members.len() as f64);
            // A sleep takes a millisecond at least: a shorter one would make the rate smaller than it should be.
            if let Some(early) = due.checked_sub(began.elapsed()).filter(|early| *early > TIMER_STEP) {
                tokio::time::sleep(early).await;
            }
            match frames::heartbeat(&mut socket, group, joined).await? {
                0 => sent += 1,
                error => return Err(io::Error::other(format!("heartbeat: error {error}"))),
            }
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let used = cpu_seconds(load.broker_pid)? - before;
    println!("{{\"heartbeats_per_second\": {:.0}, \"cores\": {:.4}}}", sent as f64 / elapsed, used / elapsed);
    Ok(())
}

async fn set_up_all(load: &HeartbeatLoad, groups: impl Iterator<Item = String>) -> io::Result<Vec<(String, Joined)>> {
    let mut setting_up = JoinSet::new();
    for group in groups {
        setting_up.spawn_local(set_up(load.clone(), group));
    }
    let mut members = Vec::new();
    while let Some(of_group) = setting_up.join_next().await {
        members.extend(of_group.map_err(io::Error::other)??);
    }
    Ok(members)
}

/// All members of a group in one generation.
async fn set_up(load: HeartbeatLoad, group: String) -> io::Result<Vec<(String, Joined)>> {
    let group: Rc<str> = Rc::from(group);
    let generations = Rc::new(RefCell::new(vec![0; load.members]));
    let mut members = JoinSet::new();
    for index in 0..load.members {
        members.spawn_local(settle(load.address.clone(), group.clone(), index, generations.clone()));
    }
    let mut settled = Vec::new();
    while let Some(member) = members.join_next().await {
        settled.push((group.to_string(), member.map_err(io::Error::other)??));
    }
    Ok(settled)
}

/// Joins, and joins again whenever others do, until all are in the same generation.
async fn settle(
    address: String,
    group: Rc<str>,
    index: usize,
    generations: Rc<RefCell<Vec<i32>>>,
) -> io::Result<Joined> {
    const LOOK_AGAIN: Duration = Duration::from_millis(20);
    let mut socket = crate::frames::connect(&address).await?;
    let mut member_id = String::new();
    loop {
        let Some(joined) = join_and_sync(&mut socket, &group, &mut member_id).await? else { continue };
        generations.borrow_mut()[index] = joined.generation;
        loop {
            if generations.borrow().iter().all(|generation| *generation == joined.generation) {
                return Ok(joined);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            match frames::heartbeat(&mut socket, &group, &joined).await? {
                0 => {}
                REBALANCE_IN_PROGRESS => break,
                error => return Err(io::Error::other(format!("heartbeat: error {error}"))),
            }
        }
    }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> io::Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// Who commits, in turn: on any of the coordinator's shards.
const GROUPS: u32 = 50;

/// Commits of one partition, one after the other, at about this rate.
pub struct CommitLoad {
    pub address: String,
    pub topic: String,
    pub rate: u32,
    pub seconds: u32,
}

pub async fn commits(load: CommitLoad) -> io::Result<()> {
    frames::await_coordinator(&load.address, "commits").await?;
    let mut socket = crate::frames::connect(&load.address).await?;
    for index in 0..GROUPS {
        while NOT_YET.contains(&commit_one(&mut socket, &load, index).await?) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut histogram = new_histogram();
    let origin = Instant::now();
    for index in 0..load.rate * load.seconds {
        let due = Duration::from_secs_f64(f64::from(index) / f64::from(load.rate));
        if let Some(early) = due.checked_sub(origin.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let sent = Instant::now();
        let error = commit_one(&mut socket, &load, index).await?;
        if error != 0 {
            return Err(io::Error::other(format!("commit: error {error}")));
        }
        histogram.saturating_record(sent.elapsed().as_micros().max(1) as u64);
    }
    println!("{{\"commits\": {}, {}}}", histogram.len(), percentiles(&histogram));
    Ok(())
}

/// The error code.
async fn commit_one(socket: &mut TcpStream, load: &CommitLoad, index: u32) -> io::Result<i16> {
    let group = format!("commits-{}", index % GROUPS);
    socket.write_all(&frames::commit(&group, &load.topic, 1, i64::from(index))).await?;
    Ok(frames::commit_error(&crate::frames::response(socket).await?, 1))
}
