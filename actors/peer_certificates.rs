//! What a broker shows to the others and judges them by: its certificate, its key and the CA, read from files of PEM and checked
//! together, so that a mistake is told where it was made and not by a peer.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const CERTIFICATE: &str = "capek.peer.tls.cert";
pub const KEY: &str = "capek.peer.tls.key";
pub const AUTHORITY: &str = "capek.peer.tls.ca";

/// Chains and bundles are some kilobytes; a file beyond this is another one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// In a file's mode: everybody on this machine may read it.
const READ_BY_ALL: u32 = 0o004;

/// Where the three files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTlsFiles {
    /// `capek.peer.tls.cert`: this broker's certificate, then those between it and the CA.
    pub certificate: PathBuf,
    /// `capek.peer.tls.key`.
    pub key: PathBuf,
    /// `capek.peer.tls.ca`: one certificate or several.
    pub authority: PathBuf,
}

/// Why they are of no use.
#[derive(Debug, thiserror::Error)]
#[error("{name} ({}): {what}", .file.display())]
pub struct FileProblem {
    name: &'static str,
    file: PathBuf,
    what: String,
}

/// Both ends of a handshake.
#[derive(Clone)]
pub struct PeerCredentials {
    pub acceptor: TlsAcceptor,
    pub connector: TlsConnector,
}

/// Of each file: other ones, other content.
pub type Stamps = [Option<(u64, i64, i64, u64)>; 3];

impl PeerTlsFiles {
    /// Reads them. The certificate must be one that the CA accepts for `own_host`, by which the others look for this broker.
    pub fn read(&self, own_host: &str) -> Result<PeerCredentials, FileProblem> {
        let roots = self.roots()?;
        let chain = self.chain()?;
        let key = self.private_key()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = Judge::new(roots, &provider).map_err(|error| self.problem(AUTHORITY, error))?;
        self.check_own(&judge, &chain, own_host)?;
        let acceptor = acceptor(&judge, &provider, chain.clone(), key.clone_key());
        let acceptor = acceptor.map_err(|error| self.problem_of_key(&error))?;
        let connector = connector(&judge, &provider, chain, key).map_err(|error| self.problem_of_key(&error))?;
        Ok(PeerCredentials { acceptor, connector })
    }

    pub fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key, &self.authority].map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
        })
    }

    /// Whether everybody on this machine may read the key.
    pub fn is_key_exposed(&self) -> bool {
        fs::metadata(&self.key).is_ok_and(|metadata| metadata.mode() & READ_BY_ALL != 0)
    }

    fn roots(&self) -> Result<RootCertStore, FileProblem> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(AUTHORITY, &self.authority)? {
            roots.add(certificate).map_err(|error| self.problem(AUTHORITY, describe(&error)))?;
        }
        Ok(roots)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
        self.certificates(CERTIFICATE, &self.certificate)
    }

    fn certificates(&self, name: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
        let text = self.text(name, file)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| self.problem(name, format!("it is no PEM: {error}")))?;
        if found.is_empty() {
            return Err(self.problem(name, "there is no certificate in it (BEGIN CERTIFICATE, in PEM)"));
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, FileProblem> {
        let text = self.text(KEY, &self.key)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                self.problem(KEY, "there is no private key in it (BEGIN PRIVATE KEY, in PEM, without a passphrase)")
            }
            error => self.problem(KEY, format!("it is no PEM: {error}")),
        })
    }

    fn text(&self, name: &'static str, file: &Path) -> Result<Vec<u8>, FileProblem> {
        let unread = |error: std::io::Error| self.problem(name, format!("it cannot be read: {error}"));
        let size = fs::metadata(file).map_err(unread)?.len();
        if size > FILE_BYTES_MAX {
            return Err(self.problem(name, format!("{size} bytes: that is no file of certificates")));
        }
        fs::read(file).map_err(unread)
    }

    /// As the others will: they connect to this broker, and it connects to them.
    fn check_own(&self, judge: &Judge, chain: &[CertificateDer<'static>], own_host: &str) -> Result<(), FileProblem> {
        let [own, between @ ..] = chain else { return Ok(()) }; // a chain that was read has one at least
        let now = UnixTime::now();
        let refused = |error| {
            let why = describe(&error);
            self.problem(CERTIFICATE, format!("{AUTHORITY} ({}) does not accept it: {why}", self.authority.display()))
        };
        judge.of_clients.verify_client_cert(own, between, now).map_err(refused)?;
        let name = ServerName::try_from(own_host).map_err(|_| {
            let what = format!("capek.cluster.peers names this broker '{own_host}', for which there is no certificate");
            self.problem(CERTIFICATE, what)
        })?;
        judge.of_servers.verify_server_cert(own, between, &name, &[], now).map_err(|error| match &error {
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                let what = format!(
                    "capek.cluster.peers names this broker '{own_host}', and the certificate is for others (its subject \
                     alternative names: {})",
                    names(presented)
                );
                self.problem(CERTIFICATE, what)
            }
            _ => refused(error),
        })?;
        Ok(())
    }

    fn problem_of_key(&self, error: &rustls::Error) -> FileProblem {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                let certificate = self.certificate.display();
                self.problem(KEY, format!("it is not the key of {CERTIFICATE} ({certificate})"))
            }
            error => self.problem(KEY, format!("it cannot be used: {error}")),
        }
    }

    fn problem(&self, name: &'static str, what: impl Display) -> FileProblem {
        let file = match name {
            CERTIFICATE => &self.certificate,
            KEY => &self.key,
            _ => &self.authority,
        };
        FileProblem { name, file: file.clone(), what: what.to_string() }
    }
}

/// Who is let in, and who is talked to.
struct Judge {
    of_clients: Arc<dyn ClientCertVerifier>,
    of_servers: Arc<WebPkiServerVerifier>,
}

impl Judge {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Judge, impl Display> {
        let roots = Arc::new(roots);
        let of_clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let of_servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        Ok::<_, rustls::client::VerifierBuilderError>(Judge { of_clients, of_servers })
    }
}

fn acceptor(
    judge: &Judge,
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(judge.of_clients.clone())
        .with_single_cert(chain, key)?;
    // Each connection shows its certificate anew: what was accepted once may have expired, or its CA be gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn connector(
    judge: &Judge,
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsConnector, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(judge.of_servers.clone())
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What is wrong with a certificate, in a few words.
pub fn describe(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(problem) = error else { return error.to_string() };
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::UnknownIssuer => "no CA of capek.peer.tls.ca has issued it".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("it is for {}, not for {}", names(presented), expected.to_str())
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage has not both serverAuth and clientAuth".to_owned()
        }
        problem => problem.to_string(),
    }
}

/// They come as `DnsName("broker1")`.
fn names(presented: &[String]) -> String {
    let inside = |name: &String| name.split_once('(').map_or(name.clone(), |(_, inside)| bare(inside));
    match presented {
        [] => "nobody".to_owned(),
        names => names.iter().map(inside).collect::<Vec<_>>().join(", "),
    }
}

fn bare(name: &str) -> String {
    name.trim_matches([')', '"']).to_owned()
}
