//! One connection of a loop, with its socket: from its name to its end.

use crate::{
    config::endpoint::Endpoint,
    driver::Driver,
    error::{
        Result,
        attempt::{Attempt, IoError},
    },
    hub::{
        Interest, Network, Token,
        dial::Dial,
        endpoint_plan::{EndpointPlan, NextEndpoint},
        pump::{Filled, fill, flush},
        stream::Stream,
    },
    session::{Shared, bell::Bell, op::OnOpen, reply::Raised},
    trace::events,
};
use slab::Slab;
use std::{io, net::SocketAddr, sync::Arc, time::Instant};

/// A connection with its socket.
pub(super) struct Link<S: 'static, T> {
    pub(super) driver: Driver<S>,
    stage: Stage<T>,
    pub(super) queued: bool,
    pub(super) readable: bool,
    plan: EndpointPlan,
    /// The endpoint that is tried, or connected to.
    endpoint: Endpoint,
    /// Counts what was tried: a name that is found late is not for the endpoint after it.
    trial: u64,
    /// Where it stands in the hub's deadlines.
    pub(super) deadline: Option<Instant>,
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

impl<S: 'static, T: io::Read + io::Write> Link<S, T> {
    pub(super) fn new(shared: Arc<Shared<S>>, on_open: OnOpen<S>) -> Self {
        let mut plan = EndpointPlan::new(&shared.parameters);
        let endpoint = plan.round(&shared.parameters).unwrap_or_else(|| Endpoint::new("localhost", 5672));
        Self {
            plan,
            driver: Driver::new(shared, on_open),
            stage: Stage::Resolving,
            queued: false,
            readable: false,
            endpoint,
            trial: 0,
            deadline: None,
            put_off: 0,
        }
    }

    /// Begins with the first endpoint.
    pub(super) fn begin<N: Network<Socket = T>>(&mut self, network: &mut N, bell: &Arc<Bell<S>>, now: Instant) {
        self.try_endpoint(self.endpoint.clone(), network, bell, now);
    }

    /// A name has been looked up; false if nobody waits for that any more.
    pub(super) fn resolved(&mut self, trial: u64, addresses: io::Result<Vec<SocketAddr>>, now: Instant) -> bool {
        if !matches!(self.stage, Stage::Resolving) || self.trial != trial {
            return false;
        }
        let dial = match addresses {
            Ok(addresses) => {
                events::resolved(&self.driver.endpoint(), addresses.len());
                Dial::new(addresses, now)
            }
            Err(error) => {
                let endpoint = self.driver.endpoint();
                events::attempt_failed(&endpoint, &endpoint, &error);
                let (address, cause) = (endpoint.clone(), IoError::from(error));
                self.plan.network_failed([Attempt { endpoint, address, cause, error: None }]);
                Dial::default()
            }
        };
        self.stage = Stage::Dialling { dial, sockets: vec![] };
        true
    }

    /// Does all that can be done now. True: there is more, which needs no waiting.
    pub(super) fn serve<N: Network<Socket = T>>(
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
        self.deadlines(more, now);
        self.driver.process(now, state)?;
        more |= !self.flush(network, now);
        Ok(more || fruitless)
    }

    /// Judges what is due, unless there is more to read: what is waited for may be among that.
    fn deadlines(&mut self, more: bool, now: Instant) {
        let is_due = |driver: &Driver<S>| driver.poll_timeout().is_some_and(|at| at <= now);
        if !is_due(&self.driver) {
            self.put_off = 0;
            return;
        }
        if more {
            self.driver.upkeep(now);
            if self.put_off < PATIENCE && is_due(&self.driver) {
                self.put_off += 1;
                return;
            }
        }
        self.put_off = 0;
        self.driver.handle_timeout(now);
    }

    /// Writes all that the socket takes. False: the driver has something to do because of it.
    pub(super) fn flush<N: Network<Socket = T>>(&mut self, network: &mut N, now: Instant) -> bool {
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
        events::connecting(&self.driver.endpoint());
        self.stage = Stage::Resolving;
        network.resolve(&endpoint.host, endpoint.port, Box::new(then));
        self.endpoint = endpoint;
    }

    /// An endpoint has failed: what comes next is begun. False: it is over.
    pub(super) fn goes_on<N: Network<Socket = T>>(
        &mut self,
        network: &mut N,
        tokens: &mut Slab<usize>,
        bell: &Arc<Bell<S>>,
        now: Instant,
    ) -> bool {
        let Some(error) = self.driver.failed() else { return false };
        self.collect_failures();
        self.hang_up(network, tokens);
        self.plan.connection_failed(&self.driver.endpoint(), error);
        self.try_next(network, bell, now);
        true
    }

    /// What the addresses of this endpoint have come to.
    fn collect_failures(&mut self) {
        let Stage::Dialling { dial, .. } = &mut self.stage else { return };
        let endpoint = self.driver.endpoint();
        self.plan.network_failed(dial.failures().into_iter().map(|(address, error)| Attempt {
            endpoint: endpoint.clone(),
            address: address.to_string().into(),
            cause: error.into(),
            error: None,
        }));
    }

    fn try_next<N: Network<Socket = T>>(&mut self, network: &mut N, bell: &Arc<Bell<S>>, now: Instant) {
        let parameters = &self.driver.shared.parameters;
        match self.plan.next(parameters) {
            NextEndpoint::Try(endpoint) => self.try_endpoint(endpoint, network, bell, now),
            NextEndpoint::Pause => {
                events::all_failed(&self.driver.endpoint(), self.plan.rounds(), parameters.retry_delay());
                self.stage = Stage::Waiting { until: now.checked_add(parameters.retry_delay()) };
                self.driver.idle();
            }
            NextEndpoint::GiveUp(error) => {
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
                match self.plan.round(&self.driver.shared.parameters) {
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
            events::attempt_failed(&self.driver.endpoint(), attempt.address, &failed);
            dial.failed(attempt.address, failed, now);
        }
        if let Some(Trying { socket, token, address, .. }) = connected {
            events::connected(&self.driver.endpoint(), address);
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
            events::attempt(&self.driver.endpoint(), address);
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
            events::attempt_failed(&self.driver.endpoint(), address, &error);
            dial.failed(address, error, now);
        }
        if dial.is_exhausted() {
            self.collect_failures();
            self.try_next(network, bell, now);
        }
    }

    pub(super) fn hang_up<N: Network<Socket = T>>(&mut self, network: &mut N, tokens: &mut Slab<usize>) {
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
    pub(super) fn is_over(&self) -> bool {
        let unwritten = matches!(&self.stage, Stage::Up { stream, .. } if stream.unwritten() > Some(0));
        self.driver.is_over(unwritten)
    }

    /// Nothing is to be done now: large buffers are given back if it stays like that.
    pub(super) fn rest(&mut self, now: Instant) {
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

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
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
