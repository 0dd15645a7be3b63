//! Named listeners as Kafka has them: `listeners`, `advertised.listeners`, the protocol map, which of them are Kafka's,
//! and what may be opened beyond this machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A host and a port as configured, before any name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// A listener that serves Kafka's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, upper case, as clients of the configuration know it (`PLAINTEXT`, `INTERNAL`).
    pub name: String,
    /// The security protocol that the map gives it. Only `PLAINTEXT` is served today.
    pub protocol: String,
    pub bind: Endpoint,
    /// What Metadata answers to clients that came in here. Port 0 stands for the port that binding gave.
    pub advertised: Endpoint,
}

/// The configured values that decide the listeners.
pub struct ListenerConfig<'a> {
    pub listeners: Option<&'a str>,
    pub advertised_listeners: Option<&'a str>,
    pub protocol_map: Option<&'a str>,
    pub controller_names: Option<&'a str>,
    /// The name of this host, advertised where a wildcard address is bound.
    pub host_name: &'a str,
}

/// What [`resolve`] finds: Kafka's listeners, and the one for other brokers if a controller listener names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    pub kafka: Vec<Listener>,
    pub peer: Option<Endpoint>,
}

pub const DEFAULT_LISTENERS: &str = "PLAINTEXT://localhost:9092";

const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

impl Endpoint {
    /// Parses `host:port`, `:port`, `[::1]:port`.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let text = text.trim();
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("'{text}' has no port: write HOST:PORT"));
        };
        let port: u16 = port.parse().map_err(|_| format!("'{port}' in '{text}' is not a port (0 to 65535)"))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(|| format!("'{text}' has a '[' without ']'"))?,
            None if host.contains(':') => return Err(format!("'{text}': write an IPv6 address as [ADDRESS]:PORT")),
            None => host,
        };
        Ok(Endpoint { host: host.to_owned(), port })
    }

    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty() || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// Reachable from this machine only. A name other than `localhost` counts as reachable from elsewhere.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The addresses to bind: `localhost` is 127.0.0.1 and ::1 (a machine without IPv6 may refuse the second, which is
    /// no failure), an empty host is every interface, a name is looked up.
    pub fn bind_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![(Ipv4Addr::LOCALHOST, self.port).into(), (Ipv6Addr::LOCALHOST, self.port).into()]);
        }
        if self.host.is_empty() {
            return Ok(vec![(Ipv4Addr::UNSPECIFIED, self.port).into()]);
        }
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Decides the listeners; every problem found is one sentence.
pub fn resolve(config: &ListenerConfig) -> Result<Listeners, Vec<String>> {
    let mut problems = Vec::new();
    let mut collect = |what: &str, list: &str| {
        parse_list(list).unwrap_or_else(|problem| {
            problems.push(format!("{what}: {problem}"));
            Vec::new()
        })
    };
    let advertised = collect("advertised.listeners", config.advertised_listeners.unwrap_or(""));
    let bound = match config.listeners {
        Some(list) => collect("listeners", list),
        // As Confluent's image does: who says where clients find the broker need not say where it listens.
        None if !advertised.is_empty() => listen_everywhere(&advertised),
        None => collect("listeners", DEFAULT_LISTENERS),
    };
    let protocols = parse_protocol_map(config.protocol_map.unwrap_or(""), &mut problems);
    check_names(&bound, &advertised, config.listeners.is_some(), &mut problems);

    let controllers: Vec<String> = split_list(config.controller_names.unwrap_or("")).map(str::to_uppercase).collect();
    let mut listeners = Listeners::default();
    for (name, bind) in bound {
        if controllers.contains(&name) {
            listeners.peer = listeners.peer.or(Some(bind));
            continue;
        }
        let advertised = advertised.iter().find(|(other, _)| *other == name).map(|(_, endpoint)| endpoint.clone());
        let advertised = advertised.unwrap_or_else(|| advertise(&bind, config.host_name));
        match protocol_of(&name, &protocols) {
            Ok(protocol) => listeners.kafka.push(Listener { name, protocol, bind, advertised }),
            Err(problem) => problems.push(problem),
        }
    }
    if listeners.kafka.is_empty() && problems.is_empty() {
        problems.push("listeners: none is left for Kafka clients (all are controller listeners)".to_owned());
    }
    if problems.is_empty() { Ok(listeners) } else { Err(problems) }
}

/// Splits `NAME://host:port,NAME://host:port`.
fn parse_list(list: &str) -> Result<Vec<(String, Endpoint)>, String> {
    split_list(list)
        .map(|item| match item.split_once("://") {
            Some((name, endpoint)) if !name.is_empty() => Ok((name.to_uppercase(), Endpoint::parse(endpoint)?)),
            _ => Err(format!("'{item}' is not NAME://HOST:PORT")),
        })
        .collect()
}

fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn listen_everywhere(advertised: &[(String, Endpoint)]) -> Vec<(String, Endpoint)> {
    let everywhere = |endpoint: &Endpoint| Endpoint { host: "0.0.0.0".to_owned(), port: endpoint.port };
    advertised.iter().map(|(name, endpoint)| (name.clone(), everywhere(endpoint))).collect()
}

/// A wildcard is no address for a client: the host's name is.
fn advertise(bind: &Endpoint, host_name: &str) -> Endpoint {
    let host = if bind.is_wildcard() { host_name } else { &bind.host };
    Endpoint { host: host.to_owned(), port: bind.port }
}

fn parse_protocol_map(map: &str, problems: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut protocols = BTreeMap::new();
    for item in split_list(map) {
        match item.split_once(':') {
            Some((name, protocol)) => {
                protocols.insert(name.trim().to_uppercase(), protocol.trim().to_uppercase());
            }
            None => problems.push(format!("listener.security.protocol.map: '{item}' is not NAME:PROTOCOL")),
        }
    }
    protocols
}

/// The map decides; a listener named like a protocol needs no entry.
fn protocol_of(name: &str, protocols: &BTreeMap<String, String>) -> Result<String, String> {
    let protocol = match protocols.get(name) {
        Some(protocol) => protocol.as_str(),
        None if PROTOCOLS.contains(&name) => name,
        None => {
            return Err(format!(
                "listener {name} has no security protocol: add {name}:PLAINTEXT to listener.security.protocol.map"
            ));
        }
    };
    match protocol {
        "PLAINTEXT" => Ok(protocol.to_owned()),
        _ if PROTOCOLS.contains(&protocol) => Err(format!(
            "listener {name} wants {protocol}, which this version does not serve yet: only PLAINTEXT is built"
        )),
        _ => Err(format!("listener {name}: '{protocol}' is not a security protocol ({})", PROTOCOLS.join(", "))),
    }
}

fn check_names(
    bound: &[(String, Endpoint)],
    advertised: &[(String, Endpoint)],
    listeners_given: bool,
    problems: &mut Vec<String>,
) {
    for (index, (name, endpoint)) in bound.iter().enumerate() {
        let earlier = &bound[..index];
        if earlier.iter().any(|(other, _)| other == name) {
            problems.push(format!("listeners: {name} is there twice"));
        }
        if endpoint.port != 0
            && earlier.iter().any(|(_, other)| other.port == endpoint.port && other.host == endpoint.host)
        {
            problems.push(format!("listeners: {endpoint} is there twice: each listener needs a port of its own"));
        }
    }
    for (name, endpoint) in advertised {
        if endpoint.is_wildcard() {
            problems.push(format!(
                "advertised.listeners: {name}://{endpoint} is no address that a client can connect to: advertise the \
                 name or address by which clients reach this host (for one machine, {name}://localhost:{})",
                endpoint.port
            ));
        }
        if listeners_given && !bound.iter().any(|(other, _)| other == name) {
            problems.push(format!("advertised.listeners: {name} is not one of the listeners"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: ListenerConfig<'static> = ListenerConfig {
        listeners: None,
        advertised_listeners: None,
        protocol_map: None,
        controller_names: None,
        host_name: "box",
    };

    fn show(config: &ListenerConfig) -> Vec<String> {
        match resolve(config) {
            Ok(listeners) => listeners
                .kafka
                .iter()
                .map(|one| format!("{} {} {} {}", one.name, one.protocol, one.bind, one.advertised))
                .collect(),
            Err(problems) => problems,
        }
    }

    #[test]
    fn the_default_is_loopback() {
        assert_eq!(show(&NOTHING), ["PLAINTEXT PLAINTEXT localhost:9092 localhost:9092"]);
        let addresses = resolve(&NOTHING).unwrap().kafka[0].bind.bind_addresses().unwrap();
        assert_eq!(addresses, ["127.0.0.1:9092".parse().unwrap(), "[::1]:9092".parse().unwrap()]);
    }

    #[test]
    fn listeners_follow_from_what_is_advertised() {
        let config = ListenerConfig {
            advertised_listeners: Some("PLAINTEXT://kafka:29092, PLAINTEXT_HOST://localhost:9092"),
            protocol_map: Some("PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT"),
            ..NOTHING
        };
        assert_eq!(
            show(&config),
            ["PLAINTEXT PLAINTEXT 0.0.0.0:29092 kafka:29092", "PLAINTEXT_HOST PLAINTEXT 0.0.0.0:9092 localhost:9092"]
        );
    }

    #[test]
    fn a_wildcard_advertises_the_name_of_the_host() {
        for list in ["PLAINTEXT://:9092", "PLAINTEXT://0.0.0.0:9092", "PLAINTEXT://[::]:9092"] {
            let listeners = resolve(&ListenerConfig { listeners: Some(list), ..NOTHING }).unwrap();
            assert_eq!(listeners.kafka[0].advertised, Endpoint { host: "box".to_owned(), port: 9092 });
            assert!(!listeners.kafka[0].bind.is_loopback());
        }
    }

    #[test]
    fn an_advertised_wildcard_is_refused_with_a_hint() {
        let config = ListenerConfig { advertised_listeners: Some("PLAINTEXT://0.0.0.0:9092"), ..NOTHING };
        assert!(show(&config)[0].contains("for one machine, PLAINTEXT://localhost:9092"));
    }

    #[test]
    fn a_controller_listener_is_not_kafkas() {
        let config = ListenerConfig {
            listeners: Some("PLAINTEXT://:9092,CONTROLLER://:9093"),
            advertised_listeners: Some("PLAINTEXT://localhost:9092"),
            controller_names: Some("CONTROLLER"),
            ..NOTHING
        };
        let listeners = resolve(&config).unwrap();
        assert_eq!(listeners.kafka.len(), 1);
        assert_eq!(listeners.peer, Some(Endpoint { host: String::new(), port: 9093 }));
    }

    #[test]
    fn mistakes_are_told_one_by_one() {
        let check = |listeners: &str, advertised: Option<&str>, expected: &str| {
            let config = ListenerConfig { listeners: Some(listeners), advertised_listeners: advertised, ..NOTHING };
            let problems = resolve(&config).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
        };
        check("localhost:9092", None, "'localhost:9092' is not NAME://HOST:PORT");
        check("PLAINTEXT://localhost", None, "has no port");
        check("PLAINTEXT://localhost:99999", None, "'99999' in 'localhost:99999' is not a port");
        check("INSIDE://localhost:9092", None, "add INSIDE:PLAINTEXT to listener.security.protocol.map");
        check("SASL_SSL://localhost:9092", None, "only PLAINTEXT is built");
        check("PLAINTEXT://a:1,PLAINTEXT://b:2", None, "PLAINTEXT is there twice");
        check("PLAINTEXT://:9092", Some("OTHER://a:9092"), "OTHER is not one of the listeners");
        check("PLAINTEXT://::1:9092", None, "write an IPv6 address as [ADDRESS]:PORT");
    }
}
