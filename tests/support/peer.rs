//! A broker over TCP that says what a test tells it to: for what depends on sockets and processes.
#![allow(dead_code, reason = "not every suite says everything")]

use pooka::{
    adapter::frame::{Frame, Header},
    spec::{Method, basic, channel, connection},
};
use pooka_testkit::scripted_peer::start;
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

/// One client's connection, as the broker sees it.
pub(crate) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    /// The next client, who is taken through the handshake.
    pub(crate) fn accept(listener: &TcpListener, heartbeat: u16) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LATE)).unwrap();
        let mut peer = Self { stream, unread: vec![] };
        peer.read(8);
        assert_eq!(peer.unread.drain(..8).collect::<Vec<_>>(), *b"AMQP\0\0\x09\x01");
        peer.say(0, start());
        assert!(matches!(peer.hear(), Some((0, Method::Connection(connection::Method::StartOk(_))))));
        peer.say(0, connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat });
        assert!(matches!(peer.hear(), Some((0, Method::Connection(connection::Method::TuneOk(_))))));
        assert!(matches!(peer.hear(), Some((0, Method::Connection(connection::Method::Open(_))))));
        peer.say(0, connection::OpenOk::default());
        peer
    }

    pub(crate) fn say(&mut self, channel: u16, method: impl Into<Method>) {
        self.send(&Frame::Method(channel, method.into()));
    }

    /// A message without a body.
    pub(crate) fn deliver(&mut self, channel: u16, deliver: basic::Deliver) {
        self.say(channel, deliver);
        self.send(&Frame::Header(channel, Header { class_id: 60, ..Default::default() }));
    }

    pub(crate) fn beat(&mut self) {
        self.send(&Frame::Heartbeat);
    }

    fn send(&mut self, frame: &Frame<'_>) {
        let mut octets = vec![];
        frame.encode(&mut octets).unwrap();
        let _ = self.stream.write_all(&octets); // a client that has hung up is not heard either
    }

    /// The next method; `None` when the client has hung up.
    pub(crate) fn hear(&mut self) -> Option<(u16, Method)> {
        loop {
            let (method, taken) = match Frame::decode(&self.unread).unwrap() {
                Some((Frame::Method(channel, method), taken)) => (Some((channel, method)), taken),
                Some((_, taken)) => (None, taken),
                None => (None, 0),
            };
            self.unread.drain(..taken);
            if method.is_some() {
                return method;
            }
            if taken == 0 && !self.read(self.unread.len() + 1) {
                return None;
            }
        }
    }

    /// The next method that is not about opening and closing, which is answered here; `None` when the client has hung up.
    pub(crate) fn serve(&mut self) -> Option<(u16, Method)> {
        loop {
            match self.hear()? {
                (n, Method::Channel(channel::Method::Open(_))) => self.say(n, channel::OpenOk::default()),
                (n, Method::Channel(channel::Method::Close(_))) => self.say(n, channel::CloseOk {}),
                (0, Method::Connection(connection::Method::Close(_))) => self.say(0, connection::CloseOk {}),
                heard => return Some(heard),
            }
        }
    }

    /// Reads until there are so many octets; false when the client has hung up.
    fn read(&mut self, octets: usize) -> bool {
        let mut buffer = [0; 4096];
        while self.unread.len() < octets {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("the client says nothing: {error}"),
            }
        }
        true
    }
}

/// Nothing is waited for without end.
const LATE: Duration = Duration::from_secs(25);
