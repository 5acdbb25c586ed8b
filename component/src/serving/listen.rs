//! Binding a TCP socket as Go does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Options;

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

pub(super) fn listen(options: &Options) -> io::Result<TcpListener> {
    let address = options.address;
    if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return bind(options, address);
    }
    // One socket for both families, and IPv4 alone where there is no IPv6.
    match bind(
        options,
        SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()),
    ) {
        Err(e)
            if e.raw_os_error() == Some(libc::EAFNOSUPPORT)
                || e.raw_os_error() == Some(libc::EADDRNOTAVAIL) =>
        {
            bind(options, address)
        }
        bound => bound,
    }
}

fn bind(options: &Options, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // Go sets it on every listener: connections in TIME_WAIT must not keep a restarted daemon away.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
