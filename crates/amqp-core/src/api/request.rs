//! Requests: each AMQP method once, with its options, and the ways to continue: `.then(…)`, `.await`, `.call()`, `.send()`.

use crate::{
    api::{awaited::Awaited, channel::Channel, connection::ConnectionHandle},
    error::{Error, Result},
    session::{
        Op, Shared,
        channel::Identity,
        op::OnConfirm,
        reply::{Answer, Continuation, Expect, Outcome},
        slot::Slot,
    },
    wire::{
        fault::Invalid,
        message::DeliveryTag,
        spec::{Arguments, Method, confirm},
    },
};
use std::{
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// A method that has not been sent yet: [`then`](Self::then), `.await` and [`call`](Self::call) wait for its reply,
/// [`send`](Self::send) does not.
#[must_use = "nothing is sent before then(), .await, call() or send()"]
#[derive(Clone, Debug)]
pub struct Request<M, H> {
    handle: H,
    pub(super) method: M,
}

/// A method that can be requested, and what its reply is to the program.
pub trait Ask: Into<Method> + Send + 'static {
    /// The reply.
    type Reply: Send + 'static;
    #[doc(hidden)]
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
    /// Asks for no reply; false where AMQP cannot do without.
    #[doc(hidden)]
    fn nowait(&mut self) -> bool;
    #[doc(hidden)]
    fn expect() -> Expected;
    #[doc(hidden)]
    fn reply(answer: Answered) -> Result<Self::Reply>;
    /// Whether the reply may bring a message that goes back to its queue if nobody takes it.
    #[doc(hidden)]
    fn brings_message(&self) -> bool {
        false
    }
}

/// Which methods answer a request.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Expected(pub(crate) Expect);

/// An answer, before it is taken apart.
#[doc(hidden)]
#[derive(Debug)]
pub struct Answered(pub(crate) Answer);

impl<M, H: Clone> Request<M, H> {
    #[doc(hidden)]
    pub fn new(handle: &H, method: M) -> Self {
        Self { handle: handle.clone(), method }
    }
}

/// What requests are made on.
pub trait Handle: Clone + Send + Sync + 'static {
    /// The state that its loop lends to callbacks.
    type State: 'static;
    #[doc(hidden)]
    fn submit(&self, method: Method, expect: Option<Expected>, then: Then<Self::State>) -> Result<()>;
    #[doc(hidden)]
    fn answer_later(&self, then: Then<Self::State>, error: Error);
    /// Something was submitted that nobody waits for.
    #[doc(hidden)]
    fn sent(&self) {}
    /// Gives a message back that nobody took.
    #[doc(hidden)]
    fn requeue(&self, _: DeliveryTag) {}
}

/// Handles of a loop that goes on by itself: their requests can be continued by callbacks and awaited.
pub trait Lends: Handle {}

impl<S: 'static> Lends for Channel<S> {}
impl<S: 'static> Lends for ConnectionHandle<S> {}

/// Handles whose calls wait on the calling thread, because nobody else drives the loop.
pub trait Waits: Handle {
    /// Returns when `done` says so.
    #[doc(hidden)]
    fn wait(&self, done: &mut dyn FnMut() -> bool);
}

/// Where a reply goes.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "closures")]
pub struct Then<S>(pub(crate) Continuation<S>);

impl<M: Ask, H: Lends> Request<M, H> {
    /// Sends the request; `callback` gets the reply, or the reason why there will be none. It is called by the loop,
    /// exactly once, and never from within this.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut H::State, &H, Result<M::Reply>) -> R + Send + 'static) {
        let Self { handle, method } = self;
        let lent = handle.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut H::State, answer: Result<Answer>| {
            let reply = answer.and_then(|answer| M::reply(Answered(answer)));
            callback(state, &lent, reply).outcome()
        }));
        // What cannot be sent is answered by the loop.
        match method.check() {
            Ok(()) => drop(handle.submit(method.into(), Some(M::expect()), Then(then))),
            Err(invalid) => handle.answer_later(Then(then), invalid.into()),
        }
    }
}

impl<M: Ask, H: Handle> Request<M, H> {
    /// Sends the request without waiting: AMQP's `nowait` where there is one, otherwise the reply is swallowed.
    ///
    /// # Errors
    /// It could not be sent: bad arguments, or the reason why the channel is closed.
    pub fn send(self) -> Result<()> {
        let Self { handle, mut method } = self;
        let expect = if method.nowait() { None } else { Some(M::expect()) };
        method.check()?;
        handle.submit(method.into(), expect, Then(Continuation::Nobody))?;
        handle.sent();
        Ok(())
    }

    fn reply(self) -> Reply<M, H> {
        let Self { handle, method } = self;
        let slot = Slot::new();
        let brings_message = method.brings_message();
        let then = Then(Continuation::Slot(slot.clone()));
        match method.check() {
            // What cannot be sent is answered in the slot.
            Ok(()) => drop(handle.submit(method.into(), Some(M::expect()), then)),
            Err(invalid) => handle.answer_later(then, invalid.into()),
        }
        Reply { slot, handle, brings_message, method: PhantomData }
    }
}

impl<M: Ask, H: Waits> Request<M, H> {
    /// Sends the request and waits for its reply.
    ///
    /// # Errors
    /// It could not be sent, or there will be no reply: the reason. It takes no longer than `rpc_timeout`.
    pub fn call(self) -> Result<M::Reply> {
        let reply = self.reply();
        reply.handle.wait(&mut || reply.slot.is_answered());
        let answer = reply.slot.take().unwrap_or(Err(Error::LoopGone));
        answer.and_then(|answer| M::reply(Answered(answer)))
    }
}

/// A request that has been sent, and is awaited here: wire order is the order in which `.await` began.
///
/// Dropped before its end it leaves the channel in step: the reply is swallowed when it comes, and a message that it
/// brings goes back to its queue.
#[must_use = "the reply is waited for by .await"]
pub struct Reply<M: Ask, H: Handle> {
    slot: Arc<Slot>,
    handle: H,
    brings_message: bool,
    method: PhantomData<fn() -> M>,
}

impl<M: Ask, H: Lends> IntoFuture for Request<M, H> {
    type Output = Result<M::Reply>;
    type IntoFuture = Reply<M, H>;

    /// Sends the request.
    fn into_future(self) -> Reply<M, H> {
        self.reply()
    }
}

impl<M: Ask, H: Handle> Future for Reply<M, H> {
    type Output = Result<M::Reply>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot.poll(context).map(|answer| answer.and_then(|answer| M::reply(Answered(answer))))
    }
}

impl<M: Ask, H: Handle> Unpin for Reply<M, H> {}

impl<M: Ask, H: Handle> Drop for Reply<M, H> {
    fn drop(&mut self) {
        if self.brings_message {
            let handle = self.handle.clone();
            self.slot.abandon(Box::new(move |answer| {
                if let Ok(Answer::Message(message)) = answer {
                    handle.requeue(message.delivery_tag);
                }
            }));
        }
    }
}

impl<M: Ask, H: Handle> fmt::Debug for Reply<M, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("is_answered", &self.slot.is_answered()).finish_non_exhaustive()
    }
}

impl<S: 'static> Handle for Channel<S> {
    type State = S;

    fn submit(&self, method: Method, expect: Option<Expected>, then: Then<S>) -> Result<()> {
        send_on(self.shared(), self.identity(), &method, expect.map(|e| e.0), then.0, None)
    }

    fn answer_later(&self, then: Then<S>, error: Error) {
        self.shared().answer_later(then.0, error);
    }

    fn requeue(&self, delivery_tag: DeliveryTag) {
        // A channel that is closed has requeued it already.
        let _ = self.basic_reject(delivery_tag, true);
    }
}

impl<S: 'static> Handle for ConnectionHandle<S> {
    type State = S;

    fn submit(&self, method: Method, expect: Option<Expected>, then: Then<S>) -> Result<()> {
        let Some(Expected(expect)) = expect else { return Ok(()) };
        match self.0.submit_on_connection(&method, expect, then.0) {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.0.answer_later(refused.then, refused.error.clone());
                Err(refused.error)
            }
        }
    }

    fn answer_later(&self, then: Then<S>, error: Error) {
        self.0.answer_later(then.0, error);
    }
}

/// Sends; a continuation whose request could not be sent is answered by the loop.
pub(crate) fn send_on<S: 'static>(
    shared: &Arc<Shared<S>>,
    identity: &Arc<Identity>,
    method: &Method,
    expect: Option<Expect>,
    then: Continuation<S>,
    op: Option<Op<S>>,
) -> Result<()> {
    match shared.submit(identity, method, expect, then, op) {
        Ok(()) => Ok(()),
        Err(refused) => {
            shared.answer_later(refused.then, refused.error.clone());
            Err(refused.error)
        }
    }
}

/// confirm.select, to be sent.
#[must_use = "nothing is sent before then() or send()"]
#[expect(missing_debug_implementations, reason = "closures")]
pub struct Confirm<S: 'static> {
    channel: Channel<S>,
    callback: OnConfirm<S>,
}

impl<S: 'static> Confirm<S> {
    pub(crate) fn new(channel: &Channel<S>, callback: OnConfirm<S>) -> Self {
        Self { channel: channel.clone(), callback }
    }

    /// Sends it; `callback` is told when the broker has agreed.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<()>) -> R + Send + 'static) {
        let lent = self.channel.clone();
        let then = Continuation::Callback(Box::new(move |state: &mut S, answer: Result<Answer>| {
            callback(state, &lent, answer.map(|_| ())).outcome()
        }));
        let _ = self.submit(false, then);
    }

    /// Sends it without waiting; publishes that follow are numbered already.
    ///
    /// # Errors
    /// The reason why the channel is closed.
    pub fn send(self) -> Result<()> {
        self.submit(true, Continuation::Nobody)
    }

    fn submit(self, nowait: bool, then: Continuation<S>) -> Result<()> {
        let Self { channel, callback } = self;
        let expect = (!nowait).then_some(Expect(confirm::SelectOk::ID, None));
        let op = Op::Confirm { identity: channel.identity().clone(), callback };
        send_on(channel.shared(), channel.identity(), &confirm::Select { nowait }.into(), expect, then, Some(op))
    }
}

impl<S: 'static> IntoFuture for Confirm<S> {
    type Output = Result<()>;
    type IntoFuture = Awaited<()>;

    /// Sends confirm.select.
    fn into_future(self) -> Awaited<()> {
        let slot = Slot::new();
        let _ = self.submit(false, Continuation::Slot(slot.clone()));
        Awaited::new(slot, |_| Ok(()))
    }
}
