//! TLS between brokers: who meets, who is refused and what is said, and what a renewal does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capek_wire::ids::Uuid;
use capek_wire::peer::Lane;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use self::certificates::{Authority, Files, Issued, replace};
use crate::peer_certificates::PeerTlsFiles;
use crate::peer_metrics::PeerRefusal;
use crate::peer_tls::{PeerTls, TlsProblem};
use crate::peer_transport::{PeerError, PeerIdentity, PeerStream, accept, connect};

#[allow(dead_code)] // shared with the tests of clusters, which use the rest
#[path = "../tests/support/certificates.rs"]
mod certificates;

const HOST: &str = "127.0.0.1";

/// A directory of certificates, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("capek-peer-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn files(&self, name: &str, issued: &Issued, authority: &str) -> PeerTlsFiles {
        let Files { certificate, key, authority } = Files::write(&self.0, name, issued, authority);
        PeerTlsFiles { certificate, key, authority }
    }

    /// A broker with a certificate of `issuer` that believes `believed`.
    fn broker(&self, broker: i32, issuer: &Authority, believed: &str) -> PeerIdentity {
        let files = self.files(&broker.to_string(), &issuer.issue(HOST), believed);
        plain(broker).with_tls(PeerTls::load(files, HOST).unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn plain(broker: i32) -> PeerIdentity {
    PeerIdentity::new(broker, Uuid([broker as u8; 16]), Some("a".to_owned()))
}

type Met = (Result<PeerStream, PeerError>, Result<PeerStream, PeerError>);

/// `from` connects to `there`; what each has of it.
async fn meet(from: &PeerIdentity, there: &PeerIdentity) -> Met {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, there).await.map(|(stream, _)| stream)
    };
    tokio::join!(connect(&address, from, there.broker, Lane::Data), accepting)
}

/// Neither has a stream; what each says.
async fn refused(from: &PeerIdentity, there: &PeerIdentity) -> (PeerError, PeerError) {
    let (connected, accepted) = meet(from, there).await;
    (connected.err().expect("it is refused"), accepted.err().expect("it is refused"))
}

fn tls(error: &PeerError) -> &TlsProblem {
    match error {
        PeerError::Tls(problem) => problem,
        other => panic!("not of TLS: {other}"),
    }
}

#[actix_rt::test]
async fn brokers_with_certificates_of_one_ca_meet_and_their_connection_moves() {
    const MUCH: usize = 3 << 20;
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let [one, two] = [1, 2].map(|broker| directory.broker(broker, &authority, &authority.pem()));
    let (near, far) = meet(&one, &two).await;
    let (mut near, far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.peer, far.peer), (2, 1));

    // As the data lane does it.
    let moving = far.leave().unwrap();
    let echo = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let (mut reader, mut writer) = tokio::io::split(moving.arrive().unwrap());
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
    });
    let sent: Vec<u8> = (0..MUCH).map(|index| (index % 251) as u8).collect();
    let mut received = vec![0; MUCH];
    let (mut reader, mut writer) = tokio::io::split(&mut near);
    let sending = async {
        writer.write_all(&sent).await?;
        writer.flush().await
    };
    let (sending, receiving) = tokio::join!(sending, reader.read_exact(&mut received));
    sending.unwrap();
    receiving.unwrap();
    assert!(received == sent, "what comes back is not what was sent");
    drop(near); // without a word of TLS: to the other it is the end, and no error
    echo.join().unwrap();
}

#[actix_rt::test]
async fn who_has_no_certificate_is_refused() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let there = directory.broker(1, &authority, &authority.pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));

    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let connecting = async {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // It may believe to be connected: the other side has the last word.
        let mut stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
        stream.read(&mut [0; 64]).await.expect_err("nothing is said to it but that it is refused");
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, &there).await.map(|_| ())
    };
    let ((), accepted) = tokio::join!(connecting, accepting);
    let error = accepted.expect_err("it has no certificate");
    assert_eq!(tls(&error), &TlsProblem::NoCertificate);
    assert_eq!(PeerRefusal::from(&error).name(), "certificate");
}

#[actix_rt::test]
async fn a_certificate_of_another_ca_is_refused_on_either_side() {
    let (directory, ours, other) = (Directory::new(), Authority::new("ours"), Authority::new("other"));
    let inside = directory.broker(1, &ours, &ours.pem());
    let stranger = directory.broker(2, &other, &format!("{}{}", ours.pem(), other.pem()));

    let (_, error) = refused(&stranger, &inside).await;
    let problem = "its certificate is not accepted: no CA of capek.peer.tls.ca has issued it";
    assert_eq!(error.to_string(), problem);
    assert_eq!(PeerRefusal::from(&error).name(), "certificate");

    let (error, there) = refused(&inside, &stranger).await;
    assert_eq!(error.to_string(), problem);
    assert_eq!(tls(&there), &TlsProblem::OwnCertificate(AlertDescription::UnknownCA));
}

#[actix_rt::test]
async fn a_certificate_for_another_host_is_refused_by_who_connects() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let one = directory.broker(1, &authority, &authority.pem());
    let files = directory.files("2", &authority.issue("broker2.example"), &authority.pem());
    let two = plain(2).with_tls(PeerTls::load(files, "broker2.example").unwrap());
    let (error, _) = refused(&one, &two).await;
    let expected = "its certificate is not accepted: it is for broker2.example, not for 127.0.0.1";
    assert_eq!(error.to_string(), expected);
    meet(&two, &one).await.0.expect("whoever has a certificate of the CA is let in");
}

#[actix_rt::test]
async fn tls_on_one_side_only_is_told_on_both() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let with_tls = directory.broker(1, &authority, &authority.pem());

    let (here, there) = refused(&plain(2), &with_tls).await;
    assert_eq!((tls(&here), tls(&there)), (&TlsProblem::NotSpokenHere, &TlsProblem::NotSpokenThere));
    assert_eq!(PeerRefusal::from(&there).name(), "tls_mismatch");

    let (here, there) = refused(&with_tls, &plain(2)).await;
    assert_eq!((tls(&here), tls(&there)), (&TlsProblem::HungUp, &TlsProblem::NotSpokenHere));
    assert_eq!(PeerRefusal::from(&there).name(), "tls_mismatch");
}

#[test]
fn bad_files_are_told_by_their_names() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let good = || directory.files("good", &authority.issue(HOST), &authority.pem());
    let check = |files: PeerTlsFiles, expected: &str| {
        let problem = PeerTls::load(files, HOST).expect_err(expected).to_string();
        assert!(problem.contains(expected), "{problem}");
    };
    let path = |name: &str| directory.0.join(name);
    PeerTls::load(good(), HOST).unwrap();
    check(
        PeerTlsFiles { certificate: path("none.pem"), ..good() },
        &format!("capek.peer.tls.cert ({}): it cannot be read: No such file", path("none.pem").display()),
    );
    check(PeerTlsFiles { key: path("none.pem"), ..good() }, "none.pem): it cannot be read");
    check(PeerTlsFiles { authority: path("none.pem"), ..good() }, "capek.peer.tls.ca (");
    check(PeerTlsFiles { certificate: good().key, ..good() }, "good-key.pem): there is no certificate in it");
    check(PeerTlsFiles { key: good().certificate, ..good() }, "good-cert.pem): there is no private key in it");
    check(PeerTlsFiles { authority: good().key, ..good() }, "good-key.pem): there is no certificate in it");
    replace(&path("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n");
    check(PeerTlsFiles { certificate: path("cut.pem"), ..good() }, "cut.pem): it is no PEM: ");

    let other = directory.files("other", &authority.issue(HOST), &authority.pem());
    let mixed = PeerTlsFiles { key: other.key, ..good() };
    check(mixed, "other-key.pem): it is not the key of capek.peer.tls.cert (");
    let stranger = directory.files("stranger", &Authority::new("other").issue(HOST), &authority.pem());
    check(stranger, "stranger-ca.pem) does not accept it: no CA of capek.peer.tls.ca has issued it");
    let expired = directory.files("expired", &authority.issue_expired(HOST), &authority.pem());
    check(expired, "expired-ca.pem) does not accept it: it has expired");
    let elsewhere = directory.files("elsewhere", &authority.issue("broker2.example"), &authority.pem());
    check(
        elsewhere,
        "names this broker '127.0.0.1', and the certificate is for others (its subject alternative names: ",
    );
}

#[actix_rt::test]
async fn a_renewed_certificate_is_used_from_the_next_connection_on() {
    let (directory, old, new) = (Directory::new(), Authority::new("old"), Authority::new("new"));
    let files = directory.files("1", &old.issue(HOST), &old.pem());
    let there = plain(1).with_tls(PeerTls::load(files.clone(), HOST).unwrap());
    let of_old = directory.broker(2, &old, &old.pem());
    let of_new = directory.broker(3, &new, &new.pem());
    meet(&of_old, &there).await.0.expect("they have the same CA");
    refused(&of_new, &there).await;

    directory.files("1", &new.issue(HOST), &new.pem());
    meet(&of_new, &there).await.0.expect("they have the same CA now");
    refused(&of_old, &there).await;

    replace(&files.key, "no key");
    meet(&of_new, &there).await.0.expect("a bad file takes nothing away");
    directory.files("1", &old.issue(HOST), &old.pem());
    meet(&of_old, &there).await.0.expect("and is not the last word");
}
