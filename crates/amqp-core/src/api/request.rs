//! Requests: each AMQP method once, with its options, and the ways to continue: `.then(…)`, `.await`, `.call()`, `.send()`.

use crate::{
    api::{
        awaited::Awaited,
        channel::Channel,
        connection::ConnectionHandle,
        start::{self, Start, To},
    },
    error::{Error, Result},
    session::{
        Op,
        op::OnConfirm,
        reply::{Answer, Continuation, Expect, Outcome},
    },
    wire::{
        fault::Invalid,
        spec::{Arguments, Method, basic, confirm},
        strings::ShortString,
    },
};
use std::future::IntoFuture;

/// A method that has not been sent yet: [`then`](Self::then), `.await` and [`call`](Self::call) wait for its reply,
/// [`send`](Self::send) does not.
#[must_use = "nothing is sent before then(), .await, call() or send()"]
#[derive(Clone, Debug)]
pub struct Request<M, H> {
    handle: H,
    pub(super) method: M,
}

/// A method that can be requested, and what its reply is to the program.
pub trait Ask: Into<Method> + Send + asked::Asked<Self::Reply> + 'static {
    /// The reply.
    type Reply: Send + 'static;
}

/// What the core has to know of a method that can be requested.
pub(super) mod asked {
    use super::{Answer, Expect, Invalid, Result};

    pub trait Asked<R> {
        fn check(&self) -> Result<(), Invalid> {
            Ok(())
        }
        /// Asks for no reply; false where AMQP cannot do without.
        fn nowait(&mut self) -> bool;
        fn expect() -> Expect;
        fn read(answer: Answer) -> Result<R>;
        /// Whether the reply may bring a message that goes back to its queue if it is not taken.
        fn brings_message(&self) -> bool {
            false
        }
    }
}

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
    /// The channel or the connection whose requests they are.
    #[doc(hidden)]
    fn target(&self) -> Target<'_, Self::State>;
    /// A request is sent next.
    #[doc(hidden)]
    fn before_request(&self) {}
    /// A request has been sent: with the consumer that it cancels, and whether its reply is waited for.
    #[doc(hidden)]
    fn after_request(&self, _cancelled: Option<&ShortString>, _waits: bool) {}
}

/// What a handle is one of.
#[doc(hidden)]
#[derive(Debug)]
pub enum Target<'a, S: 'static> {
    Channel(&'a Channel<S>),
    Connection(&'a ConnectionHandle<S>),
}

/// Implemented by handles whose event loop runs independently of the caller: requests take a callback (`then`) or can be
/// `.await`ed.
pub trait Lends: Handle {}

impl<S: 'static> Lends for Channel<S> {}
impl<S: 'static> Lends for ConnectionHandle<S> {}

/// Implemented by handles whose calls wait on the calling thread, which drives the loop.
pub trait Waits: Handle {
    /// Returns when `done` says so.
    #[doc(hidden)]
    fn wait(&self, done: &mut dyn FnMut() -> bool);
}

impl<S: 'static> Handle for Channel<S> {
    type State = S;

    fn target(&self) -> Target<'_, S> {
        Target::Channel(self)
    }
}

impl<S: 'static> Handle for ConnectionHandle<S> {
    type State = S;

    fn target(&self) -> Target<'_, S> {
        Target::Connection(self)
    }
}

impl<S: 'static> Target<'_, S> {
    fn submit(&self, method: &Method, expect: Option<Expect>, then: Continuation<S>) -> Result<()> {
        match (self, expect) {
            (Self::Channel(channel), expect) => channel.shared().submit(channel.identity(), method, expect, then, None),
            (Self::Connection(connection), Some(expect)) => connection.0.submit_on_connection(method, expect, then),
            // No request of the connection's does without a reply.
            (Self::Connection(_), None) => Ok(()),
        }
    }

    fn refuse(&self, error: Error, then: Continuation<S>) -> Result<()> {
        match self {
            Self::Channel(channel) => channel.shared().refuse(error, then),
            Self::Connection(connection) => connection.0.refuse(error, then),
        }
    }
}

impl<M: Ask, H: Handle> Start for Request<M, H> {
    type State = H::State;
    type Lent = H;
    type Answer = Answer;
    type Told = M::Reply;
    type Sent = ();

    fn start<W>(self, waits: bool, to: impl FnOnce(&H) -> (To<Self>, W)) -> ((), W, Result<()>) {
        let Self { handle, mut method } = self;
        let expect = if !waits && method.nowait() { None } else { Some(M::expect()) };
        let (to, with) = to(&handle);
        if let Err(invalid) = method.check() {
            return ((), with, handle.target().refuse(invalid.into(), to));
        }
        let method = method.into();
        handle.before_request();
        let result = handle.target().submit(&method, expect, to);
        if result.is_ok() {
            let cancelled = match &method {
                Method::Basic(basic::Method::Cancel(cancel)) => Some(&cancel.consumer_tag),
                _ => None,
            };
            handle.after_request(cancelled, waits);
        }
        ((), with, result)
    }

    fn read(answer: Answer) -> Result<M::Reply> {
        M::read(answer)
    }
}

impl<M: Ask, H: Lends> Request<M, H> {
    /// Sends the request; `callback` gets the reply, or the reason why there will be none. It is called by the loop,
    /// exactly once, and never from within this.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut H::State, &H, Result<M::Reply>) -> R + Send + 'static) {
        start::then(self, callback);
    }
}

impl<M: Ask, H: Handle> Request<M, H> {
    /// Sends the request without waiting: AMQP's `nowait` where there is one, otherwise the reply is swallowed.
    ///
    /// # Errors
    /// It could not be sent: bad arguments, or the reason why the channel is closed.
    pub fn send(self) -> Result<()> {
        start::send(self)
    }

    /// Dropped early, the reply is swallowed when it comes, and a message that it brings goes back to its queue.
    fn reply(self) -> Awaited<M::Reply> {
        let brings_message = self.method.brings_message();
        start::wait(self, |handle| {
            let handle = brings_message.then(|| handle.clone());
            let requeue = move |answer| {
                let target = handle.as_ref().map(Handle::target);
                if let (Some(Target::Channel(channel)), Ok(Answer::Message(message))) = (target, answer) {
                    channel.give_back(&message);
                }
            };
            (M::read, requeue)
        })
    }
}

impl<M: Ask, H: Waits> Request<M, H> {
    /// Sends the request and waits for its reply.
    ///
    /// # Errors
    /// It could not be sent, or there will be no reply: the reason. It takes no longer than `rpc_timeout`.
    pub fn call(self) -> Result<M::Reply> {
        let handle = self.handle.clone();
        let reply = self.reply();
        handle.wait(&mut || reply.is_answered());
        reply.take().unwrap_or(Err(Error::LoopGone))
    }
}

impl<M: Ask, H: Lends> IntoFuture for Request<M, H> {
    type Output = Result<M::Reply>;
    type IntoFuture = Awaited<M::Reply>;

    /// Sends the request.
    fn into_future(self) -> Awaited<M::Reply> {
        self.reply()
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

    /// Sends it; `callback` is called when the broker has agreed.
    pub fn then<R: Outcome>(self, callback: impl FnOnce(&mut S, &Channel<S>, Result<()>) -> R + Send + 'static) {
        start::then(self, callback);
    }

    /// Sends it without waiting; publishes that follow are numbered already.
    ///
    /// # Errors
    /// The reason why the channel is closed.
    pub fn send(self) -> Result<()> {
        start::send(self)
    }
}

impl<S: 'static> Start for Confirm<S> {
    type State = S;
    type Lent = Channel<S>;
    type Answer = Answer;
    type Told = ();
    type Sent = ();

    fn start<W>(self, waits: bool, to: impl FnOnce(&Channel<S>) -> (To<Self>, W)) -> ((), W, Result<()>) {
        let Self { channel, callback } = self;
        let (to, with) = to(&channel);
        let expect = waits.then_some(Expect(confirm::SelectOk::ID, None));
        let identity = channel.identity();
        let op = Op::Confirm { identity: identity.clone(), callback };
        let select = confirm::Select { nowait: !waits }.into();
        ((), with, channel.shared().submit(identity, &select, expect, to, Some(op)))
    }

    fn read(_: Answer) -> Result<()> {
        Ok(())
    }
}

impl<S: 'static> IntoFuture for Confirm<S> {
    type Output = Result<()>;
    type IntoFuture = Awaited<()>;

    /// Sends confirm.select.
    fn into_future(self) -> Awaited<()> {
        start::wait(self, |_| (Self::read, drop))
    }
}
