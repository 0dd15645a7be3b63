//! TLS between brokers, where it is configured: both show a certificate of the same CA, and who is connected to has one for the
//! address by which it was found.
//!
//! The files are looked at before each handshake: what has changed is used from the next connection on. Connections that are up
//! stay as they are.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{info, warn};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, InvalidMessage};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::peer_certificates::{FileProblem, PeerCredentials, PeerTlsFiles, Stamps, describe};
use crate::peer_socket::{BelowTls, PeerSocket};
use crate::peer_transport::PeerError;

/// What a broker needs to talk TLS with the others.
pub struct PeerTls {
    files: PeerTlsFiles,
    /// By which the others look for this broker.
    own_host: String,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    credentials: PeerCredentials,
    stamps: Stamps,
}

/// Why two brokers do not agree on TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    #[error("it does not speak TLS, and this broker does: set capek.peer.tls.* on all brokers or on none")]
    NotSpokenThere,
    #[error("it speaks TLS, and this broker does not: set capek.peer.tls.* on all brokers or on none")]
    NotSpokenHere,
    #[error("it has shown no certificate")]
    NoCertificate,
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    #[error("it does not accept our certificate ({0:?})")]
    OwnCertificate(AlertDescription),
    #[error("'{0}' is no name that a certificate could be for")]
    Name(String),
    #[error("TLS was not agreed on: {0}")]
    Other(String),
    #[error("it hung up before TLS was agreed on: is capek.peer.tls.* set there, too?")]
    HungUp,
}

impl PeerTls {
    /// Reads the files and checks them. The others look for this broker by `own_host`.
    pub fn load(files: PeerTlsFiles, own_host: &str) -> Result<PeerTls, FileProblem> {
        let stamps = files.stamps();
        let credentials = files.read(own_host)?;
        if files.is_key_exposed() {
            warn!("capek.peer.tls.key ({}): every user of this machine may read it", files.key.display());
        }
        let loaded = Mutex::new(Loaded { credentials, stamps });
        Ok(PeerTls { files, own_host: own_host.to_owned(), loaded })
    }

    /// Lets a broker in that has connected.
    pub async fn accept(self: &Arc<Self>, stream: TcpStream) -> Result<PeerSocket, PeerError> {
        let acceptor = self.credentials().await.acceptor;
        let accepted = acceptor.accept(BelowTls::buffered(stream)).await.map_err(of_handshake)?;
        Ok(PeerSocket::Tls(Box::new(TlsStream::Server(accepted))))
    }

    /// Finds the broker at `host`, to which `stream` leads.
    pub async fn connect(self: &Arc<Self>, stream: TcpStream, host: &str) -> Result<PeerSocket, PeerError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsProblem::Name(host.to_owned()))?;
        let connector = self.credentials().await.connector;
        let connected = connector.connect(name, BelowTls::buffered(stream)).await.map_err(of_handshake)?;
        Ok(PeerSocket::Tls(Box::new(TlsStream::Client(connected))))
    }

    /// Those of the files as they are now. The disk is asked in the pool: nothing waits for it here but this connection.
    async fn credentials(self: &Arc<Self>) -> PeerCredentials {
        let tls = self.clone();
        let looked = tokio::task::spawn_blocking(move || tls.look()).await;
        // The pool refuses when the process goes down.
        looked.unwrap_or_else(|_| self.lock().credentials.clone())
    }

    fn look(&self) -> PeerCredentials {
        let mut loaded = self.lock();
        let stamps = self.files.stamps();
        if stamps != loaded.stamps {
            // Those of bad files, too: that is told once, and looked at again when they change.
            loaded.stamps = stamps;
            match self.files.read(&self.own_host) {
                Ok(credentials) => {
                    info!("{}: read again, and used from now on", self.files.certificate.display());
                    loaded.credentials = credentials;
                }
                Err(problem) => warn!("{problem}. The certificate, key and CA that were read before are still used"),
            }
        }
        loaded.credentials.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PeerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn of_handshake(error: io::Error) -> PeerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TlsProblem::HungUp.into(),
        _ => error.into(),
    }
}

/// A TLS record begins with its kind and the version, which has been 3.x for ever.
const TLS_VERSION_MAJOR: u8 = 3;
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

impl TlsProblem {
    /// What TLS says of an error while reading or writing; None: it is none of TLS.
    pub fn of(error: &io::Error) -> Option<TlsProblem> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsProblem::NotSpokenThere,
            rustls::Error::NoCertificatesPresented => TlsProblem::NoCertificate,
            rustls::Error::InvalidCertificate(_) => TlsProblem::Certificate(describe(error)),
            rustls::Error::AlertReceived(alert) if is_of_certificate(*alert) => TlsProblem::OwnCertificate(*alert),
            error => TlsProblem::Other(error.to_string()),
        })
    }

    /// What was read and is no frame: is it TLS?
    pub fn in_plain_bytes(bytes: &[u8]) -> Option<TlsProblem> {
        let is_tls = matches!(bytes, [TLS_ALERT | TLS_HANDSHAKE, TLS_VERSION_MAJOR, ..]);
        is_tls.then_some(TlsProblem::NotSpokenHere)
    }
}

fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}
