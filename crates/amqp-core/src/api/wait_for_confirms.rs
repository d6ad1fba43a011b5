//! Waiting until the broker has confirmed what was published.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        start::{self, Start, To},
    },
    error::{Error, Result, Stage},
    session::{
        Shared,
        channel::Identity,
        confirm::Confirms,
        next_serial,
        reply::{Continuation, Job, Outcome},
        timer::TimeoutId,
    },
    wire::fault::Invalid,
};
use std::{future::IntoFuture, sync::Arc, time::Duration};

/// Waits until the publishes of a channel in confirm mode are confirmed, or until few enough are left.
#[must_use = "nothing is waited for before then() or .await"]
#[derive(Debug)]
pub struct WaitForConfirms<S: 'static = ()> {
    channel: Channel<S>,
    at_most: usize,
    within: Option<Duration>,
}

impl<S: 'static> Channel<S> {
    /// Waits for the broker's confirms of everything that has been published on this channel until now. The answer is
    /// whether it has acked all since the last wait: a nack makes it `false`.
    ///
    /// With [`at_most`](WaitForConfirms::at_most) it keeps a window: a publisher that waits before each publish until at
    /// most 999 are unconfirmed never has more than 1000 on their way.
    ///
    /// ```no_run
    /// # async fn example(channel: amqp_core::Channel, bodies: Vec<Vec<u8>>) -> amqp_core::Result<()> {
    /// channel.confirm_select().await?;
    /// for body in bodies {
    ///     channel.wait_for_confirms().at_most(999).await?;
    ///     channel.basic_publish("", "hello", &body).send()?;
    /// }
    /// let all_acked = channel.wait_for_confirms().await?;
    /// # let _ = all_acked; Ok(())
    /// # }
    /// ```
    pub fn wait_for_confirms(&self) -> WaitForConfirms<S> {
        let within = self.shared().parameters.rpc_timeout();
        WaitForConfirms { channel: self.clone(), at_most: 0, within }
    }

    /// Publishes that the broker has not confirmed yet; 0 without confirm mode.
    pub fn unconfirmed(&self) -> usize {
        self.look(|channel| channel.confirms.as_ref().map_or(0, Confirms::unconfirmed)).unwrap_or(0)
    }
}

impl<S: 'static> WaitForConfirms<S> {
    /// Until no more than so many are unconfirmed, instead of none.
    pub fn at_most(mut self, unconfirmed: usize) -> Self {
        self.at_most = unconfirmed;
        self
    }

    /// Sets how long it waits; `rpc_timeout` otherwise. Afterwards the answer is [`Error::Timeout`], and the confirms may still come.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// `callback` gets whether all were acked when they are confirmed, or why that will not be known.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<bool>) -> R + Send + 'static) {
        start::then(self, callback);
    }
}

impl<S: 'static> Start for WaitForConfirms<S> {
    type State = S;
    type Lent = Channel<S>;
    type Answer = bool;
    type Told = bool;
    type Sent = ();

    fn start<W>(self, _: bool, to: impl FnOnce(&Channel<S>) -> (To<Self>, W)) -> ((), W, Result<()>) {
        let Self { channel, at_most, within } = self;
        let (shared, identity) = (channel.shared(), channel.identity());
        let (to, with) = to(&channel);
        let id = next_serial();
        if let Err((error, to)) = shared.wait_for_confirms(identity, id, at_most, to) {
            return ((), with, shared.refuse(error, to));
        }
        if let Some(limit) = within {
            let late = Late { shared: shared.clone(), identity: identity.clone(), id, limit };
            let timeout = shared.bell.add_timeout(limit, Box::new(move |state| late.give_up(state)));
            if !shared.wait_until(identity.number, id, timeout) {
                shared.bell.remove_timeout(timeout);
            }
        }
        // They may be confirmed already.
        shared.confirms_waited(identity.number).into_iter().for_each(|job| shared.bell.post(job));
        ((), with, Ok(()))
    }

    fn read(all_acked: bool) -> Result<bool> {
        Ok(all_acked)
    }
}

impl<S: 'static> IntoFuture for WaitForConfirms<S> {
    type Output = Result<bool>;
    type IntoFuture = Awaited<bool>;

    fn into_future(self) -> Awaited<bool> {
        start::wait(self, |_| (Ok, drop))
    }
}

/// What happens when the time is over.
struct Late<S: 'static> {
    shared: Arc<Shared<S>>,
    identity: Arc<Identity>,
    id: u64,
    limit: Duration,
}

impl<S: 'static> Late<S> {
    fn give_up(self, state: &mut S) -> Result<()> {
        let Self { shared, identity, id, limit } = self;
        let number = identity.number;
        let mut guard = shared.lock();
        let endpoint = guard.endpoint().clone();
        let confirms = guard.channel(number).and_then(|channel| channel.confirms.as_mut());
        let then = confirms.and_then(|confirms| Some((confirms.unconfirmed(), confirms.give_up(id)?)));
        drop(guard);
        let Some((missing, then)) = then else { return Ok(()) };
        let what = format!("the confirms of {missing} publishes on channel {number} from {endpoint}").into();
        let job = then.resolve(Err(Error::Timeout { stage: Stage::Reply, what, after: limit }));
        job.map_or(Ok(()), |job| job(state))
    }
}

impl<S: 'static> Shared<S> {
    fn wait_for_confirms(
        &self,
        identity: &Identity,
        id: u64,
        at_most: usize,
        then: Continuation<S, bool>,
    ) -> Result<(), (Error, Continuation<S, bool>)> {
        let mut state = self.lock();
        let confirms = match state.usable(identity) {
            Ok(channel) => channel.confirms.as_mut().ok_or_else(|| Invalid::NotInConfirmMode.into()),
            Err(error) => Err(error),
        };
        match confirms {
            Ok(confirms) => {
                confirms.wait(id, at_most, then);
                Ok(())
            }
            Err(error) => {
                drop(state);
                Err((error, then))
            }
        }
    }

    /// False: nobody waits any more.
    fn wait_until(&self, channel: u16, id: u64, timeout: TimeoutId) -> bool {
        let mut state = self.lock();
        let confirms = state.channel(channel).and_then(|channel| channel.confirms.as_mut());
        confirms.is_some_and(|confirms| confirms.wait_until(id, timeout))
    }

    /// Those who need not wait any longer: what the loop has to call.
    pub(crate) fn confirms_waited(&self, channel: u16) -> Vec<Job<S>> {
        let mut state = self.lock();
        let confirms = state.channel(channel).and_then(|channel| channel.confirms.as_mut());
        let (waits, all_acked) = confirms.map(Confirms::waited).unwrap_or_default();
        drop(state);
        let answered = waits.into_iter().filter_map(|wait| {
            wait.timeout.map(|timeout| self.bell.remove_timeout(timeout));
            wait.then.resolve(Ok(all_acked))
        });
        answered.collect()
    }
}
