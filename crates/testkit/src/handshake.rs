//! An AMQP handshake by hand, to know that a broker is ready.
//!
//! It shares no code with the client, so that a broken client cannot make a broker look broken.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Opens an AMQP connection to vhost `/` as guest on a port of 127.0.0.1, and closes it again.
///
/// An error when the broker is not there or refuses, when nothing is heard for two seconds, or when what it says of itself does
/// not contain `name` (RabbitMQ says its node's name).
pub fn answers(port: u16, name: &str) -> io::Result<()> {
    let mut socket = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), SILENCE)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.set_write_timeout(Some(SILENCE))?;

    socket.write_all(b"AMQP\x00\x00\x09\x01")?;
    let start = arguments(&mut socket, CONNECTION_START)?;
    if !name.is_empty() && !start.windows(name.len()).any(|part| part == name.as_bytes()) {
        return Err(io::Error::other(format!("the broker on port {port} is not {name}")));
    }
    send(&mut socket, CONNECTION_START_OK, b"\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x0c\x00guest\x00guest\x05en_US")?;
    let tune = arguments(&mut socket, CONNECTION_TUNE)?;
    send(&mut socket, CONNECTION_TUNE_OK, &tune)?;
    send(&mut socket, CONNECTION_OPEN, b"\x01/\x00\x00")?;
    arguments(&mut socket, CONNECTION_OPEN_OK)?;
    send(&mut socket, CONNECTION_CLOSE, b"\x00\xc8\x00\x00\x00\x00\x00")?;
    arguments(&mut socket, CONNECTION_CLOSE_OK)?;
    Ok(())
}

/// A method frame on channel 0 [2.3.5].
fn send(socket: &mut TcpStream, method: [u8; 4], arguments: &[u8]) -> io::Result<()> {
    let length = u32::try_from(method.len() + arguments.len()).map_err(io::Error::other)?;
    let frame = [&[METHOD_FRAME, 0, 0], &length.to_be_bytes()[..], &method, arguments, &[FRAME_END]].concat();
    socket.write_all(&frame)
}

/// The arguments of the next method, which must be `method`.
fn arguments(socket: &mut TcpStream, method: [u8; 4]) -> io::Result<Vec<u8>> {
    let mut header = [0; 7];
    socket.read_exact(&mut header)?;
    let [kind, _, _, length @ ..] = header;
    let length = u32::from_be_bytes(length);
    if kind != METHOD_FRAME || length > LONGEST_FRAME {
        return Err(io::Error::other(format!("no method frame: {header:?}")));
    }
    let mut payload = Vec::new();
    socket.take(u64::from(length) + 1).read_to_end(&mut payload)?;
    match (payload.strip_prefix(&method), payload.last()) {
        (Some([arguments @ .., _]), Some(&FRAME_END)) => Ok(arguments.to_vec()),
        _ => Err(io::Error::other(format!("{method:?} was due, not {:?}", payload.get(..4)))),
    }
}

const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];
const CONNECTION_START_OK: [u8; 4] = [0, 10, 0, 11];
const CONNECTION_TUNE: [u8; 4] = [0, 10, 0, 30];
const CONNECTION_TUNE_OK: [u8; 4] = [0, 10, 0, 31];
const CONNECTION_OPEN: [u8; 4] = [0, 10, 0, 40];
const CONNECTION_OPEN_OK: [u8; 4] = [0, 10, 0, 41];
const CONNECTION_CLOSE: [u8; 4] = [0, 10, 0, 50];
const CONNECTION_CLOSE_OK: [u8; 4] = [0, 10, 0, 51];
const METHOD_FRAME: u8 = 1;
const FRAME_END: u8 = 0xce;
const LONGEST_FRAME: u32 = 1 << 16;
const SILENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    #[test]
    fn a_port_that_listens_but_hangs_up_is_not_ready() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(answers(port, "").is_err());
        peer.join().unwrap();
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_not_ready() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = thread::spawn(move || listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        assert_eq!(answers(port, "").unwrap_err().kind(), io::ErrorKind::Other);
        peer.join().unwrap().unwrap();
    }
}
