//! What holds for every request: how many connections an address may have, by which name it calls us, and which web pages may
//! speak to us.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::{Extensions, RequestHead, ServiceRequest};
use actix_web::http::{Method, StatusCode, header};
use actix_web::rt::net::TcpStream;

use super::carried;
use super::door::Door;
use super::doors::Doors;
use super::hosts::Hosts;
use super::problem::Problem;

/// Whether it comes on a connection that is one too many: it gets its refusal, and is closed. Left open it would keep its place
/// among all connections, and be refused for as long as it lives.
pub fn is_over_limit(request: &ServiceRequest) -> bool {
    request.conn_data::<Connection>().is_some_and(|connection| connection.is_over_limit)
}

/// Refuses what no handler shall see.
pub fn check(doors: &Doors, request: &ServiceRequest) -> Result<(), Problem> {
    if is_over_limit(request) {
        return Err(Problem::too_many(
            "too many connections from this address (capek.http.connections.per.ip, max.connections.per.ip)",
        ));
    }
    check_host(doors, request)?;
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe {
        check_origin(doors, request.head())?;
    }
    check_accept(request)
}

/// Who sends no `Host` is no browser. What another broker carries here was judged where it came in.
fn check_host(doors: &Doors, request: &ServiceRequest) -> Result<(), Problem> {
    let Some(host) = request.headers().get(header::HOST) else { return Ok(()) };
    let is_known = host.to_str().is_ok_and(|host| doors.hosts.knows(host) || doors.allowed_origins.names_host(host));
    if is_known || carried::is_carried(request) {
        return Ok(());
    }
    let detail = "HTTP is served on loopback only, and this host has no such name: a name that is to lead here must stand in \
                  capek.http.allowed.origins, as http://NAME";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// Confluent's clients are answered in JSON, whatever it is called; records of ours in lines of it.
fn check_accept(request: &ServiceRequest) -> Result<(), Problem> {
    let Some(accept) = request.headers().get(header::ACCEPT) else { return Ok(()) };
    let is_confluents = matches!(Door::of(request.path()), Door::RestV2 | Door::RestV3);
    let is_acceptable = !is_confluents || accept.to_str().is_ok_and(|accept| accept.split(',').any(is_json));
    if is_acceptable { Ok(()) } else { Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "HTTP 406 Not Acceptable")) }
}

fn is_json(media_range: &str) -> bool {
    let media_type = media_range.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    matches!(media_type.as_str(), "" | "*/*" | "application/*") || media_type.ends_with("json")
}

/// A page of another origin must not write here with its visitor's rights, nor open a WebSocket (browsers ask for neither
/// the way they do for other reads). Who sends no `Origin` is no browser.
pub fn check_origin(doors: &Doors, head: &RequestHead) -> Result<(), Problem> {
    let Some(origin) = head.headers().get(header::ORIGIN) else { return Ok(()) };
    let host = head.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let is_allowed = origin
        .to_str()
        .is_ok_and(|origin| is_same_origin(origin, host, &doors.hosts) || doors.allowed_origins.allows(origin));
    if is_allowed {
        Ok(())
    } else {
        Err(Problem::forbidden("pages of another origin may not do this (capek.http.allowed.origins)"))
    }
}

fn is_same_origin(origin: &str, host: &str, hosts: &Hosts) -> bool {
    let Some(("http" | "https", of_page)) = origin.split_once("://") else { return false };
    !host.is_empty() && of_page.eq_ignore_ascii_case(host) && hosts.knows(host)
}

/// How many connections each address has.
#[derive(Clone)]
pub struct Connections {
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limits: ConnectionLimits,
}

/// How many connections one address may have.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub any: usize,
    /// A proxy on this host comes from loopback with the connections of many.
    pub beyond_loopback: usize,
}

impl ConnectionLimits {
    fn is_over(self, ip: IpAddr, count: usize) -> bool {
        count > self.any || (!ip.is_loopback() && count > self.beyond_loopback)
    }
}

/// One connection, counted until it is closed.
struct Connection {
    connections: Connections,
    ip: IpAddr,
    is_over_limit: bool,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Connections {
        Connections { by_ip: Arc::default(), limits }
    }

    /// actix-web calls this for each accepted socket.
    pub fn opened(&self, io: &dyn Any, extensions: &mut Extensions) {
        let Some(peer) = io.downcast_ref::<TcpStream>().and_then(|socket| socket.peer_addr().ok()) else { return };
        let count = self.change(peer.ip(), |count| *count += 1);
        let is_over_limit = self.limits.is_over(peer.ip(), count);
        extensions.insert(Connection { connections: self.clone(), ip: peer.ip(), is_over_limit });
    }

    fn change(&self, ip: IpAddr, change: impl Fn(&mut usize)) -> usize {
        let mut by_ip = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_ip.entry(ip).or_default();
        change(count);
        let after = *count;
        if after == 0 {
            by_ip.remove(&ip);
        }
        after
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.change(self.ip, |count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_pages_of_this_origin_are_let_in() {
        let check = |origin, host, is_loopback_only: bool, expected| {
            let hosts = if is_loopback_only { Hosts::of_loopback([]) } else { Hosts::any() };
            assert_eq!(is_same_origin(origin, host, &hosts), expected, "{origin} at {host}");
        };
        check("http://localhost:8080", "localhost:8080", true, true);
        check("http://127.0.0.1:8080", "127.0.0.1:8080", true, true);
        check("http://[::1]:8080", "[::1]:8080", true, true);
        check("http://evil.example", "localhost:8080", true, false);
        check("http://localhost:3000", "localhost:8080", true, false);
        check("null", "localhost:8080", true, false);
        check("", "", true, false);
        check("http://", "", false, false);
        check("file://localhost:8080", "localhost:8080", true, false);
        check("http://rebound.example:8080", "rebound.example:8080", true, false);
        check("http://broker.example:8080", "broker.example:8080", false, true);
    }

    #[test]
    fn confluents_paths_are_answered_in_json_or_not_at_all() {
        let check = |path: &str, accept: &'static str, expected| {
            let request = TestRequest::with_uri(path).insert_header((header::ACCEPT, accept)).to_srv_request();
            assert_eq!(check_accept(&request).is_ok(), expected, "{accept} of {path}");
        };
        for accept in ["", "*/*", "text/html, */*;q=0.8", "application/json", "application/vnd.kafka.avro.v2+json; q=1"]
        {
            check("/topics", accept, true);
        }
        check("/v3/clusters", "application/x-ndjson", true);
        for path in ["/topics/t", "/consumers/g", "/brokers", "/v3/clusters", "/kafka/v3/clusters"] {
            check(path, "text/xml", false);
        }
        for path in ["/v1/topics/t", "/docs", "/"] {
            check(path, "text/xml", true);
        }
    }

    #[test]
    fn addresses_beyond_this_host_have_a_limit_of_their_own() {
        let limits = ConnectionLimits { any: 1000, beyond_loopback: 256 };
        let check = |ip: &str, count, expected| {
            assert_eq!(limits.is_over(ip.parse().unwrap(), count), expected, "{count} of {ip}");
        };
        for ip in ["192.0.2.7", "2001:db8::7"] {
            check(ip, 256, false);
            check(ip, 257, true);
        }
        for ip in ["127.0.0.1", "127.8.8.8", "::1"] {
            check(ip, 1000, false);
            check(ip, 1001, true);
        }
    }

    #[test]
    fn connections_are_counted_until_they_close() {
        let connections = Connections::new(ConnectionLimits { any: 1, beyond_loopback: 1 });
        let ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(connections.change(ip, |count| *count += 1), 1);
        assert_eq!(connections.change(ip, |count| *count += 1), 2);
        let connection = Connection { connections: connections.clone(), ip, is_over_limit: true };
        drop(connection);
        assert_eq!(connections.change(ip, |count| *count -= 1), 0);
        assert!(connections.by_ip.lock().unwrap().is_empty());
    }
}
