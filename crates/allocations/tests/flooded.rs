//! A broker that sends more than a blocking program takes: memory stays bounded, and who waits for an answer is told why it does
//! not come.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    BasicProperties, ConnectionParameters, Error, Result, Table, Value,
    spec::{
        Arguments, FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD, Method, MethodId, basic, channel, connection,
        queue,
    },
};
use pooka_blocking::{BlockingChannel, BlockingConnection};
use std::{
    future::poll_fn,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Octets that the peer sends.
const FLOOD: usize = 500_000_000;
/// Octets that the client may use for it.
const LIMIT: u64 = 64_000_000;
/// How long the peer waits for a client that reads no more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A broker that opens whatever is asked for, and floods the client at its first queue.declare, which it answers afterwards if
/// the client still reads.
struct Peer {
    port: u16,
    thread: JoinHandle<usize>,
}

impl Peer {
    /// `piece` is sent again and again.
    fn new(piece: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let sent = AtomicUsize::new(0);
            let _ = serve(socket, &piece, &sent); // it ends when the client goes
            sent.into_inner()
        });
        Self { port, thread }
    }

    fn open(&self) -> (BlockingConnection, BlockingChannel) {
        let parameters: ConnectionParameters = format!("amqp://127.0.0.1:{}", self.port).parse().unwrap();
        let connection = BlockingConnection::open(parameters).unwrap();
        let channel = connection.channel().call().unwrap();
        (connection, channel)
    }

    /// Octets of the flood that the client's side of the network took.
    fn sent(self) -> usize {
        self.thread.join().unwrap()
    }
}

fn serve(mut socket: TcpStream, piece: &[u8], sent: &AtomicUsize) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.read_exact(&mut [0; 8])?;
    let mechanisms = "PLAIN".into();
    let start = connection::Start { version_minor: 9, mechanisms, locales: "en_US".into(), ..Default::default() };
    socket.write_all(&method(0, start))?;
    loop {
        let mut header = [0; 7];
        socket.read_exact(&mut header)?;
        let [kind, high, low, length @ ..] = header;
        let number = u16::from_be_bytes([high, low]);
        let mut payload = vec![0; u32::from_be_bytes(length) as usize + 1];
        socket.read_exact(&mut payload)?;
        if kind != FRAME_METHOD {
            continue;
        }
        let id = MethodId {
            class: u16::from_be_bytes([payload[0], payload[1]]),
            method: u16::from_be_bytes([payload[2], payload[3]]),
        };
        let tune = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        let reply = match id {
            connection::StartOk::ID => method(0, tune),
            connection::Open::ID => method(0, connection::OpenOk::default()),
            connection::Close::ID => method(0, connection::CloseOk {}),
            channel::Open::ID => method(number, channel::OpenOk::default()),
            basic::Consume::ID => method(number, basic::ConsumeOk { consumer_tag: "c".into() }),
            queue::Declare::ID => {
                while sent.load(Ordering::Relaxed) < FLOOD {
                    socket.write_all(piece)?;
                    sent.fetch_add(piece.len(), Ordering::Relaxed);
                }
                method(number, queue::DeclareOk { queue: "q".into(), ..Default::default() })
            }
            _ => vec![],
        };
        socket.write_all(&reply)?;
    }
}

fn frame(kind: u8, number: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes(), &(payload.len() as u32).to_be_bytes(), payload, &[FRAME_END]].concat()
}

fn method(number: u16, method: impl Into<Method>) -> Vec<u8> {
    let mut payload = vec![];
    method.into().put(&mut payload).unwrap();
    frame(FRAME_METHOD, number, &payload)
}

fn content(carrier: impl Into<Method>, properties: &BasicProperties, body: &[u8]) -> Vec<u8> {
    let mut header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes()].concat();
    properties.put(&mut header).unwrap();
    let bodies = body.chunks(100_000).map(|chunk| frame(FRAME_BODY, 1, chunk));
    [method(1, carrier), frame(FRAME_HEADER, 1, &header)].into_iter().chain(bodies).flatten().collect()
}

fn deliver(properties: &BasicProperties, body: &[u8]) -> Vec<u8> {
    content(basic::Deliver { consumer_tag: "c".into(), delivery_tag: 1, ..Default::default() }, properties, body)
}

fn returned() -> Vec<u8> {
    content(basic::Return { reply_code: 312, ..Default::default() }, &BasicProperties::new(), &[7; 10_000])
}

/// Many frames at once, so that a piece costs few system calls.
fn piece(frames: Vec<u8>) -> Vec<u8> {
    frames.repeat(100_000 / frames.len() + 1)
}

/// Fields that cost the most memory for their octets.
fn costly() -> BasicProperties {
    let fields = (0..20_000).map(|n| (format!("{n}"), Value::Void));
    BasicProperties::new().headers(fields.collect::<Table>())
}

fn consuming(channel: &BlockingChannel) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let consume = channel.basic_consume("q").consumer_tag("c").no_ack(true);
    consume
        .on_message(move |_, _| -> Result<()> {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    seen
}

/// Trial T12: what waits for callbacks is read while an answer is waited for, but not without end.
#[test]
fn who_waits_for_an_answer_behind_a_flood_of_messages_is_told() {
    let pieces = [
        ("large", piece(deliver(&BasicProperties::new(), &[7; 100_000]))),
        ("small", piece(deliver(&BasicProperties::new(), b"x"))),
        ("headers", piece(deliver(&costly(), b""))),
    ];
    for (what, piece) in pieces {
        let peer = Peer::new(piece);
        let (connection, channel) = peer.open();
        let seen = consuming(&channel);
        let mut error = None;
        let counted = allocation_counter::measure(|| error = channel.queue_declare("q").call().err());
        assert!(matches!(error, Some(Error::InboundFull { .. })), "{what}: {error:?}");
        assert!(counted.bytes_max < LIMIT, "{what}: {} octets", counted.bytes_max);
        // Whoever processes events goes on, and hears of the rest.
        assert!(connection.is_open(), "{what}");
        connection.process_data_events(Duration::ZERO).unwrap();
        let before = seen.load(Ordering::Relaxed);
        assert!(before > 0, "{what}");
        while seen.load(Ordering::Relaxed) == before {
            connection.process_data_events(PATIENCE).unwrap();
        }
        drop(connection);
        assert!(peer.sent() < FLOOD, "{what}");
    }
}

/// Trial T12: one who asks again and again, and takes nothing, does not get round the limit.
#[test]
fn who_asks_again_and_again_and_takes_nothing_loses_the_connection() {
    let peer = Peer::new(piece(deliver(&BasicProperties::new(), &[7; 1000])));
    let (connection, channel) = peer.open();
    consuming(&channel);
    let counted = allocation_counter::measure(|| {
        while connection.is_open() {
            let error = channel.queue_declare("q").call().unwrap_err();
            assert!(matches!(error, Error::InboundFull { .. }), "{error}");
        }
    });
    assert!(counted.bytes_max < LIMIT, "{} octets", counted.bytes_max);
    assert!(matches!(connection.close_reason(), Some(Error::InboundFull { .. })));
}

/// Trial T14: events wait for callbacks, too.
#[test]
fn a_flood_of_events_is_told_to_who_waits() {
    let blocked = connection::Blocked { reason: "low on memory".into() };
    let events = [method(0, blocked), method(0, connection::Unblocked {})].concat();
    for (what, piece) in [("blocked", piece(events)), ("returned", piece(returned()))] {
        let peer = Peer::new(piece);
        let (connection, channel) = peer.open();
        connection.add_on_connection_blocked_callback(|_| ());
        connection.add_on_connection_unblocked_callback(|| ());
        channel.add_on_return_callback(|_, _| ());
        let mut error = None;
        let counted = allocation_counter::measure(|| error = channel.queue_declare("q").call().err());
        assert!(matches!(error, Some(Error::InboundFull { .. })), "{what}: {error:?}");
        assert!(counted.bytes_max < LIMIT, "{what}: {} octets", counted.bytes_max);
        drop(connection);
        assert!(peer.sent() < FLOOD, "{what}");
    }
}

/// Trial T14: no call waits that could get an error, and to stop reading could make both sides wait for ever.
#[test]
fn a_flood_of_events_that_nobody_takes_ends_the_connection() {
    let peer = Peer::new(piece(returned()));
    let (connection, channel) = peer.open();
    channel.add_on_return_callback(|_, _| ());
    let waker = Arc::new(Mutex::new(Waker::noop().clone()));
    let woken = waker.clone();
    let (noted, reason) = (Arc::new(Mutex::new(None)), connection.handle().clone());
    let note = noted.clone();
    connection.handle().add_on_close_callback(move |(), _, error| {
        *note.lock().unwrap() = Some(error.clone());
        woken.lock().unwrap().wake_by_ref();
    });
    channel.queue_declare("q").send().unwrap();
    let counted = allocation_counter::measure(|| {
        let over = poll_fn(|context| {
            *waker.lock().unwrap() = context.waker().clone();
            if reason.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        });
        connection.block_on(over).unwrap();
    });
    assert!(counted.bytes_max < LIMIT, "{} octets", counted.bytes_max);
    assert!(matches!(*noted.lock().unwrap(), Some(Error::InboundFull { .. })));
    assert!(peer.sent() < FLOOD);
}

/// Trial T12: a peer that reads only what it can answer: to publish without end, and take nothing, is an error and no deadlock.
#[test]
fn who_waits_for_room_behind_a_flood_is_told() {
    for (what, piece) in
        [("messages", piece(deliver(&BasicProperties::new(), &[7; 1000]))), ("returned", piece(returned()))]
    {
        let peer = Peer::new(piece);
        let (_connection, channel) = peer.open();
        consuming(&channel);
        channel.add_on_return_callback(|_, _| ());
        channel.queue_declare("q").send().unwrap();
        let mut error = None;
        let counted = allocation_counter::measure(|| {
            let body = vec![7; 100_000];
            while error.is_none() {
                error = channel.basic_publish("", "q", &body[..]).send().err();
            }
        });
        assert!(matches!(error, Some(Error::InboundFull { .. })), "{what}: {error:?}");
        // What waits to be written has a limit of its own.
        let outbound = ConnectionParameters::default().outbound_high_water() as u64;
        assert!(counted.bytes_max < LIMIT + 2 * outbound, "{what}: {} octets", counted.bytes_max);
    }
}
