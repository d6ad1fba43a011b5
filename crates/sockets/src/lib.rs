//! Sockets that never block, and the addresses that they connect to: what the adapters of pooka share.
#![forbid(unsafe_code)]

use amqp_core::TcpOptions;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io::{self, Read},
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

/// Returns whether it is connected; false if that is not known yet.
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

/// Reads, whatever a runtime remembers of the socket.
///
/// # Errors
/// The operating system's; `WouldBlock` if there is nothing.
pub fn read(socket: &impl AsFd, octets: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(socket)).read(octets)
}

/// Asks the operating system for what is not its default.
///
/// # Errors
/// The operating system's, or that it has no such option.
pub fn tune(socket: &impl AsFd, options: &TcpOptions) -> io::Result<()> {
    let TcpOptions { keep_idle, keep_interval, keep_count, user_timeout } = options;
    let socket = SockRef::from(socket);
    let mut keepalive = TcpKeepalive::new();
    if let Some(idle) = keep_idle {
        keepalive = keepalive.with_time(*idle);
    }
    #[cfg(not(target_os = "openbsd"))]
    {
        if let Some(interval) = keep_interval {
            keepalive = keepalive.with_interval(*interval);
        }
        if let Some(count) = keep_count {
            keepalive = keepalive.with_retries(*count);
        }
    }
    #[cfg(target_os = "openbsd")]
    if keep_idle.is_some() || keep_interval.is_some() || keep_count.is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if keep_idle.is_some() || keep_interval.is_some() || keep_count.is_some() {
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if user_timeout.is_some() {
        socket.set_tcp_user_timeout(*user_timeout)?;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = user_timeout;
    Ok(())
}

/// Finds a host's addresses. Names are looked up on a thread of their own, because that can take any time.
pub fn resolve(host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
    if let Ok(address) = host.parse::<IpAddr>() {
        return then(Ok(vec![(address, port).into()]));
    }
    let host = host.to_owned();
    let lookup = move || then((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    // Without a thread there is no answer, and the connection ends at its deadline.
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

    /// P12.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_is_tuned_as_it_is_told() {
        use std::time::Duration;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap()).unwrap();
        let seconds = |n| Some(Duration::from_secs(n));
        tune(&socket, &TcpOptions::default()).unwrap();
        let options = TcpOptions {
            keep_idle: seconds(7),
            keep_interval: seconds(3),
            keep_count: Some(2),
            user_timeout: seconds(9),
        };
        tune(&socket, &options).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(socket.tcp_user_timeout().unwrap(), seconds(9));
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
