//! What `capek serve` prints when it is ready: where everything listens, and three lines to paste.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::Settings;

/// What there is to tell.
pub struct Ready<'a> {
    pub settings: &'a Settings,
    pub cluster_id: &'a str,
    /// Each Kafka listener with the addresses that it is bound to.
    pub kafka: &'a [(String, Vec<SocketAddr>)],
    pub http: &'a [SocketAddr],
    pub took: Duration,
}

/// To standard output; whoever closed it does not want to know.
pub fn print(ready: &Ready) {
    let program = std::env::args().next().unwrap_or_else(|| "capek".to_owned());
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text(ready, &program).as_bytes()).and_then(|()| stdout.flush());
}

fn text(ready: &Ready, program: &str) -> String {
    let mut text = format!(
        "capek {}: node {} of cluster {} is ready after {} ms\n",
        env!("CARGO_PKG_VERSION"),
        ready.settings.node_id,
        ready.cluster_id,
        ready.took.as_millis()
    );
    let dirs: Vec<_> = ready.settings.data_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let _ = writeln!(text, "  data    {}", dirs.join(", "));
    for (name, addresses) in ready.kafka {
        let _ = writeln!(text, "  Kafka   {} ({name})", list(addresses));
    }
    if !ready.http.is_empty() {
        let _ = writeln!(text, "  HTTP    {}", list(ready.http));
    }
    let _ = writeln!(text, "Try it:");
    for line in lines_to_paste(ready, program) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn lines_to_paste(ready: &Ready, program: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let kafka = ready.kafka.first().and_then(|(_, addresses)| addresses.first());
    let bootstrap = match kafka.map(reachable) {
        Some(address) if address == "localhost:9092" => String::new(),
        Some(address) => format!(" -b {address}"),
        None => String::new(),
    };
    let http = ready.http.first().map(reachable);
    match &http {
        Some(http) => lines.push(format!("curl -d 'hello, world' 'http://{http}/v1/topics/greetings?key=me'")),
        None => lines.push(format!("echo 'hello, world' | {program} produce greetings{bootstrap}")),
    }
    lines.push(format!("{program} consume greetings -o earliest -n 1{bootstrap}"));
    if let Some(http) = &http {
        lines.push(format!("curl -N 'http://{http}/v1/topics/greetings/sse?from=earliest'"));
    }
    lines
}

/// How a command on this machine names the address.
fn reachable(address: &SocketAddr) -> String {
    let is_localhost = address.ip() == Ipv4Addr::LOCALHOST || address.ip() == Ipv6Addr::LOCALHOST;
    if is_localhost || address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources, load};

    #[test]
    fn the_lines_to_paste_name_the_ports_that_were_bound() {
        let settings = Settings::from_loaded(load(&Sources::default()).unwrap(), "box").unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ready = Ready {
            settings: &settings,
            cluster_id: "c",
            kafka: &[("PLAINTEXT".to_owned(), vec![address(9092)])],
            http: &[address(18080)],
            took: Duration::from_millis(12),
        };
        let text = text(&ready, "capek");
        assert!(
            text.contains("curl -d 'hello, world' 'http://localhost:18080/v1/topics/greetings?key=me'\n"),
            "{text}"
        );
        assert!(text.contains("  capek consume greetings -o earliest -n 1\n"), "{text}");
    }
}
