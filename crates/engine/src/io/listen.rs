//! Sockets to listen on: one per worker for TCP and UDP, so that the kernel spreads connections and
//! no two workers share a queue.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;

use evenflow_rules::plan::DATAGRAMS;
use socket2::{Domain, Socket as RawSocket, Type};

use crate::worker::Socket;

/// Connections the kernel may hold for one socket before they are accepted.
const BACKLOG: i32 = 4096;

/// Binds an address for so many workers.
///
/// # Errors
/// What the kernel says, such as that the address is in use.
pub fn bind(address: &str, workers: usize) -> io::Result<(String, Vec<Socket>)> {
    if let Some(path) = address.strip_prefix("unix:") {
        return bind_unix(path, workers);
    }
    let datagrams = address.strip_prefix(DATAGRAMS);
    let kind = match datagrams {
        Some(_) => Type::DGRAM,
        None => Type::STREAM,
    };
    let wanted: SocketAddr = datagrams
        .unwrap_or(address)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    // With SO_REUSEPORT alone a second process would share the port unnoticed. A socket without it
    // cannot bind while anybody listens there.
    if wanted.port() != 0 {
        let probe = open(wanted, kind)?;
        probe.bind(&wanted.into())?;
    }
    let mut bound = wanted;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = open(wanted, kind)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        bound = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        sockets.push(socket);
    }
    if datagrams.is_some() {
        let sockets = sockets.into_iter().map(|s| Socket::Udp(s.into())).collect();
        return Ok((format!("{DATAGRAMS}{bound}"), sockets));
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    let sockets = sockets.into_iter().map(|s| Socket::Tcp(s.into())).collect();
    Ok((bound.to_string(), sockets))
}

/// The port of an address for datagrams.
pub fn datagram_port(address: &str) -> Option<u16> {
    let (_, port) = address.strip_prefix(DATAGRAMS)?.rsplit_once(':')?;
    port.parse().ok()
}

fn open(address: SocketAddr, kind: Type) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` can be bound side by side.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // For datagrams it would let a second process share the port unnoticed.
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: one call here instead of one per connection.
        socket.set_tcp_nodelay(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &str, workers: usize) -> io::Result<(String, Vec<Socket>)> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let stale =
            found.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err();
        if !stale {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let first = std::os::unix::net::UnixListener::bind(path)?;
    first.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(Socket::Unix(first.try_clone()?));
    }
    sockets.push(Socket::Unix(first));
    Ok((format!("unix:{path}"), sockets))
}
