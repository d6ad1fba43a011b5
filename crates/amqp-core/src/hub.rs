//! What a loop owns: connections, timers and posts; and one turn of it, the same for every adapter.

use crate::{
    bell::Bell,
    connection::{LoopHandle, OnOpen},
    dial::Dial,
    driver::Driver,
    endpoints::{Endpoint, Next, Tries},
    error::{Attempt, IoError, Result},
    journal,
    pump::{Filled, fill, flush},
    reply::{Job, Raised, lend},
    shared::Shared,
    stream::Stream,
    tcp_options::TcpOptions,
};
use slab::Slab;
use std::{
    collections::{BTreeSet, VecDeque},
    fmt, io,
    net::SocketAddr,
    panic::resume_unwind,
    sync::Arc,
    task::Waker,
    time::Instant,
};

/// What an adapter gives its hub: sockets, and a way to wait for them.
pub trait Network {
    /// A stream that never blocks.
    type Socket: io::Read + io::Write;

    /// Readiness is told once, when it begins, so that everything has to be read.
    const EDGE_TRIGGERED: bool = false;

    /// Finds the addresses of a host, on another thread if that can take time.
    fn resolve(&mut self, host: &str, port: u16, then: Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>);

    /// Begins to connect. The socket is watched under `token` from now on, for being writable.
    ///
    /// # Errors
    /// The operating system's.
    fn connect(&mut self, address: SocketAddr, token: Token) -> io::Result<Self::Socket>;

    /// Asks the operating system for these options of a socket that has begun to connect.
    ///
    /// # Errors
    /// The operating system's.
    fn tune(&mut self, socket: &Self::Socket, options: &TcpOptions) -> io::Result<()> {
        let _ = (socket, options);
        Ok(())
    }

    /// Whether a socket that became ready is connected; false if it is still to come.
    ///
    /// # Errors
    /// It could not be connected.
    fn connected(&mut self, socket: &Self::Socket) -> io::Result<bool>;

    /// From now on the socket is watched for this.
    ///
    /// # Errors
    /// The operating system's.
    fn watch(&mut self, socket: &Self::Socket, token: Token, interest: Interest) -> io::Result<()>;

    /// The socket is not needed any more.
    fn forget(&mut self, socket: Self::Socket, token: Token);
}

/// Names a socket between a hub and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub usize);

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// For something to read.
    pub readable: bool,
    /// For room to write.
    pub writable: bool,
}

impl Interest {
    /// To be told when a connection has been made.
    pub const CONNECT: Self = Self { readable: false, writable: true };
}

/// What a loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do: look at the sockets without waiting for them.
    Again,
    /// Wait for the sockets, until then if a time is given.
    Sleep(Option<Instant>),
    /// The loop was stopped, or its last connection is over.
    Over,
}

/// A loop without its waiting: an adapter takes [turns](Self::turn), waits as it is told, and reports
/// [what is ready](Self::ready).
pub struct Hub<S: 'static, N: Network> {
    bell: Arc<Bell<S>>,
    network: N,
    slots: Vec<Option<Slot<S, N::Socket>>>,
    /// Whose socket a token names.
    tokens: Slab<usize>,
    /// Connections that have something to do, each once.
    work: VecDeque<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    // Batches are fields, so that what stands behind a callback that panics is not lost.
    posts: VecDeque<Job<S>>,
    ready: VecDeque<usize>,
    connects: VecDeque<(Arc<Shared<S>>, OnOpen<S>)>,
    resolved: VecDeque<(usize, u64, io::Result<Vec<SocketAddr>>)>,
    alive: usize,
    served: bool,
}

/// A connection with its socket.
struct Slot<S: 'static, T> {
    driver: Driver<S>,
    stage: Stage<T>,
    queued: bool,
    readable: bool,
    tries: Tries,
    /// The endpoint that is tried, or connected to.
    endpoint: Endpoint,
    /// Counts what was tried: a name that is found late is not for the endpoint after it.
    trial: u64,
    /// Where it stands in the hub's deadlines.
    deadline: Option<Instant>,
    /// Turns in a row in which something was due, and put off because there was more to read.
    put_off: u32,
}

enum Stage<T> {
    Resolving,
    Dialling {
        dial: Dial,
        sockets: Vec<Trying<T>>,
    },
    /// Between two rounds.
    Waiting {
        until: Option<Instant>,
    },
    Up {
        stream: Stream<T>,
        token: Token,
        watched: Interest,
    },
    Down,
}

struct Trying<T> {
    socket: T,
    token: Token,
    address: SocketAddr,
    deadline: Option<Instant>,
}

/// Reads of one connection in a turn, so that a fast broker does not starve timers and other connections.
const READS: usize = 8;

/// Turns for which what is due is put off while there is more to read: together they read more than the sockets of both
/// ends hold, so that an answer that has come in time is found.
const PATIENCE: u32 = 16;

impl<S: 'static, N: Network> Hub<S, N> {
    /// A loop without connections.
    pub fn new(network: N) -> Self {
        Self {
            bell: Bell::new(),
            network,
            slots: vec![],
            tokens: Slab::new(),
            work: VecDeque::new(),
            deadlines: BTreeSet::new(),
            posts: VecDeque::new(),
            ready: VecDeque::new(),
            connects: VecDeque::new(),
            resolved: VecDeque::new(),
            alive: 0,
            served: false,
        }
    }

    /// What everybody may have of this loop.
    pub fn handle(&self) -> LoopHandle<S> {
        LoopHandle(self.bell.clone())
    }

    /// The adapter's side of the sockets.
    pub fn network(&mut self) -> &mut N {
        &mut self.network
    }

    /// This socket can be read, or written, or has been connected. False if there is no such socket any more.
    pub fn ready(&mut self, Token(token): Token, readable: bool) -> bool {
        let Some(&id) = self.tokens.get(token) else { return false };
        if let Some(Some(slot)) = self.slots.get_mut(id) {
            slot.readable |= readable;
            Self::schedule(&mut self.work, slot, id);
        }
        true
    }

    /// The last look before sleeping: false if something came meanwhile. The waker ends the sleep.
    pub fn may_sleep(&mut self, waker: Waker) -> bool {
        self.work.is_empty() && self.bell.may_sleep(waker)
    }

    /// The sleep is over.
    pub fn awake(&self) {
        self.bell.awake();
    }

    /// Posts, due timers, what was read and asked for, and then everything that is to be written.
    ///
    /// # Errors
    /// A callback returned one, or nobody is told of an end. The next turn goes on behind it.
    ///
    /// # Panics
    /// Goes on with a callback's panic, when its connection is in order again.
    pub fn turn(&mut self, now: Instant, state: &mut S) -> Result<Turn> {
        let result = self.jobs(now, state).and_then(|()| self.connections(now, state));
        match result {
            Ok(()) => {}
            Err(Raised::Error(error)) => {
                journal::callback_failed(&error);
                return Err(error);
            }
            Err(Raised::Panic(payload)) => {
                journal::callback_panicked();
                resume_unwind(payload);
            }
        }
        // Callbacks have rung for what has been written already: that needs no turn of its own.
        let mut news = self.bell.lock();
        take_all(&mut self.ready, &mut news.ready);
        let stopped = std::mem::take(&mut news.stop);
        let timer = news.timers.poll_timeout();
        let more = news.is_any();
        let idle = news.posts.is_empty() && news.connects.is_empty();
        drop(news);
        self.settle_ready(now);
        if stopped || self.served && self.alive == 0 && idle {
            return Ok(Turn::Over);
        }
        if more || !self.work.is_empty() {
            return Ok(Turn::Again);
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        Ok(Turn::Sleep([timer, deadline].into_iter().flatten().min()))
    }

    /// What others have asked of the loop.
    fn jobs(&mut self, now: Instant, state: &mut S) -> Result<(), Raised> {
        let mut news = self.bell.lock();
        take_all(&mut self.ready, &mut news.ready);
        take_all(&mut self.posts, &mut news.posts);
        take_all(&mut self.connects, &mut news.connects);
        take_all(&mut self.resolved, &mut news.resolved);
        news.timers.arm(now);
        drop(news);
        while let Some((shared, on_open)) = self.connects.pop_front() {
            self.adopt(shared, on_open, now);
        }
        while let Some((id, trial, addresses)) = self.resolved.pop_front() {
            self.resolved(id, trial, addresses, now);
        }
        while let Some(id) = self.ready.pop_front() {
            if let Some(Some(slot)) = self.slots.get_mut(id) {
                Self::schedule(&mut self.work, slot, id);
            }
        }
        while let Some(job) = self.posts.pop_front() {
            lend(|| job(state))?;
        }
        loop {
            let job = self.bell.lock().timers.pop_due(now);
            let Some(job) = job else { return Ok(()) };
            lend(|| job(state))?;
        }
    }

    fn connections(&mut self, now: Instant, state: &mut S) -> Result<(), Raised> {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(Some(slot)) = self.slots.get_mut(id) {
                slot.deadline = None;
                slot.readable = true; // silence is judged only when a read has found nothing
                Self::schedule(&mut self.work, slot, id);
            }
        }
        for _ in 0..self.work.len() {
            let Some(id) = self.work.pop_front() else { break };
            let Some(Some(slot)) = self.slots.get_mut(id) else { continue };
            slot.queued = false;
            let served = slot.serve(&mut self.network, &mut self.tokens, id, now, state, &self.bell);
            match served {
                Ok(false) => {}
                Ok(true) => Self::schedule(&mut self.work, slot, id),
                Err(raised) => {
                    Self::schedule(&mut self.work, slot, id);
                    return Err(raised);
                }
            }
            self.after(id, now);
        }
        Ok(())
    }

    /// Those that rang while they were served have been served.
    fn settle_ready(&mut self, now: Instant) {
        while let Some(id) = self.ready.pop_front() {
            let Some(Some(slot)) = self.slots.get_mut(id) else { continue };
            let done = !slot.driver.has_news() && slot.flush(&mut self.network, now);
            // Reading that a full stream had paused goes on for an answer; nobody says again that there is something.
            if !done || slot.readable && slot.driver.reads() {
                Self::schedule(&mut self.work, slot, id);
            } else {
                self.after(id, now);
            }
        }
    }

    /// Deadline and end of a connection that has been served.
    fn after(&mut self, id: usize, now: Instant) {
        let Some(Some(slot)) = self.slots.get_mut(id) else { return };
        if slot.is_over() && slot.goes_on(&mut self.network, &mut self.tokens, &self.bell, now) {
            Self::schedule(&mut self.work, slot, id);
        }
        if slot.is_over() {
            if let Some(at) = slot.deadline {
                self.deadlines.remove(&(at, id));
            }
            slot.hang_up(&mut self.network, &mut self.tokens);
            self.slots.get_mut(id).and_then(Option::take);
            self.alive -= 1;
            self.bell.release(id);
            return;
        }
        slot.rest(now);
        let deadline = slot.poll_timeout();
        if deadline != slot.deadline {
            if let Some(at) = slot.deadline {
                self.deadlines.remove(&(at, id));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, id));
            }
            slot.deadline = deadline;
        }
    }

    fn schedule(work: &mut VecDeque<usize>, slot: &mut Slot<S, N::Socket>, id: usize) {
        if !std::mem::replace(&mut slot.queued, true) {
            work.push_back(id);
        }
    }

    fn adopt(&mut self, shared: Arc<Shared<S>>, on_open: OnOpen<S>, now: Instant) {
        let id = shared.number;
        let mut tries = Tries::new(&shared.parameters);
        let endpoint = tries.round(&shared.parameters).unwrap_or_else(|| Endpoint::new("localhost", 5672));
        let mut slot = Slot {
            driver: Driver::new(shared, on_open),
            stage: Stage::Resolving,
            queued: false,
            readable: false,
            tries,
            endpoint: endpoint.clone(),
            trial: 0,
            deadline: None,
            put_off: 0,
        };
        slot.try_endpoint(endpoint, &mut self.network, &self.bell, now);
        Self::schedule(&mut self.work, &mut slot, id);
        if self.slots.len() <= id {
            self.slots.resize_with(id + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(id) {
            *place = Some(slot);
        }
        self.alive += 1;
        self.served = true;
    }

    fn resolved(&mut self, id: usize, trial: u64, addresses: io::Result<Vec<SocketAddr>>, now: Instant) {
        let Some(Some(slot)) = self.slots.get_mut(id) else { return };
        if !matches!(slot.stage, Stage::Resolving) || slot.trial != trial {
            return;
        }
        slot.stage = match addresses {
            Ok(addresses) => {
                journal::resolved(&slot.driver.endpoint, addresses.len());
                Stage::Dialling { dial: Dial::new(addresses, now), sockets: vec![] }
            }
            Err(error) => {
                let endpoint = slot.driver.endpoint();
                journal::attempt_failed(&endpoint, &endpoint, &error);
                let (address, cause) = (endpoint.clone(), IoError::from(error));
                slot.tries.network_failed([Attempt { endpoint, address, cause, error: None }]);
                Stage::Dialling { dial: Dial::default(), sockets: vec![] }
            }
        };
        Self::schedule(&mut self.work, slot, id);
    }
}

/// Mostly there is nothing, which costs less to see than to append.
#[inline]
fn take_all<T>(to: &mut VecDeque<T>, from: &mut VecDeque<T>) {
    if !from.is_empty() {
        to.append(from);
    }
}

impl<S: 'static, T: io::Read + io::Write> Slot<S, T> {
    /// Does all that can be done now. True: there is more, which needs no waiting.
    fn serve<N: Network<Socket = T>>(
        &mut self,
        network: &mut N,
        tokens: &mut Slab<usize>,
        id: usize,
        now: Instant,
        state: &mut S,
        bell: &Arc<Bell<S>>,
    ) -> Result<bool, Raised> {
        self.dial(network, tokens, id, now, bell);
        let (mut more, mut fruitless) = (false, false);
        if let Stage::Up { stream, .. } = &mut self.stage {
            self.driver.process(now, state)?;
            for read in 1..=READS {
                // What was readable stays so while a full stream pauses the reading.
                if !self.driver.reads() || !std::mem::take(&mut self.readable) {
                    break;
                }
                let filled = fill(&mut self.driver, stream, N::EDGE_TRIGGERED, now);
                if let Err(raised) = self.driver.process(now, state) {
                    self.readable = true;
                    return Err(raised);
                }
                match filled {
                    Filled::Empty => break,
                    Filled::Fruitless => {
                        (fruitless, self.readable) = (true, true);
                        break;
                    }
                    Filled::More => {
                        more = read == READS;
                        self.readable = true;
                    }
                    Filled::End(error) => {
                        if self.driver.has_last_words() {
                            // The peer may have ended only its own half.
                            let _ = flush(&mut self.driver, stream, now);
                        }
                        self.driver.end_of_stream(error);
                        break;
                    }
                }
            }
            if !stream.is_handshaking() {
                self.driver.secured();
            }
        }
        let is_due = |driver: &Driver<S>| driver.poll_timeout().is_some_and(|at| at <= now);
        if more && is_due(&self.driver) {
            self.driver.upkeep(now);
        }
        let due = is_due(&self.driver);
        // What is waited for may be among what is still to be read.
        if due && more && self.put_off < PATIENCE {
            self.put_off += 1;
        } else {
            self.put_off = 0;
            if due {
                self.driver.handle_timeout(now);
            }
        }
        self.driver.process(now, state)?;
        more |= !self.flush(network, now);
        Ok(more || fruitless)
    }

    /// Writes all that the socket takes. False: the driver has something to do because of it.
    fn flush<N: Network<Socket = T>>(&mut self, network: &mut N, now: Instant) -> bool {
        let Stage::Up { stream, token, watched } = &mut self.stage else { return !self.driver.has_news() };
        if let Err(error) = flush(&mut self.driver, stream, now) {
            self.driver.write_failed(error, now);
            self.readable = true;
            return false;
        }
        // Plaintext waits for a handshake without waiting for the socket.
        let writes = stream.unwritten().map_or_else(|| self.driver.is_writing(), |unwritten| unwritten > 0);
        let wanted = Interest { readable: self.driver.reads(), writable: writes && !self.driver.is_broken() };
        if wanted != *watched {
            match network.watch(stream.socket(), *token, wanted) {
                Ok(()) => *watched = wanted,
                Err(error) => self.driver.write_failed(error, now),
            }
        }
        !self.driver.has_news()
    }

    /// Begins with an endpoint, which has its time from now on.
    fn try_endpoint<N: Network<Socket = T>>(
        &mut self,
        endpoint: Endpoint,
        network: &mut N,
        bell: &Arc<Bell<S>>,
        now: Instant,
    ) {
        self.trial += 1;
        let (bell, id, trial) = (bell.clone(), self.driver.shared.number, self.trial);
        let then = move |addresses| bell.ring(|news| news.resolved.push_back((id, trial, addresses)));
        self.driver.begin(endpoint.to_string().into(), now);
        journal::connecting(&self.driver.endpoint);
        self.stage = Stage::Resolving;
        network.resolve(&endpoint.host, endpoint.port, Box::new(then));
        self.endpoint = endpoint;
    }

    /// An endpoint has failed: what comes next is begun. False: it is over.
    fn goes_on<N: Network<Socket = T>>(
        &mut self,
        network: &mut N,
        tokens: &mut Slab<usize>,
        bell: &Arc<Bell<S>>,
        now: Instant,
    ) -> bool {
        let Some(error) = self.driver.failed() else { return false };
        self.collect_failures();
        self.hang_up(network, tokens);
        self.tries.connection_failed(&self.driver.endpoint(), error);
        self.try_next(network, bell, now);
        true
    }

    /// What the addresses of this endpoint have come to.
    fn collect_failures(&mut self) {
        let Stage::Dialling { dial, .. } = &mut self.stage else { return };
        let endpoint = self.driver.endpoint();
        self.tries.network_failed(dial.failures().into_iter().map(|(address, error)| Attempt {
            endpoint: endpoint.clone(),
            address: address.to_string().into(),
            cause: error.into(),
            error: None,
        }));
    }

    fn try_next<N: Network<Socket = T>>(&mut self, network: &mut N, bell: &Arc<Bell<S>>, now: Instant) {
        let parameters = &self.driver.shared.parameters;
        match self.tries.next(parameters) {
            Next::Try(endpoint) => self.try_endpoint(endpoint, network, bell, now),
            Next::Pause => {
                journal::all_failed(&self.driver.endpoint, self.tries.rounds(), parameters.retry_delay());
                self.stage = Stage::Waiting { until: now.checked_add(parameters.retry_delay()) };
                self.driver.pause();
            }
            Next::GiveUp(error) => {
                self.stage = Stage::Down;
                self.driver.cannot_connect(error);
            }
        }
    }

    /// Goes on with connecting.
    fn dial<N: Network<Socket = T>>(
        &mut self,
        network: &mut N,
        tokens: &mut Slab<usize>,
        id: usize,
        now: Instant,
        bell: &Arc<Bell<S>>,
    ) {
        if let Stage::Waiting { until } = &self.stage {
            if until.is_some_and(|until| until <= now) {
                match self.tries.round(&self.driver.shared.parameters) {
                    Some(endpoint) => self.try_endpoint(endpoint, network, bell, now),
                    None => self.try_next(network, bell, now),
                }
            }
        }
        let Stage::Dialling { dial, sockets } = &mut self.stage else { return };
        let limit = self.driver.shared.parameters.socket_timeout();
        let mut connected = None;
        let mut trying = std::mem::take(sockets).into_iter();
        for attempt in trying.by_ref() {
            let failed = match network.connected(&attempt.socket) {
                Ok(true) => {
                    connected = Some(attempt);
                    break;
                }
                Ok(false) if attempt.deadline.is_none_or(|deadline| deadline > now) => {
                    sockets.push(attempt);
                    continue;
                }
                Ok(false) => {
                    io::Error::new(io::ErrorKind::TimedOut, format!("timed out after {} s", limit.as_secs_f32()))
                }
                Err(error) => error,
            };
            tokens.try_remove(attempt.token.0);
            network.forget(attempt.socket, attempt.token);
            journal::attempt_failed(&self.driver.endpoint, attempt.address, &failed);
            dial.failed(attempt.address, failed, now);
        }
        if let Some(Trying { socket, token, address, .. }) = connected {
            journal::connected(&self.driver.endpoint, address);
            for other in std::mem::take(sockets).into_iter().chain(trying) {
                tokens.try_remove(other.token.0);
                network.forget(other.socket, other.token);
            }
            let parameters = &self.driver.shared.parameters;
            let stream = match parameters.secure().map(|tls| tls.session(self.endpoint.host())) {
                None => Stream::Plain(socket),
                Some(Ok(session)) => Stream::Tls(socket, Box::new(session)),
                Some(Err(problem)) => {
                    tokens.try_remove(token.0);
                    network.forget(socket, token);
                    self.stage = Stage::Down;
                    return self.driver.tls_failed(problem);
                }
            };
            self.driver.connected();
            self.readable = true;
            self.stage = Stage::Up { stream, token, watched: Interest::CONNECT };
            return;
        }
        while let Some(address) = dial.next(now) {
            let token = Token(tokens.insert(id));
            journal::attempt(&self.driver.endpoint, address);
            let error = match network.connect(address, token) {
                Ok(socket) => match network.tune(&socket, self.driver.shared.parameters.tcp_options()) {
                    Ok(()) => {
                        sockets.push(Trying { socket, token, address, deadline: now.checked_add(limit) });
                        continue;
                    }
                    Err(error) => {
                        network.forget(socket, token);
                        error
                    }
                },
                Err(error) => error,
            };
            tokens.try_remove(token.0);
            journal::attempt_failed(&self.driver.endpoint, address, &error);
            dial.failed(address, error, now);
        }
        if dial.is_exhausted() {
            self.collect_failures();
            self.try_next(network, bell, now);
        }
    }

    fn hang_up<N: Network<Socket = T>>(&mut self, network: &mut N, tokens: &mut Slab<usize>) {
        match std::mem::replace(&mut self.stage, Stage::Down) {
            Stage::Up { stream, token, .. } => {
                tokens.try_remove(token.0);
                network.forget(stream.close(), token);
            }
            Stage::Dialling { sockets, .. } => {
                for attempt in sockets {
                    tokens.try_remove(attempt.token.0);
                    network.forget(attempt.socket, attempt.token);
                }
            }
            Stage::Resolving | Stage::Waiting { .. } | Stage::Down => {}
        }
    }

    /// Whether it is over, and everything is said that is to be said.
    fn is_over(&self) -> bool {
        let unwritten = matches!(&self.stage, Stage::Up { stream, .. } if stream.unwritten() > Some(0));
        self.driver.is_over(unwritten)
    }

    /// Nothing is to be done now: large buffers are given back if it stays like that.
    fn rest(&mut self, now: Instant) {
        let stream = if let Stage::Up { stream, .. } = &mut self.stage { Some(stream) } else { None };
        let tidied = self.driver.tidied();
        let grown = stream.is_some_and(|stream| {
            if tidied {
                stream.shrink();
            }
            stream.is_grown()
        });
        self.driver.rest(grown, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.stage {
            Stage::Waiting { until } => *until,
            Stage::Dialling { dial, sockets } => {
                let sockets = sockets.iter().filter_map(|attempt| attempt.deadline).min();
                [dial.poll_timeout(), sockets].into_iter().flatten().min()
            }
            Stage::Resolving | Stage::Up { .. } | Stage::Down => None,
        };
        [own, self.driver.poll_timeout()].into_iter().flatten().min()
    }
}

impl<S: 'static, N: Network> Drop for Hub<S, N> {
    fn drop(&mut self) {
        self.bell.gone();
    }
}

impl<S: 'static, N: Network> fmt::Debug for Hub<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("alive", &self.alive).finish_non_exhaustive()
    }
}
