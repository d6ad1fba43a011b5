//! A broker that says what a test tells it to, in memory, under a clock that jumps.

use crate::scripted_tls::{FarEnd, secrecy};
pub use crate::scripted_tls::{Secrecy, secure_everything};
use amqp_core::{
    BasicProperties, ConnectionHandle, ConnectionParameters, LoopHandle, Outcome, Result, Table, frame,
    hub::{Hub, Interest, Network, Token, Turn},
    spec::{FRAME_END, Method, channel, connection},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

/// A loop with one connection to a scripted peer.
///
/// Nothing happens by itself: [`run`](Self::run) lets the client do all it can, [`advance`](Self::advance) moves the
/// clock, and what the peer says is put on the [`wire`](Self::wire) by the test.
pub struct Scene<S: 'static> {
    hub: Hub<S, Memory>,
    /// Both directions of the stream.
    pub wire: Wire,
    /// The connection.
    pub connection: ConnectionHandle<S>,
    clock: Clock,
}

/// The clock of a [`Scene`], which jumps: a callback that has it can take long.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    nanos: Arc<AtomicU64>,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), nanos: Arc::default() }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How far it has been moved since the beginning.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed()
    }
}

/// A stream in memory, as its far end sees it.
#[derive(Clone, Debug, Default)]
pub struct Wire(Rc<RefCell<Stream>>);

#[derive(Debug, Default)]
struct Stream {
    to_client: VecDeque<u8>,
    from_client: Vec<u8>,
    cut: Cut,
    reads: usize,
    /// Octets that all further writes take together.
    room: Option<usize>,
    ended: bool,
    discards: bool,
    /// The client wants to know when it can read.
    watched: bool,
    /// The client wants to know when it can write.
    asks_for_room: bool,
    /// The client has been told that it is connected.
    told: bool,
    token: Option<Token>,
    /// `host:port` of every endpoint whose addresses were asked for.
    tried: Vec<String>,
    /// Nobody listens there.
    closed_ports: Vec<u16>,
    /// The peer speaks TLS, and so has plaintext on its side and ciphertext on the client's.
    tls: Option<FarEnd>,
}

/// How much of what the peer has said a read gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cut {
    /// As much as there is room for.
    #[default]
    Whole,
    /// Half of what is there.
    Halves,
    /// So many octets at most, one after the other and then from the beginning again.
    Octets(Vec<usize>),
}

thread_local!(static CUT: RefCell<Cut> = const { RefCell::new(Cut::Whole) });

/// What is said in every scene that this thread makes from now on is cut like this, unless the scene says otherwise.
pub fn cut_everything(cut: Cut) {
    CUT.set(cut);
}

/// A frame that the client sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The protocol header.
    Header,
    /// A method.
    Method(u16, Method),
    /// A content header with the size of the body that it announces.
    Content(u16, u64),
    /// A body frame.
    Body(u16, Vec<u8>),
    /// A heartbeat.
    Heartbeat,
}

impl<S: 'static> Scene<S> {
    /// Connects; the peer has been told nothing yet.
    pub fn new<R: Outcome>(
        parameters: ConnectionParameters,
        on_open: impl FnOnce(&mut S, &ConnectionHandle<S>, Result<()>) -> R + Send + 'static,
    ) -> Self {
        let wire = Wire::default();
        wire.cut(CUT.with_borrow(Cut::clone));
        let mut parameters = parameters;
        if let Some(secrecy) = secrecy() {
            parameters = secrecy.secured(parameters).expect("the options of a test can be built");
            wire.0.borrow_mut().tls = FarEnd::new(secrecy.server).ok();
        }
        let hub = Hub::new(Memory(wire.clone()));
        let connection = hub.handle().connect(parameters).then(on_open);
        Self { hub, wire, connection, clock: Clock::new() }
    }

    /// Goes through the handshake with a peer that offers RabbitMQ's limits.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn open(&mut self, state: &mut S) -> Result<()> {
        self.open_with(connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }, state)
    }

    /// Goes through the handshake with these limits offered.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn open_with(&mut self, tune: connection::Tune, state: &mut S) -> Result<()> {
        self.run(state)?;
        self.wire.say(0, start());
        self.run(state)?;
        self.wire.say(0, tune);
        self.run(state)?;
        self.wire.say(0, connection::OpenOk::default());
        self.run(state)?;
        self.wire.heard();
        Ok(())
    }

    /// Answers a channel.open.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn open_channel(&mut self, number: u16, state: &mut S) -> Result<()> {
        self.wire.say(number, channel::OpenOk::default());
        self.run(state)
    }

    /// Lets the client do all it can without the time going on. True: its loop is over.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn turn(&mut self, state: &mut S) -> Result<bool> {
        loop {
            let token = self.wire.0.borrow().token;
            if let Some(token) = token.filter(|_| self.wire.has_news()) {
                self.wire.0.borrow_mut().told = true;
                self.hub.ready(token, self.wire.is_readable());
            }
            match self.hub.turn(&|| self.clock.now(), state)? {
                Turn::Over => return Ok(true),
                Turn::Sleep(_) if !self.wire.has_news() => return Ok(false),
                Turn::Again | Turn::Sleep(_) => {}
            }
        }
    }

    /// The same, where it does not matter whether the loop is over.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn run(&mut self, state: &mut S) -> Result<()> {
        self.turn(state).map(drop)
    }

    /// Moves the clock and runs; what is due earlier is found late, as after a long callback.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn advance(&mut self, by: Duration, state: &mut S) -> Result<()> {
        self.clock.advance(by);
        self.run(state)
    }

    /// Moves the clock and gives the client one turn, which may leave something unread.
    ///
    /// # Errors
    /// What a callback returned.
    pub fn step(&mut self, by: Duration, state: &mut S) -> Result<()> {
        self.clock.advance(by);
        let token = self.wire.0.borrow().token;
        if let Some(token) = token {
            self.hub.ready(token, self.wire.is_readable());
        }
        self.hub.turn(&|| self.clock.now(), state).map(drop)
    }

    /// When the loop would wake by itself, counted from now.
    pub fn sleeps_for(&mut self, state: &mut S) -> Option<Duration> {
        match self.hub.turn(&|| self.clock.now(), state) {
            Ok(Turn::Sleep(Some(until))) => Some(until.saturating_duration_since(self.clock.now())),
            _ => None,
        }
    }

    /// The socket can be written again.
    pub fn writable(&mut self) {
        let token = self.wire.0.borrow().token;
        if let Some(token) = token {
            self.hub.ready(token, false);
        }
    }

    /// The clock, for callbacks that take long.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The loop.
    pub fn ioloop(&self) -> LoopHandle<S> {
        self.hub.handle()
    }

    /// Whether the loop would go to sleep now, to be woken by this.
    pub fn may_sleep(&mut self, waker: Waker) -> bool {
        self.hub.may_sleep(waker)
    }
}

impl Wire {
    /// The peer sends a method.
    pub fn say(&self, channel: u16, method: impl Into<Method>) {
        self.encoded(&frame::Frame::Method(channel, method.into()));
    }

    /// The peer sends the header and the body of a message, in frames of this size.
    pub fn content(&self, channel: u16, properties: &BasicProperties, body: &[u8], chunk: usize) {
        let header = frame::Header { class_id: 60, body_size: body.len() as u64, properties: properties.clone() };
        self.encoded(&frame::Frame::Header(channel, header));
        body.chunks(chunk).for_each(|chunk| self.encoded(&frame::Frame::Body(channel, chunk)));
    }

    fn encoded(&self, frame: &frame::Frame<'_>) {
        let mut octets = vec![];
        let encoded = frame.encode(&mut octets);
        assert!(encoded.is_ok(), "a script can be encoded");
        self.octets(&octets);
    }

    /// The peer sends a frame of any kind and payload, which need not be right.
    pub fn frame(&self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend_from_slice(&channel.to_be_bytes());
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(payload);
        frame.push(FRAME_END);
        self.octets(&frame);
    }

    /// The peer sends octets.
    pub fn octets(&self, octets: &[u8]) {
        let Stream { tls, to_client, .. } = &mut *self.0.borrow_mut();
        match tls {
            Some(tls) => tls.say(octets, to_client),
            None => to_client.extend(octets),
        }
    }

    /// The peer sends octets past its TLS.
    pub fn raw_octets(&self, octets: &[u8]) {
        self.0.borrow_mut().to_client.extend(octets);
    }

    /// The peer hangs up behind what it has said, with the goodbye of TLS if it speaks that.
    pub fn hang_up(&self) {
        let Stream { tls, to_client, ended, .. } = &mut *self.0.borrow_mut();
        if let Some(tls) = tls {
            tls.close(to_client);
        }
        *ended = true;
    }

    /// The peer says the goodbye of TLS, and stays.
    pub fn say_goodbye(&self) {
        let Stream { tls, to_client, .. } = &mut *self.0.borrow_mut();
        if let Some(tls) = tls {
            tls.close(to_client);
        }
    }

    /// The stream ends behind what the peer has said, without a goodbye.
    pub fn cut_off(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// What the peer's TLS has to say of the client: "goodbye" behind its close_notify, else the alert that it sent.
    pub fn complaint(&self) -> Option<String> {
        self.0.borrow_mut().tls.as_mut()?.complaint()
    }

    /// From now on reads give no more than this.
    pub fn cut(&self, cut: Cut) {
        self.0.borrow_mut().cut = cut;
    }

    /// From now on writes take so many octets more, all together; `None` is no limit.
    pub fn room(&self, octets: Option<usize>) {
        self.0.borrow_mut().room = octets;
    }

    /// Whom the client has tried to connect to since the last call: `host:port`.
    pub fn tried(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().tried)
    }

    /// From now on nobody listens on this port; on all others it is always this peer who does.
    pub fn close_port(&self, port: u16) {
        self.0.borrow_mut().closed_ports.push(port);
    }

    /// From now on the peer forgets what it hears.
    pub fn discard(&self) {
        self.0.borrow_mut().discards = true;
    }

    /// Whether the client waits until it can write again.
    pub fn asks_for_room(&self) -> bool {
        self.0.borrow().asks_for_room
    }

    /// Octets that the client has not read yet.
    pub fn unread(&self) -> usize {
        self.0.borrow().to_client.len()
    }

    /// Octets that the client has sent since the last call.
    pub fn heard_octets(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().from_client)
    }

    /// Frames that the client has sent since the last call.
    pub fn heard(&self) -> Vec<Frame> {
        Frame::all(&self.heard_octets())
    }

    /// Methods that the client has sent since the last call.
    pub fn heard_methods(&self) -> Vec<(u16, Method)> {
        let methods = |frame| match frame {
            Frame::Method(channel, method) => Some((channel, method)),
            _ => None,
        };
        self.heard().into_iter().filter_map(methods).collect()
    }

    fn has_news(&self) -> bool {
        let stream = self.0.borrow();
        let connected = stream.token.is_some() && !stream.told;
        drop(stream);
        connected || self.is_readable()
    }

    fn is_readable(&self) -> bool {
        let stream = self.0.borrow();
        stream.token.is_some() && stream.watched && (!stream.to_client.is_empty() || stream.ended)
    }
}

impl Frame {
    /// The frames that these octets are, and nothing else.
    pub fn all(octets: &[u8]) -> Vec<Self> {
        let mut rest = octets;
        let mut frames = vec![];
        while let Ok(Some((frame, taken))) = frame::Frame::decode(rest) {
            frames.push(Self::of_client(frame));
            rest = rest.get(taken..).unwrap_or_default();
        }
        assert!(rest.is_empty(), "half a frame: {rest:?}");
        frames
    }

    fn of_client(frame: frame::Frame<'_>) -> Self {
        match frame {
            frame::Frame::ProtocolHeader([0, 0, 9, 1]) => Self::Header,
            frame::Frame::Method(channel, method) => Self::Method(channel, method),
            frame::Frame::Header(channel, header) => Self::Content(channel, header.body_size),
            frame::Frame::Body(channel, octets) => Self::Body(channel, octets.to_vec()),
            frame::Frame::Heartbeat => Self::Heartbeat,
            other => panic!("a client of AMQP 0-9-1 does not send {other:?}"),
        }
    }
}

/// connection.start as RabbitMQ sends it.
pub fn start() -> connection::Start {
    let capabilities: Table = ["publisher_confirms", "basic.nack"].into_iter().map(|name| (name, true)).collect();
    connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: Table::new().with("capabilities", capabilities),
        mechanisms: "AMQPLAIN PLAIN".into(),
        locales: "en_US".into(),
    }
}

/// Sockets that are wires.
struct Memory(Wire);

impl Network for Memory {
    type Socket = Wire;

    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>) {
        self.0.0.borrow_mut().tried.push(format!("{host}:{port}"));
        then(Ok(vec![([127, 0, 0, 1], port).into()]));
    }

    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Wire> {
        let mut stream = self.0.0.borrow_mut();
        if stream.closed_ports.contains(&address.port()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        (stream.token, stream.watched) = (Some(token), true);
        stream.told = false;
        drop(stream);
        Ok(self.0.clone())
    }

    fn connected(&mut self, _: &Wire) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&mut self, socket: &Wire, _: Token, interest: Interest) -> io::Result<()> {
        let mut stream = socket.0.borrow_mut();
        (stream.watched, stream.asks_for_room) = (interest.readable, interest.writable);
        Ok(())
    }

    fn forget(&mut self, socket: Wire, _: Token) {
        let mut stream = socket.0.borrow_mut();
        (stream.token, stream.ended) = (None, false);
    }
}

impl io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.0.borrow_mut();
        if stream.to_client.is_empty() {
            return if stream.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        stream.reads += 1;
        let limit = match &stream.cut {
            Cut::Whole => buffer.len(),
            Cut::Halves => stream.to_client.len().div_ceil(2),
            Cut::Octets(sizes) => sizes.get(stream.reads % sizes.len().max(1)).map_or(1, |n| *n.max(&1)),
        };
        let limit = limit.min(buffer.len()).min(stream.to_client.len());
        stream.to_client.read_exact(buffer.get_mut(..limit).unwrap_or_default())?;
        Ok(limit)
    }
}

impl io::Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut stream = self.0.borrow_mut();
        let stream = &mut *stream;
        let n = stream.room.map_or(octets.len(), |room| room.min(octets.len()));
        if n == 0 && !octets.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stream.room = stream.room.map(|room| room - n);
        let octets = octets.get(..n).unwrap_or_default();
        match &mut stream.tls {
            Some(tls) => tls.hear(octets, &mut stream.from_client, &mut stream.to_client),
            None => stream.from_client.extend_from_slice(octets),
        }
        if stream.discards {
            stream.from_client.clear();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: 'static> fmt::Debug for Scene<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").field("connection", &self.connection).finish_non_exhaustive()
    }
}
