//! What the wire has of the table of methods (`methods.rs`): a module for each class, with a struct for each method
//! and an enum of them, and [`Method`], the enum of all.

use std::fmt;

use crate::wire::{
    codec::{Reader, Wire, Writer},
    fault::{Invalid, Violation},
    table::Value,
};

use domains::*;

/// The types of the table.
#[doc(hidden)]
pub mod domains {
    pub use crate::wire::{
        secret::Secret,
        strings::{LongString, ShortString},
        table::Table,
    };
    pub use std::primitive::{bool, u8, u16, u32, u64};
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

/// Makes the types of the table.
macro_rules! types {
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
                        $(#[$field_doc])*
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

                    call!($Name, $($Reply $(| $Empty)?)?, $($field)*);

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
            /// Returns the class's and the method's number.
            pub fn id(&self) -> MethodId {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::ID,)*)* }
            }

            /// Returns the name that the specification has for the method, `queue.declare-ok` for example.
            pub fn name(&self) -> &'static str {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::NAME,)*)* }
            }

            /// Returns whether a content header and a body follow the method.
            pub fn has_content(&self) -> bool {
                match self { $($(Self::$Class($class::Method::$Name(_)) => $class::$Name::HAS_CONTENT,)*)* }
            }

            /// Returns the argument called `name`, for comparisons; `None` where there is none, or it is a secret.
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
            /// Returns the name that the specification has for the method; `None` where there is no such method.
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

/// Makes a method that has one reply a [`Call`].
macro_rules! call {
    ($Name:ident, , $($field:ident)*) => {};
    ($Name:ident, $Reply:ident | $Empty:ident, $($field:ident)*) => {};
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

crate::every_method!([types]);

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
mod tests;
