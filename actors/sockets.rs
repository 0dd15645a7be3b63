//! The sockets of the listeners, bound before anything else of the broker runs.

use std::net::SocketAddr;

use log::info;

use crate::broker::StartError;
use crate::config::{BrokerConfig, ListenerConfig};

pub type Bound = Vec<(String, Vec<std::net::TcpListener>)>;

const BACKLOG: i32 = 1024;

/// Takes the addresses; nobody can connect before [`listen_all`].
pub fn bind_all(listeners: &[ListenerConfig]) -> Result<Bound, StartError> {
    let mut bound = Vec::new();
    for listener in listeners {
        let mut sockets = Vec::new();
        let mut port = None;
        for address in &listener.bind {
            // Both families of `localhost` share the port that the first was given.
            let address = SocketAddr::new(address.ip(), port.filter(|_| address.port() == 0).unwrap_or(address.port()));
            match bind(address) {
                Ok(socket) => {
                    port = socket.local_addr().ok().map(|address| address.port());
                    sockets.push(socket);
                }
                // A machine without IPv6 has no ::1, and that is no reason not to start.
                Err(error) if !sockets.is_empty() && error.kind() != std::io::ErrorKind::AddrInUse => {
                    info!("listener {} does without {address}: {error}", listener.name);
                }
                Err(error) => return Err(StartError::Bind { listener: listener.name.clone(), address, error }),
            }
        }
        bound.push((listener.name.clone(), sockets));
    }
    Ok(bound)
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// From now on clients may connect; before, they are refused, which tells them to try another broker.
pub fn listen_all(bound: &Bound) -> Result<(), StartError> {
    for (listener, sockets) in bound {
        for socket in sockets {
            socket2::SockRef::from(socket).listen(BACKLOG).or_else(|error| {
                let address = socket.local_addr()?;
                Err(StartError::Bind { listener: listener.clone(), address, error })
            })?;
        }
    }
    Ok(())
}

pub fn addresses(sockets: &[std::net::TcpListener]) -> Vec<SocketAddr> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
}

/// A listener on port 0 advertises the port that it was given.
pub fn with_bound_ports(mut config: BrokerConfig, sockets: &Bound) -> BrokerConfig {
    for (listener, (_, sockets)) in config.listeners.iter_mut().zip(sockets) {
        if listener.advertised_port == 0 {
            listener.advertised_port = addresses(sockets).first().map_or(0, SocketAddr::port);
        }
    }
    config
}
