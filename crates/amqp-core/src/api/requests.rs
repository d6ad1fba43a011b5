//! What the api has of the [table of methods](crate::wire): requests, their options, and the functions of the handles that
//! make them.

use crate::{
    api::{
        consume::Consume,
        request::{Ask, Request, asked::Asked},
    },
    error::{Error, Result},
    session::reply::{Answer, Expect},
    wire::{
        fault::{Invalid, Violation},
        message::Message,
        spec::{Arguments, Call, Method, basic, channel, confirm, connection, exchange, queue, tx},
    },
};

/// Puts every request of a channel on a handle: named as in pika and the specification, with the fields that the method
/// cannot do without; the rest are options of the request, and so is the way to continue.
#[doc(hidden)]
#[macro_export]
macro_rules! channel_requests {
    () => {
        $crate::every_method! { [$crate::functions] channel }
    };
}

/// Puts every request of a connection on its handle.
macro_rules! connection_requests {
    () => {
        $crate::every_method! { [$crate::functions] connection }
    };
}
pub(crate) use connection_requests;

/// Makes the functions of a connection's or a channel's handle.
#[doc(hidden)]
#[macro_export]
macro_rules! functions {
    ($handle:ident $(
        $(#[$class_doc:meta])*
        $class:ident $Class:ident $class_number:literal { $(
            $(#[$doc:meta])*
            $name:literal $Name:ident = $number:literal $(-> $Reply:ident $(| $Empty:ident)?)? $($content:ident)? {
                $(_ : $reserved:ty,)?
                $(
                    $(#[$field_doc:meta])*
                    $field:ident : $Type:ident $(. $option:ident)? $(= $default:expr)?,
                )*
            } $(request { $($request:tt)* })?
        )* }
    )*) => { $($(
        $crate::function! { $handle $class $Name { $($($field = $default,)?)* } $($($request)*)? }
    )*)* };
}

/// Makes one of them; the class `connection` is the connection's handle's, every other is the channel's.
#[doc(hidden)]
#[macro_export]
macro_rules! function {
    ($handle:ident $class:ident $Name:ident { $($default:tt)* }) => {};
    (connection connection $($method:tt)*) => { $crate::function! { make connection $($method)* } };
    (connection $class:ident $($method:tt)*) => {};
    (channel connection $($method:tt)*) => {};
    (channel $class:ident $($method:tt)*) => { $crate::function! { make $class $($method)* } };
    (make $class:ident $Name:ident { $($field:ident = $default:expr,)* }
        $(#[$doc:meta])*
        fn $function:ident($($argument:ident : $Type:ident),*) $(checked by $check:ident)?
    ) => {
        $(#[$doc])*
        #[allow(clippy::needless_update, reason = "some methods have no other fields")]
        pub fn $function(
            &self $(, $argument: $crate::argument!($Type))*
        ) -> $crate::Request<$crate::spec::$class::$Name, Self> {
            $(let $argument: $crate::spec::domains::$Type = $argument.into();)*
            let method = $crate::spec::$class::$Name { $($field: $default,)* $($argument,)* ..Default::default() };
            $crate::Request::new(self, method)
        }
    };
}

/// How a function takes an argument of that type.
#[doc(hidden)]
#[macro_export]
macro_rules! argument {
    (bool) => { bool };
    (u16) => { u16 };
    ($Type:ident) => { impl Into<$crate::spec::domains::$Type> };
}

/// Makes a method that can be requested an [`Ask`], and gives its request the options that the table names.
macro_rules! requests {
    ($(
        $(#[$class_doc:meta])*
        $class:ident $Class:ident $class_number:literal { $(
            $(#[$doc:meta])*
            $name:literal $Name:ident = $number:literal $(-> $Reply:ident $(| $Empty:ident)?)? $($content:ident)? {
                $(_ : $reserved:ty,)?
                $(
                    $(#[$field_doc:meta])*
                    $field:ident : $Type:ident $(. $option:ident)? $(= $default:expr)?,
                )*
            } $(request { $($request:tt)* })?
        )* }
    )*) => { $($(
        ask! { $class $Name [$($Reply $(| $Empty)?)?] $($($request)*)? }
        options! { $class $Name {} $([$(#[$field_doc])*] $field $Type [$($option)?])* }
    )*)* };
}

macro_rules! ask {
    ($class:ident $Name:ident $replies:tt) => {};
    // It is answered with content or without, which is said below.
    (basic Get $($method:tt)*) => {};
    ($class:ident $Name:ident [$Reply:ident]
        $(#[$doc:meta])*
        fn $function:ident($($argument:ident : $Type:ident),*) $(checked by $check:ident)?
    ) => {
        impl Ask for $class::$Name {
            type Reply = $class::$Reply;
        }

        impl Asked<$class::$Reply> for $class::$Name {
            $(fn check(&self) -> Result<(), Invalid> {
                $check(self)
            })?
            fn nowait(&mut self) -> bool {
                self.set_nowait()
            }
            fn expect() -> Expect {
                Expect($class::$Reply::ID, None)
            }
            fn read(answer: Answer) -> Result<$class::$Reply> {
                reply(answer)
            }
        }
    };
}

/// Collects the fields that have an option, and gives them to the builder of the method, if there are any.
macro_rules! options {
    ($class:ident $Name:ident { $($options:tt)* } $doc:tt $field:ident $Type:ident [] $($more:tt)*) => {
        options! { $class $Name { $($options)* } $($more)* }
    };
    ($class:ident $Name:ident { $($options:tt)* } $doc:tt $field:ident $Type:ident [$option:ident] $($more:tt)*) => {
        options! { $class $Name { $($options)* $doc $option $field $Type, } $($more)* }
    };
    ($class:ident $Name:ident {}) => {};
    (basic Consume { $($options:tt)* }) => {
        impl<S: 'static> Consume<S> { setters! { $($options)* } }
    };
    ($class:ident $Name:ident { $($options:tt)* }) => {
        impl<H> Request<$class::$Name, H> { setters! { $($options)* } }
    };
}

macro_rules! setters {
    ($([$(#[$doc:meta])*] $option:ident $field:ident $Type:ident,)*) => { $(
        #[doc = concat!("Sets `", stringify!($field), "`:")]
        $(#[$doc])*
        pub fn $option(mut self, $option: argument!($Type)) -> Self {
            self.method.$field = $option.into();
            self
        }
    )* };
}

crate::every_method!([requests]);

/// RabbitMQ would close the whole connection.
fn is_active(flow: &channel::Flow) -> Result<(), Invalid> {
    match flow.active {
        true => Ok(()),
        false => Err(Invalid::NotImplemented("channel.flow with active=false")),
    }
}

fn has_a_name_or_a_reply(declare: &queue::Declare) -> Result<(), Invalid> {
    match declare.nowait && declare.queue.is_empty() {
        false => Ok(()),
        true => Err(Invalid::UnknownQueueName),
    }
}

impl Ask for basic::Get {
    /// `None`: the queue is empty.
    type Reply = Option<Message>;
}

impl Asked<Option<Message>> for basic::Get {
    fn nowait(&mut self) -> bool {
        false
    }
    fn expect() -> Expect {
        Expect(basic::GetOk::ID, Some(basic::GetEmpty::ID))
    }
    fn read(answer: Answer) -> Result<Option<Message>> {
        match answer {
            Answer::Message(message) => Ok(Some(*message)),
            Answer::Method(_) => Ok(None),
        }
    }
    fn brings_message(&self) -> bool {
        !self.no_ack
    }
}

/// Puts the type of the expected reply on an answer: the one place where that is done. A reply of another type does not get
/// so far, because it answers another request or none.
pub(super) fn reply<R: TryFrom<Method>>(answer: Answer) -> Result<R> {
    let reply = match answer {
        Answer::Method(method) => R::try_from(method).ok(),
        Answer::Message(_) => None,
    };
    let unexpected = Violation::command("a reply to another method");
    reply.ok_or(Error::Protocol { endpoint: "the broker".into(), violation: unexpected })
}

impl<H> Request<basic::Qos, H> {
    /// Sets `global`, by pika 0.9's name.
    #[deprecated(note = "AMQP's word is `global`")]
    #[doc(hidden)]
    pub fn all_channels(self, global: bool) -> Self {
        self.global(global)
    }
}
