//! Every method of AMQP 0-9-1 and of RabbitMQ's extensions, in one table to be read with the specification beside it.
//!
//! One entry is a method: its name, its struct, its number, what it is answered with, `content` where a header and a
//! body follow, and its arguments in the order in which they are on the wire. A leading `_` is the reserved `ticket`,
//! sent as 0. From the table come a module for each class, with a struct for each method and an enum of them, and
//! [`Method`], the enum of all.

use std::fmt;

use crate::wire::{
    codec::{Reader, Wire, Writer},
    fault::{Invalid, Violation},
    secret::Secret,
    strings::{LongString, ShortString},
    table::{Table, Value},
};

/// Hands the table to the macro `$then`.
macro_rules! every_method {
    ($then:ident) => { $then! {
        /// Login, limits and the end of a connection [§1.4].
        connection Connection 10 {
            /// The broker's first word: what it is, and which logins it offers.
            "start" Start = 10 -> StartOk {
                version_major: u8, version_minor: u8, server_properties: Table, mechanisms: LongString,
                locales: LongString,
            }
            /// What the client is, and its login.
            "start-ok" StartOk = 11 {
                client_properties: Table, mechanism: ShortString, response: Secret, locale: ShortString,
            }
            /// The login needs another round.
            "secure" Secure = 20 -> SecureOk { challenge: LongString }
            /// The client's part of that round.
            "secure-ok" SecureOk = 21 { response: Secret }
            /// The login was accepted; these are the limits that the broker proposes.
            "tune" Tune = 30 -> TuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 }
            /// The limits that hold from now on.
            "tune-ok" TuneOk = 31 { channel_max: u16, frame_max: u32, heartbeat: u16 }
            /// Enters a virtual host.
            "open" Open = 40 -> OpenOk { virtual_host: ShortString, capabilities: ShortString, insist: bool }
            /// The connection can be used.
            "open-ok" OpenOk = 41 { known_hosts: ShortString }
            /// Ends the connection, and says why.
            "close" Close = 50 -> CloseOk { reply_code: u16, reply_text: ShortString, class_id: u16, method_id: u16 }
            /// Nothing follows but the end of the stream.
            "close-ok" CloseOk = 51 { }
            /// RabbitMQ: the broker lacks memory or disk and has stopped reading what is published.
            "blocked" Blocked = 60 { reason: ShortString }
            /// RabbitMQ: the broker reads again.
            "unblocked" Unblocked = 61 { }
            /// RabbitMQ: replaces a token before it expires.
            "update-secret" UpdateSecret = 70 -> UpdateSecretOk { new_secret: Secret, reason: ShortString }
            /// RabbitMQ: the new token counts.
            "update-secret-ok" UpdateSecretOk = 71 { }
        }
        /// The life of a channel [§1.5].
        channel Channel 20 {
            /// Opens the channel on whose number it is sent.
            "open" Open = 10 -> OpenOk { out_of_band: ShortString }
            /// The channel can be used.
            "open-ok" OpenOk = 11 { channel_id: LongString }
            /// Asks the peer to stop or to go on sending content. RabbitMQ will not be stopped (540).
            "flow" Flow = 20 -> FlowOk { active: bool }
            /// The request to stop or to go on will be respected.
            "flow-ok" FlowOk = 21 { active: bool }
            /// Ends the channel, and says why.
            "close" Close = 40 -> CloseOk { reply_code: u16, reply_text: ShortString, class_id: u16, method_id: u16 }
            /// The channel's number may be used again.
            "close-ok" CloseOk = 41 { }
        }
        /// Obsolete: access tickets of AMQP 0-8, which RabbitMQ still answers and nobody checks.
        access Access 30 {
            /// Obsolete: asks for a ticket.
            "request" Request = 10 -> RequestOk {
                realm: ShortString, exclusive: bool, passive: bool, active: bool, write: bool, read: bool,
            }
            /// Obsolete: the ticket.
            "request-ok" RequestOk = 11 { ticket: u16 }
        }
        /// Exchanges, which route messages [§1.6].
        exchange Exchange 40 {
            /// Creates an exchange, or confirms that it is there.
            "declare" Declare = 10 -> DeclareOk {
                _: u16, exchange: ShortString, exchange_type: ShortString, passive: bool, durable: bool,
                auto_delete: bool, internal: bool, nowait: bool, arguments: Table,
            }
            /// The exchange is there.
            "declare-ok" DeclareOk = 11 { }
            /// Removes an exchange; one that is not there is no error.
            "delete" Delete = 20 -> DeleteOk { _: u16, exchange: ShortString, if_unused: bool, nowait: bool }
            /// The exchange is gone.
            "delete-ok" DeleteOk = 21 { }
            /// RabbitMQ: lets an exchange receive from another.
            "bind" Bind = 30 -> BindOk {
                _: u16, destination: ShortString, source: ShortString, routing_key: ShortString, nowait: bool,
                arguments: Table,
            }
            /// RabbitMQ: the binding is there.
            "bind-ok" BindOk = 31 { }
            /// RabbitMQ: takes back exactly the binding that is described.
            "unbind" Unbind = 40 -> UnbindOk {
                _: u16, destination: ShortString, source: ShortString, routing_key: ShortString, nowait: bool,
                arguments: Table,
            }
            /// RabbitMQ: the binding is gone. Its number does not follow the pattern.
            "unbind-ok" UnbindOk = 51 { }
        }
        /// Queues, which keep messages [§1.7].
        queue Queue 50 {
            /// Creates a queue, or confirms that it is there.
            "declare" Declare = 10 -> DeclareOk {
                _: u16, queue: ShortString, passive: bool, durable: bool, exclusive: bool, auto_delete: bool,
                nowait: bool, arguments: Table,
            }
            /// The queue is there; this is its name and what it holds.
            "declare-ok" DeclareOk = 11 { queue: ShortString, message_count: u32, consumer_count: u32 }
            /// Lets a queue receive from an exchange.
            "bind" Bind = 20 -> BindOk {
                _: u16, queue: ShortString, exchange: ShortString, routing_key: ShortString, nowait: bool,
                arguments: Table,
            }
            /// The binding is there.
            "bind-ok" BindOk = 21 { }
            /// Throws away all messages that no consumer holds.
            "purge" Purge = 30 -> PurgeOk { _: u16, queue: ShortString, nowait: bool }
            /// So many messages were thrown away.
            "purge-ok" PurgeOk = 31 { message_count: u32 }
            /// Removes a queue with all its messages; one that is not there is no error.
            "delete" Delete = 40 -> DeleteOk {
                _: u16, queue: ShortString, if_unused: bool, if_empty: bool, nowait: bool,
            }
            /// So many messages went with the queue.
            "delete-ok" DeleteOk = 41 { message_count: u32 }
            /// Takes back exactly the binding that is described. AMQP has no nowait here.
            "unbind" Unbind = 50 -> UnbindOk {
                _: u16, queue: ShortString, exchange: ShortString, routing_key: ShortString, arguments: Table,
            }
            /// The binding is gone.
            "unbind-ok" UnbindOk = 51 { }
        }
        /// Messages, and who gets them [§1.8].
        basic Basic 60 {
            /// Limits how many messages may be unacknowledged.
            "qos" Qos = 10 -> QosOk { prefetch_size: u32, prefetch_count: u16, global: bool }
            /// The limit holds.
            "qos-ok" QosOk = 11 { }
            /// Starts a consumer.
            "consume" Consume = 20 -> ConsumeOk {
                _: u16, queue: ShortString, consumer_tag: ShortString, no_local: bool, no_ack: bool, exclusive: bool,
                nowait: bool, arguments: Table,
            }
            /// The consumer has started.
            "consume-ok" ConsumeOk = 21 { consumer_tag: ShortString }
            /// Ends a consumer. RabbitMQ sends it too, when the queue of a consumer is gone.
            "cancel" Cancel = 30 -> CancelOk { consumer_tag: ShortString, nowait: bool }
            /// The consumer has ended.
            "cancel-ok" CancelOk = 31 { consumer_tag: ShortString }
            /// A message for an exchange.
            "publish" Publish = 40 content {
                _: u16, exchange: ShortString, routing_key: ShortString, mandatory: bool, immediate: bool,
            }
            /// A mandatory message that reached no queue comes back.
            "return" Return = 50 content {
                reply_code: u16, reply_text: ShortString, exchange: ShortString, routing_key: ShortString,
            }
            /// A message for a consumer.
            "deliver" Deliver = 60 content {
                consumer_tag: ShortString, delivery_tag: u64, redelivered: bool, exchange: ShortString,
                routing_key: ShortString,
            }
            /// Asks for one message; answered with [`GetOk`] or [`GetEmpty`].
            "get" Get = 70 { _: u16, queue: ShortString, no_ack: bool }
            /// The message that was asked for.
            "get-ok" GetOk = 71 content {
                delivery_tag: u64, redelivered: bool, exchange: ShortString, routing_key: ShortString,
                message_count: u32,
            }
            /// The queue is empty.
            "get-empty" GetEmpty = 72 { cluster_id: ShortString }
            /// From a consumer: the message was dealt with. From RabbitMQ, in confirm mode: it has the message.
            "ack" Ack = 80 { delivery_tag: u64, multiple: bool }
            /// The message was not dealt with.
            "reject" Reject = 90 { delivery_tag: u64, requeue: bool }
            /// Obsolete: [`Recover`] without an answer.
            "recover-async" RecoverAsync = 100 { requeue: bool }
            /// Asks for all unacknowledged messages again.
            "recover" Recover = 110 -> RecoverOk { requeue: bool }
            /// They come again from now on.
            "recover-ok" RecoverOk = 111 { }
            /// RabbitMQ, from a consumer: [`Reject`] for many. From RabbitMQ, in confirm mode: it lost the message.
            "nack" Nack = 120 { delivery_tag: u64, multiple: bool, requeue: bool }
        }
        /// RabbitMQ: the broker confirms what is published.
        confirm Confirm 85 {
            /// RabbitMQ: puts the channel into confirm mode.
            "select" Select = 10 -> SelectOk { nowait: bool }
            /// RabbitMQ: every publish from now on is confirmed; the first has delivery tag 1.
            "select-ok" SelectOk = 11 { }
        }
        /// Transactions on one channel [§1.9].
        tx Tx 90 {
            /// Makes the channel transactional.
            "select" Select = 10 -> SelectOk { }
            /// The channel is transactional.
            "select-ok" SelectOk = 11 { }
            /// Makes everything since the last commit or rollback happen.
            "commit" Commit = 20 -> CommitOk { }
            /// It happened.
            "commit-ok" CommitOk = 21 { }
            /// Forgets everything since the last commit or rollback.
            "rollback" Rollback = 30 -> RollbackOk { }
            /// It is forgotten.
            "rollback-ok" RollbackOk = 31 { }
        }
    } };
}

/// What the arguments mean: one word means the same in every method, as the specification's domains do.
macro_rules! argument_doc {
    (active) => {
        "Whether content may be sent."
    };
    (arguments) => {
        "What only some brokers know, for example `x-queue-type`."
    };
    (auto_delete) => {
        "Whether it goes with the last of its consumers or bindings."
    };
    (capabilities) => {
        "Reserved."
    };
    (challenge) => {
        "The SASL mechanism's question."
    };
    (channel_id) => {
        "Reserved."
    };
    (channel_max) => {
        "The highest channel number; 0 stands for no limit."
    };
    (class_id) => {
        "The class of the method that was the cause; 0 if none was."
    };
    (client_properties) => {
        "What the client is, and which of RabbitMQ's extensions it understands."
    };
    (cluster_id) => {
        "Reserved."
    };
    (consumer_count) => {
        "How many consumers the queue has."
    };
    (consumer_tag) => {
        "The consumer's name, on its channel; where one is asked for, empty lets the broker choose."
    };
    (delivery_tag) => {
        "The message's number, on its channel and in its direction."
    };
    (destination) => {
        "The exchange that receives."
    };
    (durable) => {
        "Whether it survives a restart of the broker."
    };
    (exchange) => {
        "The exchange's name; empty is the default exchange: to the queue named by the routing key."
    };
    (exchange_type) => {
        "How it routes: `direct`, `fanout`, `topic`, `headers`, or a plugin's way. AMQP's `type`."
    };
    (exclusive) => {
        "Whether nobody else may: a queue goes with its connection, a consumer is its queue's only one."
    };
    (frame_max) => {
        "Octets in the largest frame, envelope included; 0 stands for no limit."
    };
    (global) => {
        "RabbitMQ: `true` limits the channel, `false` each of its consumers that starts later."
    };
    (heartbeat) => {
        "Seconds between heartbeats; 0 stands for none."
    };
    (if_empty) => {
        "Refuse with 406 unless there are no messages."
    };
    (if_unused) => {
        "Refuse with 406 unless there are no consumers or bindings."
    };
    (immediate) => {
        "RabbitMQ does not implement it: `true` closes the connection with 540."
    };
    (insist) => {
        "Reserved."
    };
    (internal) => {
        "Whether only other exchanges may publish to it."
    };
    (known_hosts) => {
        "Reserved."
    };
    (locale) => {
        "The language of reply texts."
    };
    (locales) => {
        "The languages that the broker offers, separated by spaces."
    };
    (mandatory) => {
        "Whether a message that reaches no queue comes back."
    };
    (mechanism) => {
        "The SASL mechanism that the client chose."
    };
    (mechanisms) => {
        "The SASL mechanisms that the broker offers, separated by spaces."
    };
    (message_count) => {
        "How many messages there are, or were."
    };
    (method_id) => {
        "The method that was the cause; 0 if none was."
    };
    (multiple) => {
        "Whether all earlier messages are meant too; delivery tag 0 then stands for every one."
    };
    (new_secret) => {
        "The token that replaces the one of the login."
    };
    (no_ack) => {
        "Whether messages count as acknowledged as soon as they are sent."
    };
    (no_local) => {
        "RabbitMQ ignores it."
    };
    (nowait) => {
        "Whether there is to be no answer; a failure then closes the channel."
    };
    (out_of_band) => {
        "Reserved."
    };
    (passive) => {
        "Only ask: what is not there closes the channel with 404."
    };
    (prefetch_count) => {
        "How many messages; 0 stands for no limit."
    };
    (prefetch_size) => {
        "Octets; RabbitMQ implements only 0, no limit."
    };
    (queue) => {
        "The queue's name; empty lets the broker choose one, and then stands for the one declared last."
    };
    (read) => {
        "Reserved."
    };
    (realm) => {
        "Reserved."
    };
    (reason) => {
        "Why, for people."
    };
    (redelivered) => {
        "Whether it may have been delivered before."
    };
    (reply_code) => {
        "Why, for programs: one of [`reply_code`](crate::wire::spec::reply_code)."
    };
    (reply_text) => {
        "Why, for people."
    };
    (requeue) => {
        "Whether the message goes back to its queue, rather than to the dead letters or nowhere."
    };
    (response) => {
        "The SASL mechanism's answer."
    };
    (routing_key) => {
        "What the exchange routes by; any octets."
    };
    (server_properties) => {
        "What the broker is, and which extensions it has."
    };
    (source) => {
        "The exchange that is received from."
    };
    (ticket) => {
        "Reserved."
    };
    (version_major) => {
        "The protocol's major version: 0."
    };
    (version_minor) => {
        "The protocol's minor version: 9."
    };
    (virtual_host) => {
        "Its name; most often `/`."
    };
    (write) => {
        "Reserved."
    };
}

/// The arguments of one method.
pub trait Arguments: Sized + Into<Method> {
    /// The class's and the method's number.
    const ID: MethodId;
    /// The name that the specification has for the method, `queue.declare-ok` for example.
    const NAME: &'static str;
    /// Whether a content header and a body follow the method.
    const HAS_CONTENT: bool;

    /// Appends the arguments without the method's numbers; on an error the octets that were already appended stay.
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid>;

    /// Takes the arguments from the front, without the method's numbers; 502 where the octets do not suffice.
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation>;

    /// The argument called `name`, for comparisons; `None` where there is none, or it is a secret.
    fn argument(&self, name: &str) -> Option<Value>;
}

/// A method that is answered with another.
pub trait Call: Arguments {
    /// The only answer, unless it fails.
    type Reply: Arguments + TryFrom<Method, Error = Method>;

    /// Asks for no answer, where AMQP has a flag for it; returns whether it has.
    fn set_nowait(&mut self) -> bool;
}

/// The number of a class, and of a method in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId {
    /// The class.
    pub class: u16,
    /// The method.
    pub method: u16,
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class, self.method)
    }
}

impl Method {
    /// Appends the method as the payload of a frame: class, method, arguments. On an error nothing is appended.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let start = out.len();
        let mut w = Writer::new(out);
        w.u16(self.id().class);
        w.u16(self.id().method);
        let done = self.put_arguments(&mut w);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Reads the payload of a method frame.
    ///
    /// 503 for a method that is not in the table, 502 where the arguments do not fill the payload exactly.
    pub fn get(payload: &[u8]) -> Result<Self, Violation> {
        let mut r = Reader::new(payload);
        let id = MethodId { class: r.u16()?, method: r.u16()? };
        let method = Self::get_arguments(id, &mut r)?;
        r.finish()?;
        Ok(method)
    }
}

/// Makes the types of a table like that of [`every_method`].
macro_rules! methods {
    ($(
        $(#[$class_doc:meta])*
        $class:ident $Class:ident $class_number:literal { $(
            $(#[$doc:meta])*
            $name:literal $Name:ident = $number:literal $(-> $Reply:ident)? $($content:ident)? {
                $(_ : $reserved:ty,)? $($field:ident : $Type:ty),* $(,)?
            }
        )* }
    )*) => {
        $(
            $(#[$class_doc])*
            pub mod $class {
                use super::*;

                /// The number of the class.
                pub const CLASS: u16 = $class_number;

                $(
                    $(#[$doc])*
                    #[doc = concat!("\n\n`", stringify!($class), ".", $name, "` ", $class_number, ".", $number)]
                    #[derive(Clone, Debug, Default, PartialEq)]
                    pub struct $Name { $(
                        #[doc = argument_doc!($field)]
                        pub $field: $Type,
                    )* }

                    #[allow(unused_variables)]
                    impl Arguments for $Name {
                        const ID: MethodId = MethodId { class: $class_number, method: $number };
                        const NAME: &'static str = concat!(stringify!($class), ".", $name);
                        const HAS_CONTENT: bool = is_content!($($content)?);

                        fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
                            $(<$reserved>::default().put(w)?;)?
                            $(self.$field.put(w)?;)*
                            Ok(())
                        }

                        fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
                            $(<$reserved as Wire>::get(r)?;)?
                            Ok(Self { $($field: Wire::get(r)?),* })
                        }

                        fn argument(&self, name: &str) -> Option<Value> {
                            $(if name == stringify!($field) {
                                return self.$field.value();
                            })*
                            None
                        }
                    }

                    call!($Name, $($Reply)?, $($field)*);

                    impl From<$Name> for super::Method {
                        fn from(arguments: $Name) -> Self {
                            Self::$Class(Method::$Name(arguments))
                        }
                    }

                    impl TryFrom<super::Method> for $Name {
                        type Error = super::Method;

                        fn try_from(method: super::Method) -> Result<Self, super::Method> {
                            match method {
                                super::Method::$Class(Method::$Name(arguments)) => Ok(arguments),
                                other => Err(other),
                            }
                        }
                    }
                )*

                /// A method of this class.
                #[derive(Clone, Debug, PartialEq)]
                pub enum Method { $(
                    $(#[$doc])*
                    $Name($Name),
                )* }
            }
        )*

        /// A method with its arguments.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Method { $(
            $(#[$class_doc])*
            $Class($class::Method),
        )* }

        impl Method {
            /// The class's and the method's number.
            pub fn id(&self) -> MethodId {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::ID,)*)* }
            }

            /// The name that the specification has for the method, `queue.declare-ok` for example.
            pub fn name(&self) -> &'static str {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::NAME,)*)* }
            }

            /// Whether a content header and a body follow the method.
            pub fn has_content(&self) -> bool {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::HAS_CONTENT,)*)* }
            }

            /// The argument called `name`, for comparisons; `None` where there is none, or it is a secret.
            pub fn argument(&self, name: &str) -> Option<Value> {
                match self { $($(Self::$Class($class::Method::$Name(arguments)) => arguments.argument(name),)*)* }
            }

            fn put_arguments(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
                match self { $($(Self::$Class($class::Method::$Name(arguments)) => arguments.put(w),)*)* }
            }

            fn get_arguments(id: MethodId, r: &mut Reader<'_>) -> Result<Self, Violation> {
                match id {
                    $($($class::$Name::ID => <$class::$Name as Arguments>::get(r).map(Self::from),)*)*
                    _ => Err(Violation::command("a method that does not exist")),
                }
            }
        }

        $(
            impl From<$class::Method> for Method {
                fn from(method: $class::Method) -> Self {
                    Self::$Class(method)
                }
            }
        )*

        impl MethodId {
            /// The name that the specification has for the method; `None` where there is no such method.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $($($class::$Name::ID => Some($class::$Name::NAME),)*)*
                    _ => None,
                }
            }
        }
    };
}

/// Whether a method is marked `content`.
macro_rules! is_content {
    () => {
        false
    };
    (content) => {
        true
    };
}

/// Makes a method that has a reply a [`Call`].
macro_rules! call {
    ($Name:ident, , $($field:ident)*) => {};
    ($Name:ident, $Reply:ident, $($field:ident)*) => {
        impl Call for $Name {
            type Reply = $Reply;

            fn set_nowait(&mut self) -> bool {
                false $(|| set_nowait!(self.$field))*
            }
        }
    };
}

/// Sets the argument if it is the one called `nowait`, and says whether it was.
macro_rules! set_nowait {
    ($arguments:ident.nowait) => {{
        $arguments.nowait = true;
        true
    }};
    ($arguments:ident.$other:ident) => {
        false
    };
}

every_method!(methods);

/// Type of a frame that holds a method [§4.2.3].
pub const FRAME_METHOD: u8 = 1;
/// Type of a frame that holds a content header: body size and properties.
pub const FRAME_HEADER: u8 = 2;
/// Type of a frame that holds a body, or a part of one.
pub const FRAME_BODY: u8 = 3;
/// Type of a frame that says only that the peer is alive.
pub const FRAME_HEARTBEAT: u8 = 8;
/// The last octet of every frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets of the largest frame before [`connection::Tune`]; no peer may propose less.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// What a client says first [§4.2.2].
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// Why a connection or channel was closed, or a message came back [§1.2].
pub mod reply_code {
    /// Nothing is wrong.
    pub const SUCCESS: u16 = 200;
    /// Channel: the content is larger than the peer takes now; it may be sent again later.
    pub const CONTENT_TOO_LARGE: u16 = 311;
    /// Return: a mandatory message reached no queue.
    pub const NO_ROUTE: u16 = 312;
    /// Return: an immediate message reached no consumer. RabbitMQ does not send it.
    pub const NO_CONSUMERS: u16 = 313;
    /// Connection: an operator intervened, the broker is going down for example; try again later.
    pub const CONNECTION_FORCED: u16 = 320;
    /// Connection: the virtual host is not known.
    pub const INVALID_PATH: u16 = 402;
    /// Channel: the user may not; as an answer to a login, the connection.
    pub const ACCESS_REFUSED: u16 = 403;
    /// Channel: there is no such queue or exchange.
    pub const NOT_FOUND: u16 = 404;
    /// Channel: another connection or consumer has it exclusively.
    pub const RESOURCE_LOCKED: u16 = 405;
    /// Channel: what is asked for contradicts what is there.
    pub const PRECONDITION_FAILED: u16 = 406;
    /// Connection: a frame could not be decoded.
    pub const FRAME_ERROR: u16 = 501;
    /// Connection: a field of a frame has an illegal value.
    pub const SYNTAX_ERROR: u16 = 502;
    /// Connection: a method out of turn, or one that does not exist.
    pub const COMMAND_INVALID: u16 = 503;
    /// Connection: a frame for a channel that is not open.
    pub const CHANNEL_ERROR: u16 = 504;
    /// Connection: a frame out of turn, most often amid the content of a message.
    pub const UNEXPECTED_FRAME: u16 = 505;
    /// Connection: the peer lacks resources.
    pub const RESOURCE_ERROR: u16 = 506;
    /// Connection: something that no user may.
    pub const NOT_ALLOWED: u16 = 530;
    /// Connection: something that the broker does not implement.
    pub const NOT_IMPLEMENTED: u16 = 540;
    /// Connection: the broker failed by itself.
    pub const INTERNAL_ERROR: u16 = 541;
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::tests::{Dice, Roll};

    /// Values that tell the arguments of a method apart.
    trait Sample: Sized {
        /// A value for the argument `name`, the `place`th of its method.
        fn sample(name: &str, place: usize) -> Self;
    }

    macro_rules! sample {
        ($($Type:ty: $name:ident, $place:ident => $value:expr;)*) => { $(
            impl Sample for $Type {
                fn sample($name: &str, $place: usize) -> Self {
                    $value
                }
            }
        )* };
    }

    sample! {
        u8: _name, place => 0x10 + place as Self;
        u16: _name, place => 0x1110 + place as Self;
        u32: _name, place => 0x1111_1110 + place as Self;
        u64: _name, place => 0x1111_1111_1111_1110 + place as Self;
        bool: _name, _place => true;
        ShortString: name, _place => name.into();
        LongString: name, _place => name.into();
        Secret: name, _place => name.into();
        Table: name, place => Self::new().with(name, place as i64);
    }

    macro_rules! test_methods {
        ($(
            $(#[$class_doc:meta])*
            $class:ident $Class:ident $class_number:literal { $(
                $(#[$doc:meta])*
                $name:literal $Name:ident = $number:literal $(-> $Reply:ident)? $($content:ident)? {
                    $(_ : $reserved:ty,)? $($field:ident : $Type:ty),* $(,)?
                }
            )* }
        )*) => {
            #[allow(unused_mut, unused_variables, unused_assignments)]
            fn one_of_each() -> Vec<Method> {
                vec![$($({
                    let mut place = 0;
                    $class::$Name { $($field: { place += 1; Sample::sample(stringify!($field), place) }),* }.into()
                }),*),*]
            }

            fn the_defaults() -> Vec<Method> {
                vec![$($($class::$Name::default().into()),*),*]
            }

            /// For each flag of each method its name, and the method with only that flag set.
            fn one_of_each_flag() -> Vec<(&'static str, Method)> {
                let mut methods = Vec::new();
                $($($({
                    let mut arguments = $class::$Name::default();
                    if raise(&mut arguments.$field) {
                        methods.push((stringify!($field), arguments.into()));
                    }
                })*)*)*
                methods
            }

            #[allow(unused_variables)]
            fn rolled_method(dice: &mut Dice<'_>) -> Method {
                let ways: &[fn(&mut Dice<'_>) -> Method] =
                    &[$($(|dice| $class::$Name { $($field: Roll::roll(dice)),* }.into()),*),*];
                ways.get(usize::from(dice.octet()) % ways.len()).unwrap()(dice)
            }

            /// Every method's name, with that of its reply.
            fn replies() -> Vec<(&'static str, Option<&'static str>)> {
                vec![$($(($class::$Name::NAME, None $(.or(Some($class::$Reply::NAME)))?)),*),*]
            }
        };
    }

    every_method!(test_methods);

    fn raise(argument: &mut dyn std::any::Any) -> bool {
        argument.downcast_mut().map(|flag: &mut bool| *flag = true).is_some()
    }

    fn encoded(method: &Method) -> Vec<u8> {
        let mut octets = Vec::new();
        method.put(&mut octets).unwrap();
        octets
    }

    #[test]
    fn every_method_survives_the_wire() {
        for method in one_of_each().into_iter().chain(the_defaults()) {
            assert_eq!(Method::get(&encoded(&method)), Ok(method));
        }
    }

    /// D-9
    #[test]
    fn every_method_is_what_rabbitmq_makes_of_it() {
        let mut expected = HashMap::<_, String>::new();
        let mut name = "";
        for word in AS_RABBITMQ_DOES.split_whitespace() {
            if word.contains('.') {
                name = word;
            }
            expected.entry(name).or_default().push_str(if word == name { "" } else { word });
        }
        assert_eq!(expected.len(), one_of_each().len());
        for method in one_of_each() {
            let hex: String = encoded(&method).iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(Some(&hex), expected.get(method.name()), "{}", method.name());
        }
    }

    #[test]
    fn every_flag_has_its_bit() {
        let mut flags = one_of_each_flag().into_iter();
        for line in FLAGS.trim().lines() {
            let (name, expected) = line.trim().split_once(' ').unwrap();
            for (bit, flag) in expected.split(' ').enumerate() {
                let (raised, method) = flags.next().unwrap();
                assert_eq!((method.name(), raised), (name, flag));
                let default = the_defaults().into_iter().find(|default| default.id() == method.id()).unwrap();
                let difference: Vec<u8> = encoded(&method)
                    .iter()
                    .zip(encoded(&default))
                    .map(|(a, b)| a ^ b)
                    .filter(|&octet| octet != 0)
                    .collect();
                assert_eq!(difference, [1 << bit], "{name} {flag}");
                assert_eq!(Method::get(&encoded(&method)), Ok(method));
            }
        }
        assert_eq!(flags.next(), None);
    }

    #[test]
    fn a_method_cut_anywhere_is_an_error() {
        for method in one_of_each() {
            let octets = encoded(&method);
            for end in 0..octets.len() {
                let code = Method::get(octets.get(..end).unwrap()).map_err(|violation| violation.code);
                assert_eq!(code, Err(Some(reply_code::SYNTAX_ERROR)), "{} cut at {end}", method.name());
            }
        }
    }

    #[test]
    fn octets_behind_the_arguments_are_an_error() {
        for method in one_of_each() {
            let octets = [encoded(&method), vec![0]].concat();
            let code = Method::get(&octets).map_err(|violation| violation.code);
            assert_eq!(code, Err(Some(reply_code::SYNTAX_ERROR)), "{}", method.name());
        }
    }

    #[test]
    fn an_unknown_method_is_an_invalid_command() {
        for octets in [[0, 10, 0, 12], [0, 40, 0, 41], [0, 61, 0, 10], [0, 0, 0, 0], [0xff; 4]] {
            let code = Method::get(&octets).map_err(|violation| violation.code);
            assert_eq!(code, Err(Some(reply_code::COMMAND_INVALID)));
        }
    }

    /// D-9
    #[test]
    fn every_method_has_a_number_and_a_name_of_its_own() {
        let methods = one_of_each();
        assert_eq!(methods.iter().map(Method::id).collect::<HashSet<_>>().len(), methods.len());
        assert_eq!(methods.iter().map(Method::name).collect::<HashSet<_>>().len(), methods.len());
        assert!(methods.iter().all(|method| method.id().name() == Some(method.name())));
        let id = queue::DeclareOk::ID;
        assert_eq!((id.to_string().as_str(), id.name()), ("50.11", Some("queue.declare-ok")));
        assert_eq!(MethodId { class: 50, method: 12 }.name(), None);
        assert_eq!(basic::CLASS, 60);
    }

    #[test]
    fn every_request_is_answered_with_its_ok() {
        for (name, reply) in replies() {
            let ok = format!("{name}-ok");
            let expected = replies().into_iter().map(|(name, _)| name).find(|&name| name == ok);
            // The reply to basic.get is one of two, and is content or not.
            assert_eq!(reply, expected.filter(|_| name != "basic.get"));
        }
    }

    #[test]
    fn a_method_turns_into_the_enum_and_back() {
        let declared = queue::DeclareOk { queue: "q".into(), message_count: 1, consumer_count: 2 };
        let method = Method::from(declared.clone());
        assert_eq!(queue::DeclareOk::try_from(method.clone()), Ok(declared));
        assert_eq!(queue::BindOk::try_from(method.clone()), Err(method));
        assert_eq!(Method::from(tx::Method::Select(tx::Select {})).id(), tx::Select::ID);
    }

    #[test]
    fn nowait_is_set_where_amqp_has_it() {
        let mut declare = queue::Declare::default();
        assert!(declare.set_nowait() && declare.nowait);
        assert!(exchange::Bind::default().set_nowait() && basic::Consume::default().set_nowait());
        assert!(!queue::Unbind::default().set_nowait() && !tx::Commit::default().set_nowait());
    }

    #[test]
    fn the_reserved_ticket_is_zero_and_is_not_read() {
        assert_eq!(encoded(&queue::Purge::default().into()), [0, 50, 0, 30, 0, 0, 0, 0]);
        assert_eq!(Method::get(&[0, 50, 0, 30, 0xff, 0xff, 0, 0]), Ok(queue::Purge::default().into()));
    }

    #[test]
    fn four_methods_carry_content() {
        let names: Vec<_> = one_of_each().iter().filter(|method| method.has_content()).map(Method::name).collect();
        assert_eq!(names, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
    }

    #[test]
    fn arguments_are_found_by_name() {
        let method = Method::from(basic::CancelOk { consumer_tag: "tag".into() });
        assert_eq!(method.argument("consumer_tag"), Some(Value::from("tag")));
        assert_eq!(method.argument("queue"), None);
        let secret = connection::SecureOk { response: "hunter2".into() };
        assert_eq!(Method::from(secret).argument("response"), None);
    }

    /// D-11
    #[test]
    fn a_method_is_shown_with_its_arguments_and_equals_what_has_the_same() {
        let deliver = basic::Deliver { consumer_tag: "c".into(), delivery_tag: 7, ..Default::default() };
        let shown = format!("{:?}", Method::from(deliver.clone()));
        assert!(
            shown.contains("Deliver {") && shown.contains("consumer_tag: \"c\"") && shown.contains("delivery_tag: 7")
        );
        assert_eq!(deliver, deliver.clone());
        assert_ne!(deliver, basic::Deliver { redelivered: true, ..deliver.clone() });
        for method in one_of_each() {
            assert!(!format!("{method:?}").is_empty());
        }
    }

    #[test]
    fn a_login_is_never_shown() {
        for method in one_of_each() {
            let secret = match method.name() {
                "connection.start-ok" | "connection.secure-ok" => "\"response\"",
                "connection.update-secret" => "\"new_secret\"",
                _ => continue,
            };
            let shown = format!("{method:?}");
            assert!(shown.contains("[redacted]") && !shown.contains(secret), "{shown}");
        }
    }

    /// Faults 11, PR19.
    #[test]
    fn what_cannot_be_sent_leaves_nothing_behind() {
        let mut octets = vec![1, 2, 3];
        let declare = queue::Declare { queue: "q".repeat(256).into(), ..Default::default() };
        assert_eq!(Method::from(declare).put(&mut octets), Err(Invalid::NameTooLong(256)));
        let arguments = Table::new().with("x", f64::NAN);
        let consume = basic::Consume { arguments, ..Default::default() };
        assert_eq!(Method::from(consume).put(&mut octets), Err(Invalid::NotFinite));
        assert_eq!(octets, [1, 2, 3]);
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let publish = basic::Publish { routing_key: vec![0xff, 0, 0xfe].into(), ..Default::default() };
        let method = Method::from(publish);
        assert_eq!(Method::get(&encoded(&method)), Ok(method));
    }

    proptest! {
        #[test]
        fn any_method_survives_the_wire(octets: Vec<u8>) {
            let method = rolled_method(&mut Dice(&octets));
            prop_assert_eq!(Method::get(&encoded(&method)), Ok(method));
        }

        /// PR16: whether the number is that of a method or not.
        #[test]
        fn any_octets_are_a_method_or_an_error(class: prop::sample::Index, octets: Vec<u8>) {
            let _ = Method::get(&octets);
            let method = class.get(&one_of_each()).id();
            let number = [method.class.to_be_bytes(), method.method.to_be_bytes()].concat();
            let _ = Method::get(&[number, octets].concat());
        }

        /// Octets that resemble a method get further than octets that do not.
        #[test]
        fn a_method_with_one_octet_changed_is_a_method_or_an_error(
            method: prop::sample::Index, place: prop::sample::Index, octet: u8,
        ) {
            let mut octets = encoded(method.get(&one_of_each()));
            *place.get_mut(&mut octets) = octet;
            let _ = Method::get(&octets);
        }
    }

    /// The flags of every method, from the lowest bit up.
    const FLAGS: &str = "
        connection.open insist
        channel.flow active
        channel.flow-ok active
        access.request exclusive passive active write read
        exchange.declare passive durable auto_delete internal nowait
        exchange.delete if_unused nowait
        exchange.bind nowait
        exchange.unbind nowait
        queue.declare passive durable exclusive auto_delete nowait
        queue.bind nowait
        queue.purge nowait
        queue.delete if_unused if_empty nowait
        basic.qos global
        basic.consume no_local no_ack exclusive nowait
        basic.cancel nowait
        basic.publish mandatory immediate
        basic.deliver redelivered
        basic.get no_ack
        basic.get-ok redelivered
        basic.ack multiple
        basic.reject requeue
        basic.recover-async requeue
        basic.recover requeue
        basic.nack multiple requeue
        confirm.select nowait
    ";

    /// [`one_of_each`] in hexadecimal, as the codec of RabbitMQ 3.10.8 reads and writes it.
    const AS_RABBITMQ_DOES: &str = "
        connection.start 000a000a 11120000001b117365727665725f70726f706572746965736c00000000000000030000000a6d656368
            616e69736d73000000076c6f63616c6573
        connection.start-ok 000a000b 0000001b11636c69656e745f70726f706572746965736c0000000000000001096d656368616e697
            36d00000008726573706f6e7365066c6f63616c65
        connection.secure 000a0014 000000096368616c6c656e6765
        connection.secure-ok 000a0015 00000008726573706f6e7365
        connection.tune 000a001e 1111111111121113
        connection.tune-ok 000a001f 1111111111121113
        connection.open 000a0028 0c7669727475616c5f686f73740c6361706162696c697469657301
        connection.open-ok 000a0029 0b6b6e6f776e5f686f737473
        connection.close 000a0032 11110a7265706c795f7465787411131114
        connection.close-ok 000a0033
        connection.blocked 000a003c 06726561736f6e
        connection.unblocked 000a003d
        connection.update-secret 000a0046 0000000a6e65775f73656372657406726561736f6e
        connection.update-secret-ok 000a0047
        channel.open 0014000a 0b6f75745f6f665f62616e64
        channel.open-ok 0014000b 0000000a6368616e6e656c5f6964
        channel.flow 00140014 01
        channel.flow-ok 00140015 01
        channel.close 00140028 11110a7265706c795f7465787411131114
        channel.close-ok 00140029
        access.request 001e000a 057265616c6d1f
        access.request-ok 001e000b 1111
        exchange.declare 0028000a 00000865786368616e67650d65786368616e67655f747970651f0000001309617267756d656e74736c
            0000000000000008
        exchange.declare-ok 0028000b
        exchange.delete 00280014 00000865786368616e676503
        exchange.delete-ok 00280015
        exchange.bind 0028001e 00000b64657374696e6174696f6e06736f757263650b726f7574696e675f6b65790100000013096172677
            56d656e74736c0000000000000005
        exchange.bind-ok 0028001f
        exchange.unbind 00280028 00000b64657374696e6174696f6e06736f757263650b726f7574696e675f6b657901000000130961726
            7756d656e74736c0000000000000005
        exchange.unbind-ok 00280033
        queue.declare 0032000a 00000571756575651f0000001309617267756d656e74736c0000000000000007
        queue.declare-ok 0032000b 0571756575651111111211111113
        queue.bind 00320014 00000571756575650865786368616e67650b726f7574696e675f6b6579010000001309617267756d656e7473
            6c0000000000000005
        queue.bind-ok 00320015
        queue.purge 0032001e 000005717565756501
        queue.purge-ok 0032001f 11111111
        queue.delete 00320028 000005717565756507
        queue.delete-ok 00320029 11111111
        queue.unbind 00320032 00000571756575650865786368616e67650b726f7574696e675f6b65790000001309617267756d656e7473
            6c0000000000000004
        queue.unbind-ok 00320033
        basic.qos 003c000a 11111111111201
        basic.qos-ok 003c000b
        basic.consume 003c0014 00000571756575650c636f6e73756d65725f7461670f0000001309617267756d656e74736c00000000000
            00007
        basic.consume-ok 003c0015 0c636f6e73756d65725f746167
        basic.cancel 003c001e 0c636f6e73756d65725f74616701
        basic.cancel-ok 003c001f 0c636f6e73756d65725f746167
        basic.publish 003c0028 00000865786368616e67650b726f7574696e675f6b657903
        basic.return 003c0032 11110a7265706c795f746578740865786368616e67650b726f7574696e675f6b6579
        basic.deliver 003c003c 0c636f6e73756d65725f7461671111111111111112010865786368616e67650b726f7574696e675f6b657
            9
        basic.get 003c0046 000005717565756501
        basic.get-ok 003c0047 1111111111111111010865786368616e67650b726f7574696e675f6b657911111115
        basic.get-empty 003c0048 0a636c75737465725f6964
        basic.ack 003c0050 111111111111111101
        basic.reject 003c005a 111111111111111101
        basic.recover-async 003c0064 01
        basic.recover 003c006e 01
        basic.recover-ok 003c006f
        basic.nack 003c0078 111111111111111103
        confirm.select 0055000a 01
        confirm.select-ok 0055000b
        tx.select 005a000a
        tx.select-ok 005a000b
        tx.commit 005a0014
        tx.commit-ok 005a0015
        tx.rollback 005a001e
        tx.rollback-ok 005a001f
    ";
}
