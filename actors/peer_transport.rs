//! How brokers reach each other: TCP, TLS where it is configured, the hello, frames. Both lanes come this way.
//!
//! Who connects says who it is and whom it means to reach; a broker of another cluster, or another broker than the one that
//! was meant, is refused with a sentence before anything else is said.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_wire::ids::{BrokerId, Uuid};
use capek_wire::peer::frame::{encode_before_body, frame_bytes, take_frame};
use capek_wire::peer::hello::{VERSION_MAX, VERSION_MIN};
use capek_wire::peer::{Frame, FrameKind, Hello, HelloRefusal, HelloReply, Lane, decode_head, encode_head};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::peer_socket::{MovingSocket, PeerSocket};
use crate::peer_tls::{PeerTls, TlsProblem};
use crate::pulses::{Pulses, Watched};

/// TCP, TLS and hello together must be done by then.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A hello is a hundred bytes; nothing larger is read from who has not said one.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// What a read makes room for before it is known how much comes.
const READ_BYTES: usize = 8 << 10;

/// Who this broker is to its peers.
#[derive(Debug)]
pub struct PeerIdentity {
    pub broker: BrokerId,
    /// New with each process.
    pub incarnation: Uuid,
    cluster_id: OnceLock<String>,
    pub pulses: Arc<Pulses>,
    /// None: brokers talk in the clear.
    tls: Option<Arc<PeerTls>>,
}

impl PeerIdentity {
    pub fn new(broker: BrokerId, incarnation: Uuid, cluster_id: Option<String>) -> Self {
        let identity = Self { broker, incarnation, cluster_id: OnceLock::new(), pulses: Arc::default(), tls: None };
        if let Some(cluster_id) = cluster_id {
            identity.learn_cluster_id(&cluster_id);
        }
        identity
    }

    /// All connections are TLS, here and there.
    pub fn with_tls(self, tls: PeerTls) -> Self {
        Self { tls: Some(Arc::new(tls)), ..self }
    }

    /// None: it is not known yet.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.get().map(String::as_str)
    }

    /// Once known it does not change.
    pub fn learn_cluster_id(&self, cluster_id: &str) {
        let _ = self.cluster_id.set(cluster_id.to_owned());
    }

    fn check(&self, cluster_id: Option<&str>) -> Result<(), HelloRefusal> {
        match (self.cluster_id(), cluster_id) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(HelloRefusal::OtherCluster { cluster_id: ours.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// Why two brokers do not talk, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("{0}")]
    Io(io::Error),
    #[error("no answer within {CONNECT_DEADLINE:?}")]
    Deadline,
    #[error("it hung up")]
    Closed,
    #[error("it sent what is no message of a peer: {0}")]
    Malformed(String),
    #[error("a message of {size} bytes; at most {max} are read here")]
    TooLarge { size: usize, max: usize },
    #[error("{0}")]
    Tls(#[from] TlsProblem),
    #[error("{0}")]
    Refused(#[from] HelloRefusal),
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> PeerError {
        TlsProblem::of(&error).map_or(PeerError::Io(error), PeerError::Tls)
    }
}

/// A connection on which both have said hello.
pub struct PeerStream {
    socket: PeerSocket,
    pub peer: BrokerId,
    /// Of the peer's process.
    pub incarnation: Uuid,
    /// Of the protocol: the highest that both speak.
    pub version: u16,
    /// As the peer knows it.
    pub cluster_id: Option<String>,
}

impl PeerStream {
    /// Until this is dropped, [`Pulses`] looks at it. None: the process has no descriptor for that.
    pub fn watch(&self, me: &PeerIdentity) -> Option<Watched> {
        me.pulses.watch(self.peer, self.socket.descriptor()?).ok()
    }

    /// For another thread's reactor.
    pub fn leave(self) -> io::Result<MovingSocket> {
        self.socket.leave()
    }
}

/// Connects to this address as `me`, and finds `to` there.
pub async fn connect(address: &str, me: &PeerIdentity, to: BrokerId, lane: Lane) -> Result<PeerStream, PeerError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = match &me.tls {
            None => PeerSocket::Plain(stream),
            Some(tls) => tls.connect(stream, host_of(address)).await?,
        };
        say_hello(socket, me, to, lane).await
    };
    tokio::time::timeout(CONNECT_DEADLINE, connecting).await.map_err(|_| PeerError::Deadline)?
}

/// Of `host:port`; an address of IPv6 stands in brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

async fn say_hello(
    mut socket: PeerSocket,
    me: &PeerIdentity,
    to: BrokerId,
    lane: Lane,
) -> Result<PeerStream, PeerError> {
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        cluster_id: me.cluster_id().map(str::to_owned),
        from: me.broker,
        to,
        incarnation: me.incarnation,
        lane,
    };
    write_frame(&mut socket, FrameKind::Request, 0, &encode_head(&hello)).await?;
    let reply = read_hello(&mut socket).await?;
    match decode(&reply.head)? {
        HelloReply::Refused(refusal) => Err(refusal.into()),
        HelloReply::Welcome { broker, .. } if broker != to => Err(HelloRefusal::OtherBroker { broker }.into()),
        HelloReply::Welcome { version, cluster_id, broker, incarnation } => {
            // The peer has looked too; but it may not have known our cluster when it did.
            if let Err(HelloRefusal::OtherCluster { .. }) = me.check(cluster_id.as_deref()) {
                let cluster_id = cluster_id.unwrap_or_default();
                return Err(HelloRefusal::OtherCluster { cluster_id }.into());
            }
            Ok(PeerStream { socket, peer: broker, incarnation, version, cluster_id })
        }
    }
}

/// Hears the hello of whoever has connected, and answers it.
pub async fn accept(stream: TcpStream, me: &PeerIdentity) -> Result<(PeerStream, Hello), PeerError> {
    let accepting = hear_hello(stream, me);
    tokio::time::timeout(CONNECT_DEADLINE, accepting).await.map_err(|_| PeerError::Deadline)?
}

async fn hear_hello(stream: TcpStream, me: &PeerIdentity) -> Result<(PeerStream, Hello), PeerError> {
    stream.set_nodelay(true)?;
    let mut socket = match &me.tls {
        None => PeerSocket::Plain(stream),
        Some(tls) => tls.accept(stream).await?,
    };
    let frame = read_hello(&mut socket).await?;
    let hello: Hello = decode(&frame.head)?;
    let judged = judge(&hello, me);
    let reply = match &judged {
        Ok(version) => HelloReply::Welcome {
            version: *version,
            cluster_id: me.cluster_id().map(str::to_owned),
            broker: me.broker,
            incarnation: me.incarnation,
        },
        Err(refusal) => HelloReply::Refused(refusal.clone()),
    };
    write_frame(&mut socket, FrameKind::Response, frame.id, &encode_head(&reply)).await?;
    let version = judged?;
    let peer = PeerStream {
        socket,
        peer: hello.from,
        incarnation: hello.incarnation,
        version,
        cluster_id: hello.cluster_id.clone(),
    };
    Ok((peer, hello))
}

/// A hello, or the answer to one: nobody says more before.
async fn read_hello(socket: &mut PeerSocket) -> Result<Frame, PeerError> {
    let mut buffer = BytesMut::new();
    let read = read_frame(socket, &mut buffer, HELLO_BYTES_MAX).await;
    read.map_err(|error| TlsProblem::in_plain_bytes(&buffer).map_or(error, PeerError::Tls))?.ok_or(PeerError::Closed)
}

/// The version to speak, or why not.
fn judge(hello: &Hello, me: &PeerIdentity) -> Result<u16, HelloRefusal> {
    let version = hello.common_version()?;
    me.check(hello.cluster_id.as_deref())?;
    if hello.to != me.broker {
        return Err(HelloRefusal::OtherBroker { broker: me.broker });
    }
    Ok(version)
}

fn decode<T: serde::de::DeserializeOwned>(head: &[u8]) -> Result<T, PeerError> {
    decode_head(head).map_err(|error| PeerError::Malformed(error.to_string()))
}

/// Writes a frame without a body.
pub async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: FrameKind,
    id: u64,
    head: &[u8],
) -> io::Result<()> {
    let frame: Bytes = encode_before_body(kind, id, head, 0);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// The next frame; None: the peer has hung up between two. What is in `buffer` was read before. Safe to drop while it waits.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<Frame>, PeerError> {
    let malformed = |error: capek_wire::peer::FrameError| PeerError::Malformed(error.to_string());
    loop {
        if let Some(size) = frame_bytes(buffer).map_err(malformed)?.filter(|size| *size > bytes_max) {
            return Err(PeerError::TooLarge { size, max: bytes_max });
        }
        if let Some(frame) = take_frame(buffer).map_err(malformed)? {
            return Ok(Some(frame));
        }
        buffer.reserve(READ_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(PeerError::Closed) };
        }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn identity(broker: BrokerId, cluster_id: Option<&str>) -> PeerIdentity {
        PeerIdentity::new(broker, Uuid([broker as u8; 16]), cluster_id.map(str::to_owned))
    }

    async fn meet(from: PeerIdentity, to: BrokerId, there: PeerIdentity) -> Result<PeerStream, PeerError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("it is bound").to_string();
        let accepting = async {
            let (stream, _) = listener.accept().await.expect("somebody connects");
            accept(stream, &there).await.map(|(_, hello)| hello)
        };
        let (connected, heard) = tokio::join!(connect(&address, &from, to, Lane::Control), accepting);
        assert_eq!(connected.is_ok(), heard.is_ok());
        connected
    }

    #[actix_rt::test]
    async fn peers_of_one_cluster_meet() {
        let stream = meet(identity(1, Some("a")), 2, identity(2, Some("a"))).await.expect("they belong together");
        assert_eq!((stream.peer, stream.version, stream.cluster_id.as_deref()), (2, VERSION_MAX, Some("a")));
        meet(identity(1, None), 2, identity(2, Some("a"))).await.expect("a newcomer may ask");
    }

    #[actix_rt::test]
    async fn a_broker_of_another_cluster_is_refused_with_a_sentence() {
        let error = meet(identity(1, Some("a")), 2, identity(2, Some("b"))).await.err().expect("they are strangers");
        assert!(error.to_string().contains("it belongs to the cluster b"), "{error}");
    }

    #[actix_rt::test]
    async fn another_broker_than_the_one_meant_is_refused() {
        let error = meet(identity(1, None), 2, identity(3, None)).await.err().expect("it is another");
        assert!(matches!(error, PeerError::Refused(HelloRefusal::OtherBroker { broker: 3 })), "{error}");
    }

    #[actix_rt::test]
    async fn a_long_hello_is_not_read() {
        let (mut near, mut far) = tokio::io::duplex(64 << 10);
        let long = vec![0; HELLO_BYTES_MAX];
        write_frame(&mut near, FrameKind::Request, 0, &long).await.expect("it fits in the pipe");
        let read = read_frame(&mut far, &mut BytesMut::new(), HELLO_BYTES_MAX).await;
        assert!(matches!(read, Err(PeerError::TooLarge { .. })), "{read:?}");
    }
}
