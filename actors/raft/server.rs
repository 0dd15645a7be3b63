//! The answering side of the control lane: what other brokers ask of this one.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::BytesMut;
use capek_wire::ids::{BrokerId, Uuid};
use capek_wire::peer::frame::encode_before_body;
use capek_wire::peer::{Frame, FrameKind, decode_head, encode_head};
use log::debug;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::messages::{CONTROL_FRAME_BYTES_MAX, ControlRequest, ControlResponse, HeartbeatReply, PeerStatus};
use super::quorum::Quorum;
use crate::peer_metrics::{PeerMetrics, PeerRefusal};
use crate::peer_transport::{PeerError, PeerIdentity, PeerStream, read_frame};

/// Requests of one connection that are worked on at a time; beyond it nothing more is read from it.
const IN_FLIGHT_MAX: usize = 64;

/// What the listener serves control lanes with, from before there is a quorum to ask.
pub struct ControlServer {
    me: Arc<PeerIdentity>,
    quorum: OnceLock<Arc<Quorum>>,
    has_log: bool,
    lost: RwLock<Option<PeerLost>>,
    pub peers: Arc<PeerMetrics>,
}

/// Told when a control lane from a broker has broken.
pub type PeerLost = Box<dyn Fn(BrokerId, Uuid) + Send + Sync>;

impl ControlServer {
    /// `has_log`: the directory holds a log of a quorum already.
    pub fn new(me: Arc<PeerIdentity>, has_log: bool) -> Self {
        Self { me, quorum: OnceLock::new(), has_log, lost: RwLock::default(), peers: Arc::default() }
    }

    /// From now on raft answers.
    pub fn set_quorum(&self, quorum: Arc<Quorum>) {
        let _ = self.quorum.set(quorum);
    }

    /// Whom to tell that a broker has hung up.
    pub fn on_peer_lost(&self, lost: PeerLost) {
        *self.lost.write().unwrap_or_else(PoisonError::into_inner) = Some(lost);
    }

    /// Serves one connection until the peer hangs up.
    pub async fn serve(self: Arc<Self>, stream: PeerStream) {
        let (peer, incarnation) = (stream.peer, stream.incarnation);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (answer, mut answers) = mpsc::channel::<(u64, Vec<u8>)>(IN_FLIGHT_MAX);
        let reading = async {
            let mut buffer = BytesMut::new();
            while let Some(frame) = read_frame(&mut reader, &mut buffer, CONTROL_FRAME_BYTES_MAX).await? {
                // A place for the answer first: what bounds the requests in flight.
                let Ok(place) = answer.clone().reserve_owned().await else { break };
                let server = self.clone();
                tokio::spawn(async move {
                    let id = frame.id;
                    let response = server.answer(peer, frame).await;
                    place.send((id, encode_head(&response)));
                });
            }
            Ok::<(), PeerError>(())
        };
        let writing = async {
            while let Some((id, head)) = answers.recv().await {
                writer.write_all(&encode_before_body(FrameKind::Response, id, &head, 0)).await?;
                writer.flush().await?;
            }
            Ok::<(), PeerError>(())
        };
        let ended = tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        };
        debug!("the control lane of broker {peer} ended: {ended:?}");
        // A lane that breaks is no refusal; what cannot be read is.
        if let Err(error @ (PeerError::Malformed(_) | PeerError::TooLarge { .. })) = &ended {
            self.peers.refused(error.into());
        }
        if let Some(lost) = &*self.lost.read().unwrap_or_else(PoisonError::into_inner) {
            lost(peer, incarnation);
        }
    }

    async fn answer(&self, peer: BrokerId, frame: Frame) -> ControlResponse {
        let Ok(request) = decode_head::<ControlRequest>(&frame.head) else {
            self.peers.refused(PeerRefusal::Malformed);
            return ControlResponse::Unknown;
        };
        let Some(quorum) = self.quorum.get() else {
            return match request {
                ControlRequest::Status => ControlResponse::Status(self.status_without_quorum()),
                _ => ControlResponse::NotReady,
            };
        };
        match request {
            ControlRequest::Status => ControlResponse::Status(status(quorum, peer)),
            ControlRequest::AppendEntries(rpc) => {
                let answered = quorum.raft().append_entries(rpc).await;
                ControlResponse::AppendEntries(answered.map_err(|error| error.to_string()))
            }
            ControlRequest::Vote(rpc) => {
                let answered = quorum.raft().vote(rpc).await;
                ControlResponse::Vote(answered.map_err(|error| error.to_string()))
            }
            ControlRequest::InstallSnapshot(rpc) => {
                let answered = quorum.raft().install_snapshot(rpc).await;
                ControlResponse::InstallSnapshot(answered.map_err(|error| error.to_string()))
            }
            ControlRequest::Propose(command) => ControlResponse::Propose(quorum.decide_here(*command).await),
            ControlRequest::ChangeMembers(change) => {
                ControlResponse::ChangeMembers(quorum.change_members_here(change).await)
            }
            ControlRequest::Claim(claim) => ControlResponse::Claim(quorum.claimed_by(peer, claim).await),
            ControlRequest::Heartbeat(heartbeat) => ControlResponse::Heartbeat(match quorum.heartbeats() {
                Some(heartbeats) => heartbeats.received(heartbeat).await,
                None => HeartbeatReply::NotController { controller: quorum.controller() },
            }),
        }
    }

    fn status_without_quorum(&self) -> PeerStatus {
        let cluster_id = self.me.cluster_id().map(str::to_owned);
        PeerStatus { cluster_id, has_log: self.has_log, ..PeerStatus::default() }
    }
}

fn status(quorum: &Quorum, asker: BrokerId) -> PeerStatus {
    let image = quorum.image();
    PeerStatus {
        cluster_id: image.cluster_id().map(str::to_owned),
        has_log: quorum.has_log(),
        controller: quorum.controller(),
        asker_incarnation: image.broker(asker).map(|broker| broker.incarnation),
    }
}
