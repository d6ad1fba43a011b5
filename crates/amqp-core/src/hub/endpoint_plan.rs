//! Which endpoint is tried next, and what became of each.

use crate::{
    config::{
        endpoint::{ConnectionOrder, Endpoint},
        parameters::ConnectionParameters,
    },
    error::{
        Error,
        attempt::{Attempt, IoError},
    },
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// The plan of one connection: which endpoint is next, and what became of those before.
#[derive(Debug)]
pub(crate) struct EndpointPlan {
    /// Of this round.
    left: VecDeque<Endpoint>,
    /// After this one.
    rounds: u32,
    failed: Vec<Attempt>,
}

/// What comes after a failure.
#[derive(Debug, PartialEq)]
pub(crate) enum NextEndpoint {
    /// This endpoint, now.
    Try(Endpoint),
    /// Another round, after `retry_delay`.
    Pause,
    /// The end.
    GiveUp(Error),
}

impl EndpointPlan {
    pub(crate) fn new(parameters: &ConnectionParameters) -> Self {
        Self { left: VecDeque::new(), rounds: parameters.connection_attempts(), failed: vec![] }
    }

    /// Rounds that are left.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The first endpoint of the next round.
    pub(crate) fn round(&mut self, parameters: &ConnectionParameters) -> Option<Endpoint> {
        self.rounds = self.rounds.checked_sub(1)?;
        self.left = parameters.endpoints().iter().cloned().collect();
        if parameters.connection_order() == ConnectionOrder::Random {
            shuffle(self.left.make_contiguous());
        }
        self.left.pop_front()
    }

    /// An address could not be connected to, or a name not be found.
    pub(crate) fn network_failed(&mut self, attempts: impl IntoIterator<Item = Attempt>) {
        self.failed.extend(attempts);
    }

    /// TLS or AMQP failed with `endpoint`, or its time was up.
    pub(crate) fn connection_failed(&mut self, endpoint: &Arc<str>, error: Error) {
        let cause = IoError { kind: error.io_kind(), text: error.to_string().into() };
        let (endpoint, address) = (endpoint.clone(), endpoint.clone());
        self.failed.push(Attempt { endpoint, address, cause, error: Some(Arc::new(error)) });
    }

    /// What to do after a failure. Of a single failure behind the network the error itself is told in the end.
    pub(crate) fn next(&mut self, parameters: &ConnectionParameters) -> NextEndpoint {
        if let Some(endpoint) = self.left.pop_front() {
            return NextEndpoint::Try(endpoint);
        }
        if self.rounds > 0 {
            return NextEndpoint::Pause;
        }
        let attempts = std::mem::take(&mut self.failed);
        if let [Attempt { error: Some(error), .. }] = &*attempts {
            return NextEndpoint::GiveUp(Error::clone(error));
        }
        let all: Vec<_> = parameters.endpoints().iter().map(ToString::to_string).collect();
        NextEndpoint::GiveUp(Error::CannotConnect { endpoint: all.join(", ").into(), attempts: attempts.into() })
    }
}

/// By the standard library's hasher, whose keys the operating system has made at random: the one dice without a clock and
/// without another crate.
fn shuffle<T>(items: &mut [T]) {
    for end in (2..=items.len()).rev() {
        let dice = RandomState::new().hash_one(end) % end as u64;
        items.swap(end - 1, dice as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn parameters(order: ConnectionOrder, attempts: u32) -> ConnectionParameters {
        let builder = ConnectionParameters::builder().endpoint("a", 1).endpoint("b", 2).endpoint("[::1]", 3);
        builder.connection_order(order).connection_attempts(attempts).build().unwrap()
    }

    fn refused(endpoint: &str) -> Attempt {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        Attempt { endpoint: endpoint.into(), address: endpoint.into(), cause, error: None }
    }

    /// P7, P8.
    #[test]
    fn endpoints_are_tried_in_order_and_again_after_a_pause() {
        let parameters = parameters(ConnectionOrder::Listed, 2);
        let mut plan = EndpointPlan::new(&parameters);
        for _ in 0..2 {
            let mut seen = vec![plan.round(&parameters).unwrap().to_string()];
            let end = loop {
                plan.network_failed([refused(seen.last().unwrap())]);
                match plan.next(&parameters) {
                    NextEndpoint::Try(endpoint) => seen.push(endpoint.to_string()),
                    end => break end,
                }
            };
            assert_eq!(seen, ["a:1", "b:2", "[::1]:3"]);
            if let NextEndpoint::GiveUp(error) = end {
                let Error::CannotConnect { endpoint, attempts } = error else { panic!("{error}") };
                assert_eq!((&*endpoint, attempts.len()), ("a:1, b:2, [::1]:3", 6));
                return;
            }
            assert_eq!(end, NextEndpoint::Pause);
        }
        panic!("never given up");
    }

    /// F13.
    #[test]
    fn endpoints_that_are_shuffled_come_all_and_in_every_order() {
        let parameters = parameters(ConnectionOrder::Random, 1);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let mut plan = EndpointPlan::new(&parameters);
            let mut order = vec![plan.round(&parameters).unwrap().to_string()];
            while let NextEndpoint::Try(endpoint) = plan.next(&parameters) {
                order.push(endpoint.to_string());
            }
            assert_eq!(order.len(), 3);
            orders.insert(order);
            if orders.len() == 6 {
                return;
            }
        }
        panic!("only {orders:?}");
    }
}
