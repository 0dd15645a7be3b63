//! The sockets that HTTP listens on, bound before the broker starts: a port in use is told before anything is touched.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::config::Endpoint;

const BACKLOG: i32 = 1024;

/// What may sit in the kernel for one client. Left to itself it grows to megabytes, which a stalled stream would hold.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Binds every address of every endpoint; an error is a sentence that says what to do.
pub fn bind_all(endpoints: &[Endpoint]) -> Result<Vec<TcpListener>, String> {
    let mut sockets = Vec::new();
    for endpoint in endpoints {
        let addresses = endpoint.bind_addresses().map_err(|error| refused(endpoint, endpoint, &error))?;
        let mut port = None;
        for address in addresses {
            // Both families of `localhost` share the port that the first was given.
            let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
            match bind(address) {
                Ok(socket) => {
                    port = socket.local_addr().ok().map(|address| address.port());
                    sockets.push(socket);
                }
                // A machine without IPv6 has no ::1, and that is no reason not to start.
                Err(error) if port.is_some() && error.kind() != io::ErrorKind::AddrInUse => {
                    log::info!("HTTP does without {address}: {error}");
                }
                Err(error) => return Err(refused(endpoint, &address, &error)),
            }
        }
    }
    Ok(sockets)
}

fn refused(endpoint: &Endpoint, address: &dyn std::fmt::Display, error: &io::Error) -> String {
    format!(
        "HTTP cannot listen on {address} (capek.http.listeners, {endpoint}): {error}. Is another broker running there? \
         Choose another address with --http HOST:PORT"
    )
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?; // accepted sockets inherit it
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    /// Without it the kernel lets a buffer grow to megabytes for each client that does not read.
    #[test]
    fn what_waits_in_the_kernel_for_a_client_is_bounded() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let bytes = SockRef::from(&accepted).send_buffer_size().unwrap();
        assert_eq!(bytes, SockRef::from(&listener).send_buffer_size().unwrap(), "it is inherited");
        // Linux counts its own book-keeping twice over, and may allow less.
        assert!((1..=2 * SEND_BUFFER_BYTES).contains(&bytes), "{bytes}");
    }
}
