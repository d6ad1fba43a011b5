//! One connection of a loop, with its socket: from its name to its end.

use crate::{
    config::endpoint::Endpoint,
    driver::{Driver, Handled, Now},
    error::{
        Result,
        attempt::{Attempt, IoError},
    },
    hub::{
        Interest, Network, Token,
        endpoint_plan::{EndpointPlan, NextEndpoint},
        pump::{Filled, fill, flush},
        race::{Failures, Progress, Race},
        sockets::Sockets,
        stream::Stream,
    },
    session::{Shared, op::OnOpen, reply::Raised},
    trace::events,
};
use std::{
    io, mem,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// A connection with its socket.
pub(super) struct Link<S: 'static, T> {
    pub(super) driver: Driver<S>,
    stage: Stage<T>,
    pub(super) queued: bool,
    pub(super) readable: bool,
    plan: EndpointPlan,
    /// Counts what was tried: a name that is found late is not for the endpoint after it.
    trial: u64,
    /// Where it stands in the hub's deadlines.
    pub(super) deadline: Option<Instant>,
    /// Reads in a row during which something was due, and put off because there was more to read.
    put_off: usize,
}

/// What there is of a socket; what is said over it is the driver's.
enum Stage<T> {
    /// Nothing: before the first round, or between two.
    Waiting {
        until: Option<Instant>,
    },
    /// The addresses of this endpoint are asked for.
    Resolving(Endpoint),
    /// They are tried.
    Racing(Endpoint, Race<T>),
    Up {
        stream: Stream<T>,
        token: Token,
        watched: Interest,
        /// How the stream has ended, until everything that came before is handled.
        ended: Option<Option<io::Error>>,
    },
    Down,
}

/// Reads of one connection in a turn, so that a fast broker does not starve timers and other connections.
const READS: usize = 8;

/// Reads for which what is due is put off while there is more: together they read more than the sockets of both ends hold,
/// so that an answer that has come in time is found.
const PATIENCE: usize = 16 * READS;

impl<S: 'static, T: io::Read + io::Write> Link<S, T> {
    pub(super) fn new(shared: Arc<Shared<S>>, on_open: OnOpen<S>, now: Instant) -> Self {
        Self {
            plan: EndpointPlan::new(&shared.parameters),
            driver: Driver::new(shared, on_open, now),
            stage: Stage::Waiting { until: None },
            queued: false,
            readable: false,
            trial: 0,
            deadline: None,
            put_off: 0,
        }
    }

    /// Begins a round with its first endpoint.
    pub(super) fn begin<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) {
        match self.plan.round(&self.driver.shared.parameters) {
            Some(endpoint) => self.try_endpoint(endpoint, sockets, now),
            None => self.try_next(sockets, now),
        }
    }

    /// A name has been looked up; false if that is not waited for any more.
    pub(super) fn resolved(&mut self, trial: u64, addresses: io::Result<Vec<SocketAddr>>, now: Instant) -> bool {
        if self.trial != trial {
            return false;
        }
        let endpoint = match mem::replace(&mut self.stage, Stage::Down) {
            Stage::Resolving(endpoint) => endpoint,
            other => {
                self.stage = other;
                return false;
            }
        };
        let name = self.driver.endpoint();
        let addresses = match addresses {
            Ok(addresses) => {
                events::resolved(&name, addresses.len());
                addresses
            }
            Err(error) => {
                events::attempt_failed(&name, &name, &error);
                let cause = IoError::from(error);
                self.plan.network_failed([Attempt { endpoint: name.clone(), address: name, cause, error: None }]);
                vec![]
            }
        };
        self.stage = Stage::Racing(endpoint, Race::new(self.driver.shared.number, addresses, now));
        true
    }

    /// Does all that can be done now. True: there is more, which needs no waiting.
    pub(super) fn serve<N: Network<Socket = T>>(
        &mut self,
        sockets: &mut Sockets<N>,
        now: Instant,
        clock: Now<'_>,
        state: &mut S,
    ) -> Result<bool, Raised> {
        self.connect(sockets, now);
        let (mut reads, mut fruitless) = (0, false);
        let mut handled = self.receive(N::EDGE_TRIGGERED, (&mut reads, &mut fruitless), now, clock, state)?;
        let more = reads == READS && self.readable;
        if handled == Handled::All {
            self.deadlines(more, reads, now);
            handled = self.driver.process(now, clock, state)?;
        }
        let halfway = handled == Handled::Halfway;
        if halfway {
            self.deadlines(true, reads, self.driver.now());
        }
        let done = self.flush(sockets, self.driver.now());
        Ok(more || fruitless || halfway || !done)
    }

    /// Reads and handles what there is, a turn's share of it at most.
    fn receive(
        &mut self,
        edge: bool,
        (reads, fruitless): (&mut usize, &mut bool),
        now: Instant,
        clock: Now<'_>,
        state: &mut S,
    ) -> Result<Handled, Raised> {
        let Stage::Up { stream, ended, .. } = &mut self.stage else { return Ok(Handled::All) };
        loop {
            if self.driver.process(now, clock, state)? == Handled::Halfway {
                return Ok(Handled::Halfway);
            }
            if let Some(error) = ended.take() {
                if self.driver.has_last_words() {
                    // The peer may have ended only its own half.
                    let _ = flush(&mut self.driver, stream, now);
                }
                self.driver.end_of_stream(error);
                break;
            }
            // What was readable stays so while a full stream pauses the reading.
            if *fruitless || *reads == READS || !self.driver.reads() || !mem::take(&mut self.readable) {
                break;
            }
            *reads += 1;
            match fill(&mut self.driver, stream, edge, now) {
                Filled::Empty => {}
                Filled::More => self.readable = true,
                Filled::Fruitless => (*fruitless, self.readable) = (true, true),
                Filled::End(error) => *ended = Some(error),
            }
        }
        if !stream.is_handshaking() {
            self.driver.secured();
        }
        Ok(Handled::All)
    }

    /// Something is due: silence is judged only when a read has found nothing.
    pub(super) fn doubt<N: Network<Socket = T>>(&mut self, network: &mut N) {
        self.readable = true;
        if let Stage::Up { stream, .. } = &mut self.stage {
            network.doubt(stream.socket_mut());
        }
    }

    /// Judges what is due, unless there is more to read or to handle: what is waited for may be among that.
    fn deadlines(&mut self, more: bool, reads: usize, now: Instant) {
        let is_due = |driver: &Driver<S>| driver.poll_timeout().is_some_and(|at| at <= now);
        if !is_due(&self.driver) {
            self.put_off = 0;
            return;
        }
        if more {
            self.driver.upkeep(now);
            if self.put_off < PATIENCE && is_due(&self.driver) {
                self.put_off += reads;
                return;
            }
        }
        self.put_off = 0;
        self.driver.handle_timeout(now);
    }

    /// Calls `part`. What panics there is no callback but credentials, `heartbeat_by`, a subscriber of `tracing` or a socket of the
    /// adapter's: that ends the connection, so that each request is answered, and is raised.
    pub(super) fn guarded<R>(&mut self, part: impl FnOnce(&mut Self) -> R) -> Result<R, Raised> {
        catch_unwind(AssertUnwindSafe(|| part(self))).map_err(|payload| {
            self.driver.panicked();
            Raised::Panic(payload)
        })
    }

    /// Writes all that the socket takes. False: the driver has something to do because of it.
    pub(super) fn flush<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) -> bool {
        let Stage::Up { stream, token, watched, .. } = &mut self.stage else { return !self.driver.has_news() };
        if let Err(error) = flush(&mut self.driver, stream, now) {
            self.driver.write_failed(error, now);
            self.readable = true;
            return false;
        }
        // Plaintext waits for a handshake without waiting for the socket.
        let writes = stream.unwritten().map_or_else(|| self.driver.is_writing(), |unwritten| unwritten > 0);
        let wanted = Interest { readable: self.driver.reads(), writable: writes && !self.driver.is_broken() };
        if wanted != *watched {
            match sockets.network.watch(stream.socket(), *token, wanted) {
                Ok(()) => *watched = wanted,
                Err(error) => self.driver.write_failed(error, now),
            }
        }
        !self.driver.has_news()
    }

    /// Begins with an endpoint, which has its time from now on.
    fn try_endpoint<N: Network<Socket = T>>(&mut self, endpoint: Endpoint, sockets: &mut Sockets<N>, now: Instant) {
        self.trial += 1;
        let (bell, id, trial) = (self.driver.shared.bell.clone(), self.driver.shared.number, self.trial);
        let then = move |addresses| bell.ring(|news| news.resolved.push_back((id, trial, addresses)));
        let name: Arc<str> = endpoint.to_string().into();
        events::connecting(&name);
        self.driver.begin(name, now);
        sockets.network.resolve(&endpoint.host, endpoint.port, Box::new(then));
        self.stage = Stage::Resolving(endpoint);
    }

    /// An endpoint has failed: what comes next is begun. False: it is over.
    pub(super) fn goes_on<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) -> bool {
        let Some(error) = self.driver.failed() else { return false };
        let failures = self.hang_up(sockets);
        self.network_failed(failures);
        self.plan.connection_failed(&self.driver.endpoint(), error);
        self.try_next(sockets, now);
        true
    }

    /// What addresses of this endpoint have come to.
    fn network_failed(&mut self, failures: Failures) {
        let endpoint = self.driver.endpoint();
        self.plan.network_failed(failures.into_iter().map(|(address, error)| Attempt {
            endpoint: endpoint.clone(),
            address: address.to_string().into(),
            cause: error.into(),
            error: None,
        }));
    }

    fn try_next<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) {
        let parameters = &self.driver.shared.parameters;
        match self.plan.next(parameters) {
            NextEndpoint::Try(endpoint) => self.try_endpoint(endpoint, sockets, now),
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
    #[inline]
    fn connect<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) {
        match self.stage {
            Stage::Waiting { until } if until.is_some_and(|until| until <= now) => self.begin(sockets, now),
            Stage::Racing(..) => self.race(sockets, now),
            _ => {}
        }
    }

    fn race<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>, now: Instant) {
        let Stage::Racing(endpoint, race) = &mut self.stage else { return };
        let parameters = &self.driver.shared.parameters;
        match race.step(sockets, &self.driver.endpoint(), parameters, now) {
            Progress::Racing => {}
            Progress::Lost(failures) => {
                self.network_failed(failures);
                self.try_next(sockets, now);
            }
            Progress::Won(socket, token) => {
                let stream = match parameters.secure().map(|tls| tls.session(endpoint.host())) {
                    None => Stream::Plain(socket),
                    Some(Ok(session)) => Stream::Tls(socket, Box::new(session)),
                    Some(Err(problem)) => {
                        sockets.forget(socket, token);
                        self.stage = Stage::Down;
                        return self.driver.tls_failed(problem);
                    }
                };
                self.stage = Stage::Up { stream, token, watched: Interest::CONNECT, ended: None };
                self.driver.connected();
                self.readable = true;
            }
        }
    }

    /// Closes what there is of a socket. Says why addresses have failed until then.
    pub(super) fn hang_up<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>) -> Failures {
        match mem::replace(&mut self.stage, Stage::Down) {
            Stage::Up { stream, token, .. } => {
                sockets.forget(stream.close(), token);
                vec![]
            }
            Stage::Racing(_, mut race) => race.stop(sockets),
            Stage::Resolving(_) | Stage::Waiting { .. } | Stage::Down => vec![],
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
            Stage::Racing(_, race) => race.poll_timeout(),
            Stage::Resolving(_) | Stage::Up { .. } | Stage::Down => None,
        };
        [own, self.driver.poll_timeout()].into_iter().flatten().min()
    }
}
