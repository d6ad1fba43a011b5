//! Sockets that never block, and the addresses that they connect to: what the adapters of pooka share.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    thread,
};

/// Begins to connect; the socket becomes writable when it is known whether that worked.
///
/// # Errors
/// The operating system's.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Whether it is connected; false if that is not known yet.
///
/// # Errors
/// It could not be connected.
pub fn connected(socket: &impl AsFd) -> io::Result<bool> {
    let socket = SockRef::from(socket);
    match socket.take_error()? {
        Some(error) => Err(error),
        None => match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Finds a host's addresses. Names are looked up on a thread of their own, because that can take any time.
pub fn resolve(host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
    if let Ok(address) = host.parse::<IpAddr>() {
        return then(Ok(vec![(address, port).into()]));
    }
    let host = host.to_owned();
    let lookup = move || then((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    // Without a thread nobody is told, and the connection ends at its deadline.
    let _ = thread::Builder::new().name("pooka-resolver".into()).spawn(lookup);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn outcome(address: SocketAddr) -> io::Result<bool> {
        let socket = connect(address)?;
        loop {
            match connected(&socket) {
                Ok(false) => thread::yield_now(),
                known => return known,
            }
        }
    }

    /// F11
    #[test]
    fn a_listening_port_is_connected_and_a_closed_one_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(outcome(address).unwrap());
        let socket = connect(address).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        drop(listener);
        assert_eq!(outcome(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn names_and_literals_are_resolved() {
        for host in ["127.0.0.1", "::1", "localhost"] {
            let (told, hear) = std::sync::mpsc::channel();
            resolve(host, 5672, Box::new(move |addresses| told.send(addresses).unwrap()));
            let addresses = hear.recv().unwrap().unwrap();
            assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 5672));
            assert!(!addresses.is_empty());
        }
    }
}
