//! Listener: accepts the sockets of one named listener, bounds them, and supervises their Connections.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use capek_state::config::connection_overrides;
use log::{debug, warn};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

use crate::broker::{BrokerShared, ChildId};
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::config::ListenerConfig;
use crate::connection::{Close, Connection, ConnectionLimits, ConnectionStart};
use crate::replica_manager::DataArbiter;
use crate::requests::RequestContext;
use crate::supervision::{ChildExited, ExitSignal};

/// Stop accepting and let every connection answer what it has begun. Answered when the last has gone, or after `grace`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain {
    pub grace: Duration,
}

struct ConnectionChild {
    addr: Addr<Connection>,
    ip: IpAddr,
    path: String,
}

pub struct Listener {
    broker: Arc<BrokerShared>,
    config: Arc<ListenerConfig>,
    sockets: Vec<TcpListener>,
    arbiters: Vec<DataArbiter>,
    children: HashMap<u64, ConnectionChild>,
    by_ip: HashMap<IpAddr, usize>,
    next_id: u64,
    is_draining: bool,
    drained: Vec<oneshot::Sender<()>>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

/// Connections of all listeners together.
pub static CONNECTIONS_OPEN: AtomicUsize = AtomicUsize::new(0);

impl Listener {
    pub fn new(
        broker: Arc<BrokerShared>,
        config: Arc<ListenerConfig>,
        sockets: Vec<TcpListener>,
        arbiters: Vec<DataArbiter>,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        Self {
            broker,
            config,
            sockets,
            arbiters,
            children: HashMap::new(),
            by_ip: HashMap::new(),
            next_id: 1,
            is_draining: false,
            drained: Vec::new(),
            entry,
            exit,
        }
    }

    fn accepted(&mut self, stream: TcpStream, peer: SocketAddr, context: &mut Context<Self>) {
        if self.is_draining {
            return;
        }
        let from_ip = self.by_ip.get(&peer.ip()).copied().unwrap_or(0);
        let connections_max = self.limit("max.connections", self.broker.config.connections_max);
        if CONNECTIONS_OPEN.load(Ordering::Relaxed) >= connections_max {
            warn!("{peer}: refused: there are {connections_max} connections (max.connections)");
            return;
        }
        let max = self.limit_of(peer.ip());
        if from_ip >= max {
            warn!("{peer}: refused: {max} connections from this address (max.connections.per.ip)");
            return;
        }
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return debug!("{peer}: the socket was gone before it was served: {error}"),
        };
        CONNECTIONS_OPEN.fetch_add(1, Ordering::Relaxed);
        *self.by_ip.entry(peer.ip()).or_default() += 1;
        let id = self.next_id;
        self.next_id += 1;
        let path = format!("{}/connection:{id}", self.entry.path);
        let addr = self.start_connection(id, stream, peer, &path, context);
        self.children.insert(id, ConnectionChild { addr, ip: peer.ip(), path });
    }

    /// As it is set now; `start` is what the broker began with.
    fn limit(&self, name: &str, start: usize) -> usize {
        let config = &self.broker.config;
        let set = self.broker.image.load().broker_value(config.node_id, &config.properties, name);
        let number = set.and_then(|value| value.trim().parse::<i64>().ok());
        number.map_or(start, |number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// `max.connections.per.ip.overrides` may have another limit for this address.
    fn limit_of(&self, ip: IpAddr) -> usize {
        let config = &self.broker.config;
        let overrides = self.broker.image.load().broker_value(
            config.node_id,
            &config.properties,
            "max.connections.per.ip.overrides",
        );
        let overrides = overrides.unwrap_or_default();
        let pairs = connection_overrides(&overrides).unwrap_or_default();
        let own = pairs.into_iter().find(|(host, _)| host.parse() == Ok(ip)).map(|(_, count)| count);
        own.unwrap_or_else(|| self.limit("max.connections.per.ip", config.connections_per_ip_max))
    }

    fn start_connection(
        &self,
        id: u64,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        path: &str,
        context: &mut Context<Self>,
    ) -> Addr<Connection> {
        let broker = self.broker.clone();
        let listener = self.config.clone();
        let entry = broker.census.enter(path.to_string(), "connection");
        let exit = ExitSignal::new(context.address().recipient(), id, 1);
        let arbiter = &self.arbiters[(id % self.arbiters.len() as u64) as usize];
        Connection::start_in_arbiter(&arbiter.handle, move |_| {
            let limits = ConnectionLimits {
                frame_bytes_max: broker.config.frame_bytes_max,
                idle_max: broker.config.connection_idle_max,
            };
            let budget = broker.request_budget.clone();
            let request_context = RequestContext {
                broker,
                listener,
                peer,
                waker: Arc::default(),
                is_draining: Cell::new(false),
                fetch_waiter: Arc::new(Notify::new()),
                waiting_count: Cell::new(0),
            };
            let stream = TcpStream::from_std(stream).expect("an accepted socket can be registered with its arbiter");
            Connection::new(ConnectionStart { stream, context: request_context, limits, budget, entry, exit })
        })
    }
}

/// A supervisor that ends takes its children along: nobody would count them any more.
impl Drop for Listener {
    fn drop(&mut self) {
        for child in self.children.values() {
            child.addr.do_send(Close { drain: false });
            self.broker.census.leave(&child.path);
        }
        CONNECTIONS_OPEN.fetch_sub(self.children.len(), Ordering::Relaxed);
    }
}

/// A socket has come in.
#[derive(Message)]
#[rtype(result = "()")]
struct Accepted(TcpStream, SocketAddr);

/// Accepts until the actor goes. An error is logged and costs a pause: out of descriptors, accept fails at once, again and
/// again.
async fn accept_loop(socket: TcpListener, listener: Addr<Listener>) {
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Waiting for the answer bounds what is accepted and not yet counted.
                if listener.send(Accepted(stream, peer)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        for socket in std::mem::take(&mut self.sockets) {
            let accepting = accept_loop(socket, context.address());
            context.spawn(accepting.into_actor(self).map(|(), _, context| context.stop()));
        }
    }
}

impl Handler<Accepted> for Listener {
    type Result = ();

    fn handle(&mut self, accepted: Accepted, context: &mut Self::Context) {
        self.accepted(accepted.0, accepted.1, context);
    }
}

impl Handler<ChildExited<u64>> for Listener {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<u64>, _: &mut Self::Context) {
        let Some(child) = self.children.remove(&exited.child) else { return };
        CONNECTIONS_OPEN.fetch_sub(1, Ordering::Relaxed);
        self.broker.census.leave(&child.path);
        if let Some(count) = self.by_ip.get_mut(&child.ip) {
            *count -= 1;
            if *count == 0 {
                self.by_ip.remove(&child.ip);
            }
        }
        if self.children.is_empty() {
            for drained in self.drained.drain(..) {
                // Whoever waited may have lost patience.
                let _ = drained.send(());
            }
        }
    }
}

impl Handler<Drain> for Listener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        self.is_draining = true;
        let (sender, drained) = oneshot::channel();
        if self.children.is_empty() {
            return Box::pin(async {});
        }
        self.drained.push(sender);
        for child in self.children.values() {
            child.addr.do_send(Close { drain: true });
        }
        let children: Vec<_> = self.children.values().map(|child| child.addr.clone()).collect();
        Box::pin(async move {
            if tokio::time::timeout(drain.grace, drained).await.is_err() {
                for child in children {
                    child.do_send(Close { drain: false });
                }
            }
        })
    }
}

impl Handler<Chaos> for Listener {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
