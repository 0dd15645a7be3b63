//! PeerMetrics: what other brokers, and those who take themselves for one, were refused.

use std::sync::atomic::{AtomicU64, Ordering};

use capek_wire::peer::HelloRefusal;

use crate::peer_tls::TlsProblem;
use crate::peer_transport::PeerError;
use crate::request_metrics::ErrorCounts;

/// Why somebody was turned away at the peer listener, or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRefusal {
    OtherCluster,
    OtherBroker,
    NoCommonVersion,
    /// What came was no message of a peer, or a cut one, or too large.
    Malformed,
    /// TLS is spoken on one side only.
    TlsMismatch,
    /// It has none, or one that is not accepted, or did not accept ours.
    Certificate,
    /// It said nothing, or nothing more.
    Silent,
}

impl PeerRefusal {
    pub const ALL: [PeerRefusal; 7] = [
        PeerRefusal::OtherCluster,
        PeerRefusal::OtherBroker,
        PeerRefusal::NoCommonVersion,
        PeerRefusal::Malformed,
        PeerRefusal::TlsMismatch,
        PeerRefusal::Certificate,
        PeerRefusal::Silent,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PeerRefusal::OtherCluster => "other_cluster",
            PeerRefusal::OtherBroker => "other_broker",
            PeerRefusal::NoCommonVersion => "no_common_version",
            PeerRefusal::Malformed => "malformed",
            PeerRefusal::TlsMismatch => "tls_mismatch",
            PeerRefusal::Certificate => "certificate",
            PeerRefusal::Silent => "silent",
        }
    }
}

impl From<&PeerError> for PeerRefusal {
    fn from(error: &PeerError) -> PeerRefusal {
        match error {
            PeerError::Refused(HelloRefusal::OtherCluster { .. }) => PeerRefusal::OtherCluster,
            PeerError::Refused(HelloRefusal::OtherBroker { .. }) => PeerRefusal::OtherBroker,
            PeerError::Refused(HelloRefusal::NoCommonVersion { .. }) => PeerRefusal::NoCommonVersion,
            PeerError::Malformed(_) | PeerError::TooLarge { .. } => PeerRefusal::Malformed,
            PeerError::Tls(problem) => problem.into(),
            PeerError::Io(_) | PeerError::Deadline | PeerError::Closed => PeerRefusal::Silent,
        }
    }
}

impl From<&TlsProblem> for PeerRefusal {
    fn from(problem: &TlsProblem) -> PeerRefusal {
        match problem {
            TlsProblem::NotSpokenThere | TlsProblem::NotSpokenHere => PeerRefusal::TlsMismatch,
            TlsProblem::NoCertificate | TlsProblem::Certificate(_) | TlsProblem::OwnCertificate(_) => {
                PeerRefusal::Certificate
            }
            TlsProblem::Name(_) | TlsProblem::Other(_) => PeerRefusal::Malformed,
            TlsProblem::HungUp => PeerRefusal::Silent,
        }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct PeerMetrics {
    refused: [AtomicU64; PeerRefusal::ALL.len()],
    /// What followers were answered: a stale epoch, a replica that is not led here.
    pub fetch_errors: ErrorCounts,
}

impl PeerMetrics {
    pub fn refused(&self, refusal: PeerRefusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn refusals(&self) -> impl Iterator<Item = (PeerRefusal, u64)> + '_ {
        PeerRefusal::ALL.into_iter().map(|refusal| (refusal, self.refused[refusal as usize].load(Ordering::Relaxed)))
    }
}
