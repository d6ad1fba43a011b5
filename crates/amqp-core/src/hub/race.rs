//! The addresses of one endpoint, tried side by side until one of them is connected.

use crate::{
    config::parameters::ConnectionParameters,
    hub::{Network, Token, dial::Dial, sockets::Sockets},
    trace::events,
};
use std::{io, net::SocketAddr, time::Instant};

/// Owns the sockets of all addresses that are tried: the first that is connected leaves it, the others are closed.
pub(super) struct Race<T> {
    owner: usize,
    dial: Dial,
    runners: Vec<Runner<T>>,
}

struct Runner<T> {
    socket: T,
    token: Token,
    address: SocketAddr,
    deadline: Option<Instant>,
}

/// How a race stands.
pub(super) enum Progress<T> {
    /// Addresses are tried, or will be.
    Racing,
    /// This socket is connected.
    Won(T, Token),
    /// No address is left; why each of them failed.
    Lost(Failures),
}

pub(super) type Failures = Vec<(SocketAddr, io::Error)>;

impl<T: io::Read + io::Write> Race<T> {
    /// Nothing is tried before the first [`step`](Self::step).
    pub(super) fn new(owner: usize, addresses: Vec<SocketAddr>, now: Instant) -> Self {
        Self { owner, dial: Dial::new(addresses, now), runners: vec![] }
    }

    /// Does all that can be done now.
    pub(super) fn step<N: Network<Socket = T>>(
        &mut self,
        sockets: &mut Sockets<N>,
        endpoint: &str,
        parameters: &ConnectionParameters,
        now: Instant,
    ) -> Progress<T> {
        if let Some(winner) = self.winner(sockets, endpoint, parameters, now) {
            events::connected(endpoint, winner.address);
            self.stop(sockets);
            return Progress::Won(winner.socket, winner.token);
        }
        self.start(sockets, endpoint, parameters, now);
        if self.dial.is_exhausted() { Progress::Lost(self.dial.failures()) } else { Progress::Racing }
    }

    /// The first that is connected. Those that have failed meanwhile, or took too long, are closed.
    fn winner<N: Network<Socket = T>>(
        &mut self,
        sockets: &mut Sockets<N>,
        endpoint: &str,
        parameters: &ConnectionParameters,
        now: Instant,
    ) -> Option<Runner<T>> {
        let limit = parameters.socket_timeout();
        let mut at = 0;
        while let Some(runner) = self.runners.get(at) {
            let error = match sockets.network.connected(&runner.socket) {
                Ok(true) => return Some(self.runners.remove(at)),
                Ok(false) if runner.deadline.is_none_or(|deadline| deadline > now) => {
                    at += 1;
                    continue;
                }
                Ok(false) => {
                    io::Error::new(io::ErrorKind::TimedOut, format!("timed out after {} s", limit.as_secs_f32()))
                }
                Err(error) => error,
            };
            let Runner { socket, token, address, .. } = self.runners.remove(at);
            sockets.forget(socket, token);
            self.failed(endpoint, address, error, now);
        }
        None
    }

    /// Tries the addresses whose time has come.
    fn start<N: Network<Socket = T>>(
        &mut self,
        sockets: &mut Sockets<N>,
        endpoint: &str,
        parameters: &ConnectionParameters,
        now: Instant,
    ) {
        let deadline = now.checked_add(parameters.socket_timeout());
        while let Some(address) = self.dial.next(now) {
            events::attempt(endpoint, address);
            match sockets.connect(self.owner, address, parameters.tcp_options()) {
                Ok((socket, token)) => self.runners.push(Runner { socket, token, address, deadline }),
                Err(error) => self.failed(endpoint, address, error, now),
            }
        }
    }

    fn failed(&mut self, endpoint: &str, address: SocketAddr, error: io::Error, now: Instant) {
        events::attempt_failed(endpoint, address, &error);
        self.dial.failed(address, error, now);
    }

    /// Closes all sockets. Says why addresses have failed until then.
    pub(super) fn stop<N: Network<Socket = T>>(&mut self, sockets: &mut Sockets<N>) -> Failures {
        for Runner { socket, token, .. } in self.runners.drain(..) {
            sockets.forget(socket, token);
        }
        self.dial.failures()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let runners = self.runners.iter().filter_map(|runner| runner.deadline);
        runners.chain(self.dial.poll_timeout()).min()
    }
}
