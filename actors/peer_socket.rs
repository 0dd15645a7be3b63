//! PeerSocket: what two brokers talk over: TCP, or TLS on it. It can be moved to another thread's reactor in mid-talk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// TLS reads in pieces of 4 KiB: through this, a system call brings many of them.
const TLS_READ_BYTES: usize = 64 << 10;

/// A session and the socket below it.
pub type Session = TlsStream<BufReader<BelowTls>>;

/// Plain TCP pays for one branch. Whoever writes flushes, too: TLS may hold back what the kernel did not take.
pub enum PeerSocket {
    Plain(TcpStream),
    Tls(Box<Session>),
}

/// One that belongs to no reactor.
pub struct MovingSocket {
    socket: std::net::TcpStream,
    session: Option<Box<Session>>,
}

impl PeerSocket {
    /// What the kernel knows it by; None while it moves.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            PeerSocket::Plain(stream) => Some(stream.as_fd()),
            PeerSocket::Tls(session) => session.get_ref().0.get_ref().0.as_ref().map(TcpStream::as_fd),
        }
    }

    /// For another thread's reactor.
    pub fn leave(self) -> io::Result<MovingSocket> {
        match self {
            PeerSocket::Plain(stream) => Ok(MovingSocket { socket: stream.into_std()?, session: None }),
            PeerSocket::Tls(mut session) => {
                let socket = below(&mut session).take().ok_or(io::ErrorKind::NotConnected)?.into_std()?;
                Ok(MovingSocket { socket, session: Some(session) })
            }
        }
    }
}

impl MovingSocket {
    /// On the reactor of this thread.
    pub fn arrive(self) -> io::Result<PeerSocket> {
        let stream = TcpStream::from_std(self.socket)?;
        match self.session {
            None => Ok(PeerSocket::Plain(stream)),
            Some(mut session) => {
                *below(&mut session) = Some(stream);
                Ok(PeerSocket::Tls(session))
            }
        }
    }
}

fn below(session: &mut Session) -> &mut Option<TcpStream> {
    &mut session.get_mut().0.get_mut().0
}

/// The socket of a session; away while it moves, when nobody can use the session.
pub struct BelowTls(Option<TcpStream>);

impl BelowTls {
    pub(crate) fn buffered(stream: TcpStream) -> BufReader<BelowTls> {
        BufReader::with_capacity(TLS_READ_BYTES, BelowTls(Some(stream)))
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.get_mut().0.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(stream))
    }
}

impl AsyncRead for PeerSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerSocket::Plain(stream) => Pin::new(stream).poll_read(context, into),
            PeerSocket::Tls(session) => match Pin::new(session).poll_read(context, into) {
                // A process that is killed does not take its leave of TLS. Frames say how long they are: none is taken for whole.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                polled => polled,
            },
        }
    }
}

impl AsyncWrite for PeerSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            PeerSocket::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            PeerSocket::Tls(session) => Pin::new(session).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerSocket::Plain(stream) => Pin::new(stream).poll_flush(context),
            PeerSocket::Tls(session) => Pin::new(session).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerSocket::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            PeerSocket::Tls(session) => Pin::new(session).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            PeerSocket::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            PeerSocket::Tls(session) => Pin::new(session).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            PeerSocket::Plain(stream) => stream.is_write_vectored(),
            PeerSocket::Tls(session) => session.is_write_vectored(),
        }
    }
}

impl AsyncRead for BelowTls {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, into)
    }
}

impl AsyncWrite for BelowTls {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
