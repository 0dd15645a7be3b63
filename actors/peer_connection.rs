//! The data lane's connection to another broker, made again for as long as its [`Peer`] lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use capek_state::cluster::Image;
use capek_wire::ids::BrokerId;
use capek_wire::peer::{Lane, frame};
use log::{debug, info};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::peer::{Connected, Disconnected, FrameReceived, Peer};
use crate::peer_transport::{self, PeerIdentity, PeerStream};

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection that ends sooner was none.
const LASTING: Duration = Duration::from_secs(1);
/// Read at once.
const READ_BYTES: usize = 256 << 10;

/// Ends with its owner.
pub struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to `broker` wherever the image says that it is, and tells `peer` of it.
pub fn start(me: Arc<PeerIdentity>, broker: BrokerId, image: Arc<ArcSwap<Image>>, peer: Addr<Peer>) -> ConnectionTask {
    ConnectionTask(actix_rt::spawn(async move {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match connect(&me, broker, &image).await {
                Ok(stream) => {
                    let (watched, began) = (stream.watch(&me), Instant::now());
                    let reason = carry(stream, &peer).await;
                    drop(watched);
                    peer.do_send(Disconnected);
                    // A broker that is starting hangs up until it is ready: no news each time, and no reason to hurry.
                    if began.elapsed() >= LASTING {
                        backoff = BACKOFF_FIRST;
                        info!("the connection to broker {broker} has ended: {reason}");
                    } else {
                        debug!("the connection to broker {broker} has ended at once: {reason}");
                    }
                }
                Err(reason) => debug!("broker {broker} cannot be reached: {reason}"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }))
}

async fn connect(me: &PeerIdentity, broker: BrokerId, image: &ArcSwap<Image>) -> Result<PeerStream, String> {
    let address = image.load().broker(broker).and_then(|broker| broker.peer_address());
    let address = address.ok_or("it is not registered")?;
    peer_transport::connect(&address, me, broker, Lane::Data).await.map_err(|error| error.to_string())
}

/// Sends and receives until something breaks; says what.
async fn carry(stream: PeerStream, peer: &Addr<Peer>) -> String {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (frames, mut to_send) = mpsc::unbounded_channel::<Bytes>();
    peer.do_send(Connected { frames });
    let send = async {
        while let Some(frame) = to_send.recv().await {
            let sent = async {
                writer.write_all(&frame).await?;
                writer.flush().await
            };
            if let Err(error) = sent.await {
                return error.to_string();
            }
        }
        "its peer has gone".to_owned()
    };
    let receive = async {
        let mut buffer = BytesMut::new();
        loop {
            match frame::take_frame(&mut buffer) {
                Ok(Some(frame)) => {
                    peer.do_send(FrameReceived(frame));
                    continue;
                }
                Ok(None) => {}
                Err(error) => return error.to_string(),
            }
            let missing = frame::frame_bytes(&buffer).ok().flatten().map_or(0, |bytes| bytes - buffer.len());
            buffer.reserve(missing.clamp(READ_BYTES, frame::FRAME_BYTES_MAX));
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return "the other end has closed it".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::select! {
        reason = send => reason,
        reason = receive => reason,
    }
}
