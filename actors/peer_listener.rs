//! PeerListener: accepts other brokers, hears their hello, and hands each connection to its lane. It serves no Kafka API.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use capek_wire::peer::Lane;
use log::{debug, warn};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::broker::{BrokerShared, ChildId};
use crate::call_server;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::data_lane;
use crate::peer_tls::TlsProblem;
use crate::peer_transport::{PeerError, PeerIdentity, accept};
use crate::raft::server::ControlServer;
use crate::supervision::ExitSignal;

/// Connections of peers at a time: three lanes of each of many brokers, and some that are about to break.
const CONNECTIONS_MAX: usize = 256;
/// After a failed accept: out of descriptors, it fails at once, again and again.
const PAUSE: Duration = Duration::from_millis(100);
/// Who is not let in tries again twice a second: the log says why once in this time.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);
/// Complaints that are remembered.
const COMPLAINTS_MAX: usize = 64;

/// What every connection is served with.
#[derive(Clone)]
pub struct PeerService {
    pub me: Arc<PeerIdentity>,
    pub control: Arc<ControlServer>,
    /// Set when this broker has replicas to serve.
    pub shared: Arc<OnceLock<Arc<BrokerShared>>>,
    /// How many connections there were.
    pub connections: Arc<AtomicU64>,
}

pub struct PeerListener {
    sockets: Vec<TcpListener>,
    service: PeerService,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

impl PeerListener {
    pub fn new(
        sockets: Vec<TcpListener>,
        service: PeerService,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        Self { sockets, service, entry, exit }
    }
}

impl Actor for PeerListener {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        for socket in std::mem::take(&mut self.sockets) {
            let accepting = accept_loop(socket, self.service.clone());
            context.spawn(accepting.into_actor(self).map(|(), _, context| context.stop()));
        }
    }
}

impl Handler<Chaos> for PeerListener {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}

/// Accepts until it is dropped, and its connections with it.
async fn accept_loop(socket: TcpListener, service: PeerService) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let complaints = Arc::<Complaints>::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match socket.accept().await {
            Ok((stream, peer)) => {
                let (service, complaints) = (service.clone(), complaints.clone());
                connections.spawn(async move {
                    let peers = service.control.peers.clone();
                    if let Err(error) = serve(stream, service).await {
                        peers.refused((&error).into());
                        complaints.tell(peer, &error);
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!("cannot accept a broker's connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What the log has said of those who were not let in.
#[derive(Default)]
struct Complaints(Mutex<BTreeMap<(IpAddr, String), Instant>>);

impl Complaints {
    fn tell(&self, peer: SocketAddr, error: &PeerError) {
        let is_worth_a_line = match error {
            PeerError::Refused(_) => true,
            // Somebody looks whether the port is open.
            PeerError::Tls(problem) => *problem != TlsProblem::HungUp,
            _ => false,
        };
        if is_worth_a_line && self.is_new(peer.ip(), error.to_string()) {
            warn!("{peer}: not let in as a broker: {error}");
        } else {
            debug!("{peer}: not let in as a broker: {error}");
        }
    }

    fn is_new(&self, peer: IpAddr, sentence: String) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| at.elapsed() < COMPLAIN_AGAIN);
        if said.contains_key(&(peer, sentence.clone())) || said.len() >= COMPLAINTS_MAX {
            return false;
        }
        said.insert((peer, sentence), Instant::now());
        true
    }
}

async fn serve(stream: TcpStream, service: PeerService) -> Result<(), PeerError> {
    // Before the hello is answered: a peer that has used this connection makes its next one after that.
    let connection = service.connections.fetch_add(1, Ordering::Relaxed);
    let (stream, hello) = accept(stream, &service.me).await?;
    match hello.lane {
        Lane::Control => service.control.serve(stream).await,
        Lane::Data => match service.shared.get() {
            Some(shared) => data_lane::serve(stream, hello, connection, shared.clone()).await,
            // Its replicas are not open yet: the peer tries again.
            None => debug!("broker {} asks for records before there are any", hello.from),
        },
        Lane::Calls => match service.shared.get() {
            Some(shared) => call_server::serve(stream, hello, shared.clone()).await,
            None => debug!("broker {} asks before there is anything to answer", hello.from),
        },
    }
    Ok(())
}
