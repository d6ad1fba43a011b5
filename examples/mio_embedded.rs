//! A program's own `mio::Poll` serves a UDP socket of its own and the AMQP connection: each datagram is published, and the
//! consumer prints it. It ends after so many messages.
//!
//!     cargo run --example mio_embedded --features mio -- 3
//!     echo hello | nc -u -q0 127.0.0.1 PORT

use mio::{Events, Interest, Poll, Registry, Token, net::UdpSocket};
use pooka::{
    Channel, ConnectionHandle, Delivery, Error, Result, ShortString,
    adapter::{Embedded, Next},
    spec::queue,
};
use std::{io, net::Ipv4Addr};

const DATAGRAMS: Token = Token(0);
/// The first of the tokens that the loop may use.
const AMQP: Token = Token(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct App {
    registry: Registry,
    source: Option<Source>,
    consumed: u32,
    wanted: u32,
}

/// Where messages come from, and where they go.
struct Source {
    socket: UdpSocket,
    channel: Channel<App>,
    queue: ShortString,
}

impl App {
    fn on_open(&mut self, connection: &ConnectionHandle<Self>, opened: Result<()>) -> Result<()> {
        opened?;
        connection.add_on_close_callback(Self::on_closed);
        connection.channel().send()?.queue_declare("").then(Self::on_declared);
        Ok(())
    }

    /// Datagrams are taken from now on.
    fn on_declared(&mut self, channel: &Channel<Self>, ok: Result<queue::DeclareOk>) -> Result<(), Failure> {
        let queue = ok?.queue;
        channel.basic_consume(&queue).on_message(Self::on_message).send()?;
        let mut socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        self.registry.register(&mut socket, DATAGRAMS, Interest::READABLE)?;
        println!("listening on {}", socket.local_addr()?);
        self.source = Some(Source { socket, channel: channel.clone(), queue });
        Ok(())
    }

    fn on_message(&mut self, channel: &Channel<Self>, delivery: Delivery<'_>) -> Result<()> {
        println!("got {:?}", String::from_utf8_lossy(delivery.body));
        channel.basic_ack(delivery.delivery_tag)?;
        self.consumed += 1;
        if self.consumed == self.wanted {
            self.source = None;
            channel.connection().close().send()?;
        }
        Ok(())
    }

    fn on_closed(&mut self, _: &ConnectionHandle<Self>, reason: &Error) -> Result<()> {
        if self.source.is_none() { Ok(()) } else { Err(reason.clone()) }
    }
}

impl Source {
    /// Publishes until the socket has no more, because mio tells only when there is something again.
    fn publish_all(&self) -> Result<(), Failure> {
        let mut datagram = [0; 65_535];
        loop {
            match self.socket.recv(&mut datagram) {
                Ok(length) => self.channel.basic_publish("", &self.queue, &datagram[..length]).send()?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn main() -> Result<(), Failure> {
    let wanted = std::env::args().nth(1).map_or(Ok(3), |number| number.parse())?;
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".into());
    let mut poll = Poll::new()?;
    let mut amqp = Embedded::new(poll.registry(), AMQP)?;
    amqp.handle().connect(url.parse()?).then(App::on_open);

    let mut app = App { registry: poll.registry().try_clone()?, source: None, consumed: 0, wanted };
    let mut events = Events::with_capacity(64);
    while let Next::Wait(timeout) = amqp.turn(&mut app)? {
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if let (false, Some(source)) = (amqp.ready(event), &app.source) {
                source.publish_all()?;
            }
        }
    }
    println!("{} datagrams went through the broker", app.consumed);
    Ok(())
}
