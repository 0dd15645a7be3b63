//! The network between the brokers of a cluster: each peer listener stands behind a relay, which holds back what one broker
//! says to another while that direction is cut. Clients are not affected. It needs no rights, and what is held back arrives
//! later, as with TCP over a network that is repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::broker::free_port;

const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub struct Network {
    state: Arc<State>,
    /// Where each broker is reached, and where it listens.
    pub relays: BTreeMap<i32, String>,
    pub listeners: BTreeMap<i32, String>,
}

#[derive(Default)]
struct State {
    /// From whom to whom nothing arrives.
    cut: Mutex<BTreeSet<(i32, i32)>>,
    is_closed: AtomicBool,
}

impl Network {
    pub fn between(count: i32) -> Network {
        let state = Arc::new(State::default());
        let listeners: BTreeMap<i32, String> = (1..=count).map(|id| (id, address(free_port()))).collect();
        let relays = listeners.iter().map(|(id, listener)| {
            let socket = TcpListener::bind(address(free_port())).expect("the port is free");
            let relay = socket.local_addr().expect("it is bound").to_string();
            let (state, id, listener) = (state.clone(), *id, listener.clone());
            thread::spawn(move || accept(&socket, id, &listener, &state));
            (id, relay)
        });
        Network { relays: relays.collect(), listeners, state }
    }

    /// Nothing that `from` says reaches `to` any more.
    pub fn cut(&self, from: i32, to: i32) {
        self.state.cut.lock().expect("no holder panics").insert((from, to));
    }

    /// Both ways.
    pub fn separate(&self, one: i32, other: i32) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn heal(&self) {
        self.state.cut.lock().expect("no holder panics").clear();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.state.is_closed.store(true, Ordering::Relaxed);
        self.heal();
        for relay in self.relays.values() {
            let _ = TcpStream::connect(relay); // wakes it
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn accept(socket: &TcpListener, to: i32, listener: &str, state: &Arc<State>) {
    for connection in socket.incoming().map_while(Result::ok) {
        if state.is_closed.load(Ordering::Relaxed) {
            return;
        }
        let (listener, state) = (listener.to_owned(), state.clone());
        thread::spawn(move || {
            // Whatever goes wrong, both ends see a connection that broke.
            let _ = relay(connection, to, &listener, &state);
        });
    }
}

fn relay(mut near: TcpStream, to: i32, listener: &str, state: &Arc<State>) -> io::Result<()> {
    let hello = read_frame(&mut near)?;
    let from = sender(&hello);
    let mut far = TcpStream::connect(listener)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    state.wait_while_cut(from, to);
    far.write_all(&hello)?;
    let back = {
        let (far, near, state) = (far.try_clone()?, near.try_clone()?, state.clone());
        thread::spawn(move || pump(far, near, to, from, &state))
    };
    pump(near, far, from, to, state);
    let _ = back.join();
    Ok(())
}

fn pump(mut source: TcpStream, mut sink: TcpStream, from: i32, to: i32, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        state.wait_while_cut(from, to);
        if sink.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // That a connection has ended is news, too.
    state.wait_while_cut(from, to);
    let _ = sink.shutdown(Shutdown::Both);
    let _ = source.shutdown(Shutdown::Both);
}

impl State {
    fn wait_while_cut(&self, from: i32, to: i32) {
        while self.cut.lock().expect("no holder panics").contains(&(from, to)) {
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// With the size before it.
fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let length = u32::from_be_bytes(size) as usize;
    if length > 4096 {
        return Err(io::Error::other("a hello is short"));
    }
    let mut frame = size.to_vec();
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Who says hello: size, kind, id and the size of the head; then two versions, perhaps a cluster's id, and the broker's, doubled
/// because it has a sign.
fn sender(hello: &[u8]) -> i32 {
    let head = &hello[4 + 1 + 8 + 4..];
    let after_versions = &head[2..];
    let at = match after_versions[0] {
        0 => 1,
        _ => 2 + after_versions[1] as usize,
    };
    i32::from(after_versions[at]) / 2
}
