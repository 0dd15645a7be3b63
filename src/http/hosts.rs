//! The names by which this host may be called. A page of somebody's name that has been made to point here (DNS rebinding) is to
//! its browser of one origin with us, and may read what it likes: so where every listener is on loopback, where nobody but
//! programs of this machine should come from, it must be a name that only this machine can have, or one that was configured.

use std::net::IpAddr;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Hosts {
    /// None: others are to come, and who knows what they call us.
    names: Option<Vec<String>>,
}

impl Hosts {
    pub fn any() -> Hosts {
        Hosts { names: None }
    }

    /// Those of loopback, and these.
    pub fn of_loopback(names: impl IntoIterator<Item = String>) -> Hosts {
        Hosts { names: Some(names.into_iter().collect()) }
    }

    /// `host` as the header has it, with or without a port.
    pub fn knows(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let name = without_port(host);
        is_of_loopback(name) || (!name.is_empty() && names.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }
}

pub fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// RFC 6761: what ends in `.localhost` is this machine, whatever a name server says.
fn is_of_loopback(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or("");
    last.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_a_host_has_names_of_loopback_and_its_own() {
        let hosts = Hosts::of_loopback(["box".to_owned(), String::new()]);
        for host in [
            "localhost",
            "LocalHost:8080",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:80",
            "box",
            "BOX:8",
        ] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "[::2]",
            "boxes",
        ] {
            assert!(!hosts.knows(host), "{host}");
            assert!(Hosts::any().knows(host), "{host}");
        }
    }
}
