//! Certificates for tests: a CA, what it issues, and the three files that a broker is given.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// In PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

/// As a broker is configured with them.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, new_key()).expect("a CA signs itself"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a broker that the others find at `host`.
    pub fn issue(&self, host: &str) -> Issued {
        self.issue_with(host, |_| {})
    }

    pub fn issue_expired(&self, host: &str) -> Issued {
        self.issue_with(host, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    fn issue_with(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("it is a name or an address");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.0).expect("a CA signs");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

impl Files {
    /// In this directory, which may have others of that name.
    pub fn write(directory: &Path, name: &str, issued: &Issued, authority: &str) -> Files {
        let file = |what: &str| directory.join(format!("{name}-{what}.pem"));
        let files = Files { certificate: file("cert"), key: file("key"), authority: file("ca") };
        replace(&files.certificate, &issued.certificate);
        replace(&files.key, &issued.key);
        replace(&files.authority, authority);
        files
    }

    /// What a broker is started with.
    pub fn settings(&self) -> [String; 3] {
        [("cert", &self.certificate), ("key", &self.key), ("ca", &self.authority)]
            .map(|(name, file)| format!("capek.peer.tls.{name}={}", file.display()))
    }
}

/// As those who renew do it: nobody reads half a file, and nobody else a key.
pub fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("the test's directory is writable");
    fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("it was just made");
    fs::rename(&new, file).expect("the test's directory is writable");
}
