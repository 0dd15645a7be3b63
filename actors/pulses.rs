//! Which peers may have died just now: the kernel knows before any task of ours has read the end of their connections.
//!
//! A client whose broker dies asks another one at once who leads instead, and believes the answer until its own timers run out:
//! when it is told the dead one, it asks again a second later. So whoever answers looks here first, and lets the controller
//! decide ([`crate::requests`]).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capek_wire::ids::BrokerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A peer that is gone for longer is known to the controller, or is not going to be.
const NEWS_FOR: Duration = Duration::from_secs(1);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Pulses(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<BrokerId, Pulse>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Pulse {
    connections: BTreeMap<u64, OwnedFd>,
    /// When the peer ended one of them, and none has come since.
    lost: Option<Instant>,
}

/// A connection that is looked at, until this is dropped.
#[derive(Debug)]
pub struct Watched {
    pulses: Arc<Pulses>,
    peer: BrokerId,
    id: u64,
}

impl Pulses {
    pub fn watch(self: &Arc<Self>, peer: BrokerId, socket: BorrowedFd<'_>) -> io::Result<Watched> {
        let socket = socket.try_clone_to_owned()?;
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        let pulse = state.peers.entry(peer).or_default();
        pulse.connections.insert(id, socket);
        pulse.lost = None;
        Ok(Watched { pulses: self.clone(), peer, id })
    }

    /// The peers that have closed a connection within the last second and have no new one.
    pub fn suspects(&self, now: Instant) -> Vec<BrokerId> {
        let state = self.lock();
        let is_news = |pulse: &Pulse| pulse.lost.is_some_and(|lost| now.saturating_duration_since(lost) < NEWS_FOR);
        let lost = state.peers.iter().filter(|(_, pulse)| is_news(pulse)).map(|(peer, _)| *peer);
        let connections =
            state.peers.iter().flat_map(|(peer, pulse)| pulse.connections.values().map(move |socket| (*peer, socket)));
        let mut suspects: Vec<BrokerId> = lost.chain(hung_up(connections)).collect();
        suspects.sort_unstable();
        suspects.dedup();
        suspects
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.pulses.lock();
        let Some(pulse) = state.peers.get_mut(&self.peer) else { return };
        // What ends here and not there says nothing of the peer.
        if let Some(socket) = pulse.connections.remove(&self.id)
            && !hung_up([(self.peer, &socket)]).is_empty()
        {
            pulse.lost = Some(Instant::now());
        }
    }
}

/// Whose connections have ended: one system call for all of them.
fn hung_up<'a>(connections: impl IntoIterator<Item = (BrokerId, &'a OwnedFd)>) -> Vec<BrokerId> {
    let asked = connections.into_iter().map(|(peer, socket)| (peer, PollFd::new(socket, PollFlags::RDHUP)));
    let (peers, mut polled): (Vec<BrokerId>, Vec<_>) = asked.unzip();
    if poll(&mut polled, Some(&AT_ONCE)).is_err() {
        return Vec::new();
    }
    let has_ended =
        |socket: &PollFd<'_>| socket.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
    peers.into_iter().zip(&polled).filter(|(_, socket)| has_ended(socket)).map(|(peer, _)| peer).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn who_hangs_up_is_suspected_before_anybody_reads_it_and_until_it_is_back() {
        let pulses = Arc::<Pulses>::default();
        let now = Instant::now();
        let (near, mut far) = connection();
        let watched = pulses.watch(2, near.as_fd()).unwrap();
        let (other, _stays) = connection();
        let _other = pulses.watch(3, other.as_fd()).unwrap();
        assert_eq!(pulses.suspects(now), []);
        far.write_all(b"the last words, which nobody has read yet").unwrap();
        drop(far);
        assert_eq!(pulses.suspects(now), [2]);
        drop(watched);
        let lost = Instant::now();
        assert_eq!(pulses.suspects(lost), [2]);
        assert_eq!(pulses.suspects(lost + NEWS_FOR), [], "no news any more");
        let (near, _far) = connection();
        let _watched = pulses.watch(2, near.as_fd()).unwrap();
        assert_eq!(pulses.suspects(lost), []);
    }

    #[test]
    fn a_connection_that_is_looked_at_can_be_closed() {
        use std::io::Read;
        let pulses = Arc::<Pulses>::default();
        let (near, mut far) = connection();
        let watched = pulses.watch(2, near.as_fd()).unwrap();
        drop((near, watched));
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn who_is_hung_up_on_is_not_suspected() {
        let pulses = Arc::<Pulses>::default();
        let (near, _far) = connection();
        drop(pulses.watch(2, near.as_fd()).unwrap());
        drop(near);
        assert_eq!(pulses.suspects(Instant::now()), []);
    }
}
