//! Requests: each AMQP method once, with its options, and the ways to continue.

use crate::{
    channel::Identity,
    confirm::OnConfirm,
    delivery::Message,
    error::{Error, Invalid, Result, Violation},
    handle::{Channel, ConnectionHandle},
    reply::{Answer, Continuation, Expect, Outcome},
    shared::{Op, Shared},
    spec::{Arguments, Call, Method, basic, channel, confirm, connection, exchange, queue},
    table::Table,
    wire::ShortString,
};
use std::sync::Arc;

/// A method that has not been sent yet: [`then`](Self::then) waits for its reply, [`send`](Self::send) does not.
#[must_use = "nothing is sent before then() or send()"]
#[derive(Clone, Debug)]
pub struct Request<M, H> {
    handle: H,
    method: M,
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
    pub(crate) fn new(handle: &H, method: M) -> Self {
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
}

/// Where a reply goes.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "closures")]
pub struct Then<S>(pub(crate) Continuation<S>);

impl<M: Ask, H: Handle> Request<M, H> {
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

    /// Sends the request without waiting: AMQP's `nowait` where there is one, otherwise the reply is swallowed.
    ///
    /// # Errors
    /// It could not be sent: bad arguments, or the reason why the channel is closed.
    pub fn send(self) -> Result<()> {
        let Self { handle, mut method } = self;
        method.check()?;
        let expect = if method.nowait() { None } else { Some(M::expect()) };
        handle.submit(method.into(), expect, Then(Continuation::Nobody))
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

/// Every method with one reply of its own.
macro_rules! ask {
    ($($method:ty $(where $check:expr)?;)*) => { $(
        impl Ask for $method {
            type Reply = <Self as Call>::Reply;
            $(fn check(&self) -> Result<(), Invalid> {
                let check: fn(&Self) -> Result<(), Invalid> = $check;
                check(self)
            })?
            fn nowait(&mut self) -> bool {
                self.set_nowait()
            }
            fn expect() -> Expected {
                Expected(Expect(<<Self as Call>::Reply as Arguments>::ID, None))
            }
            fn reply(answer: Answered) -> Result<Self::Reply> {
                match answer.0 {
                    Answer::Method(method) => Self::Reply::try_from(method).map_err(|_| unexpected()),
                    Answer::Message(_) | Answer::Outcome(_) => Err(unexpected()),
                }
            }
        }
    )* };
}

ask! {
    channel::Close;
    channel::Flow where |flow| match flow.active {
        true => Ok(()),
        false => Err(Invalid::NotImplemented("channel.flow with active=false")),
    };
    exchange::Declare;
    exchange::Delete;
    exchange::Bind;
    exchange::Unbind;
    queue::Declare where |declare| match declare.nowait && declare.queue.is_empty() {
        false => Ok(()),
        true => Err(Invalid::Other("a queue that the broker names is unknown without its reply")),
    };
    queue::Bind;
    queue::Unbind;
    queue::Purge;
    queue::Delete;
    basic::Qos;
    basic::Consume;
    basic::Cancel;
    basic::Recover;
    confirm::Select;
    crate::spec::tx::Select;
    crate::spec::tx::Commit;
    crate::spec::tx::Rollback;
    connection::UpdateSecret;
}

impl Ask for basic::Get {
    /// `None`: the queue is empty.
    type Reply = Option<Message>;
    fn nowait(&mut self) -> bool {
        false
    }
    fn expect() -> Expected {
        Expected(Expect(basic::GetOk::ID, Some(basic::GetEmpty::ID)))
    }
    fn reply(answer: Answered) -> Result<Self::Reply> {
        match answer.0 {
            Answer::Message(message) => Ok(Some(*message)),
            Answer::Method(_) => Ok(None),
            Answer::Outcome(_) => Err(unexpected()),
        }
    }
}

/// The driver has matched reply and request before, so this is not seen.
fn unexpected() -> Error {
    Error::Protocol { endpoint: "the broker".into(), violation: Violation::command("a reply to another method") }
}

/// The options of each request, with the broker's defaults where none is given.
macro_rules! options {
    ($($method:ty { $($(#[$doc:meta])* $name:ident: $Type:ty,)* })*) => { $(
        impl<H> Request<$method, H> { $(
            $(#[$doc])*
            pub fn $name(mut self, $name: impl Into<$Type>) -> Self {
                self.method.$name = $name.into();
                self
            }
        )* }
    )* };
}

options! {
    channel::Close {
        /// Why; 200 otherwise.
        reply_code: u16,
        /// Why, in words.
        reply_text: ShortString,
    }
    exchange::Declare {
        /// `direct` (the default), `fanout`, `topic`, `headers`, or what a plugin offers.
        exchange_type: ShortString,
        /// Only looks whether it exists; a 404 closes the channel if not.
        passive: bool,
        /// Whether it survives a restart of the broker.
        durable: bool,
        /// Whether it goes when its last binding goes.
        auto_delete: bool,
        /// Whether it can only be published to by other exchanges.
        internal: bool,
        /// Arguments of the broker's or a plugin's.
        arguments: Table,
    }
    exchange::Delete {
        /// Only if nothing is bound to it; otherwise a 406 closes the channel.
        if_unused: bool,
    }
    exchange::Bind {
        /// The routing key.
        routing_key: ShortString,
        /// Arguments for the exchange's type.
        arguments: Table,
    }
    exchange::Unbind {
        /// The routing key.
        routing_key: ShortString,
        /// Arguments as they were bound.
        arguments: Table,
    }
    queue::Declare {
        /// Only looks whether it exists; a 404 closes the channel if not.
        passive: bool,
        /// Whether it survives a restart of the broker.
        durable: bool,
        /// Whether it is this connection's alone and ends with it.
        exclusive: bool,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// `x-queue-type`, `x-expires` and so on.
        arguments: Table,
    }
    queue::Bind {
        /// The routing key.
        routing_key: ShortString,
        /// Arguments for the exchange's type.
        arguments: Table,
    }
    queue::Unbind {
        /// The routing key.
        routing_key: ShortString,
        /// Arguments as they were bound.
        arguments: Table,
    }
    queue::Delete {
        /// Only if it has no consumers; otherwise a 406 closes the channel.
        if_unused: bool,
        /// Only if it has no messages; otherwise a 406 closes the channel.
        if_empty: bool,
    }
    basic::Get {
        /// Whether the message is settled as soon as it is sent.
        no_ack: bool,
    }
}

impl<H> Request<basic::Qos, H> {
    /// The limit is for the channel as a whole instead of each of its consumers (AMQP's `global`, as RabbitMQ reads it).
    pub fn all_channels(mut self, all: bool) -> Self {
        self.method.global = all;
        self
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
        let op = Op::Confirm { channel: channel.clone(), callback };
        send_on(channel.shared(), channel.identity(), &confirm::Select { nowait }.into(), expect, then, Some(op))
    }
}
