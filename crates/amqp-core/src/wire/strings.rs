//! Strings on the wire: short ones, of up to 255 octets, and long ones [§4.2.5.3].

use crate::wire::{
    codec::{Reader, Wire, Writer},
    fault::{Invalid, Violation},
    table::Value,
};
use std::{
    borrow::{Borrow, Cow},
    fmt,
};

/// A name: a short string [§4.2.5.3] with its own octets, which need not be UTF-8.
///
/// Any length can be held; one over 255 octets is refused when it is put on the wire, with [`Invalid::NameTooLong`].
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortString(Vec<u8>);

impl ShortString {
    /// Returns the same octets, borrowed.
    #[inline]
    pub fn as_short_str(&self) -> ShortStr<'_> {
        ShortStr(&self.0)
    }
}

/// A short string that is borrowed from a buffer.
///
/// It compares and hashes as its octets do, so that a map keyed by [`ShortString`] can be asked with
/// [`as_bytes`](Self::as_bytes).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortStr<'a>(pub(super) &'a [u8]);

impl<'a> ShortStr<'a> {
    /// Returns the octets, for as long as the buffer lives.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the text; `None` where it is not UTF-8.
    #[inline]
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// Returns a copy with its own octets.
    #[inline]
    pub fn to_owned(self) -> ShortString {
        ShortString(self.0.to_vec())
    }
}

/// A long string [§4.2.5.3] with its own octets, which need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LongString(Vec<u8>);

/// What [`ShortString`] and [`LongString`] have in common.
macro_rules! owned_octets {
    ($($String:ident),*) => { $(
        impl $String {
            /// Returns the octets.
            #[inline]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Returns the text; `None` where it is not UTF-8.
            #[inline]
            pub fn as_str(&self) -> Option<&str> {
                std::str::from_utf8(&self.0).ok()
            }

            /// Returns the octets, without a copy.
            pub fn into_bytes(self) -> Vec<u8> {
                self.0
            }
        }

        impl From<Vec<u8>> for $String {
            fn from(octets: Vec<u8>) -> Self {
                Self(octets)
            }
        }

        impl From<&[u8]> for $String {
            fn from(octets: &[u8]) -> Self {
                Self(octets.to_vec())
            }
        }

        impl From<String> for $String {
            fn from(text: String) -> Self {
                Self(text.into_bytes())
            }
        }

        impl From<&String> for $String {
            fn from(text: &String) -> Self {
                text.as_str().into()
            }
        }

        impl From<&str> for $String {
            fn from(text: &str) -> Self {
                text.as_bytes().into()
            }
        }

        impl From<ShortStr<'_>> for $String {
            fn from(string: ShortStr<'_>) -> Self {
                string.0.into()
            }
        }

        impl From<&Self> for $String {
            fn from(string: &Self) -> Self {
                string.clone()
            }
        }

        impl Borrow<[u8]> for $String {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }
    )* };
}

/// What all three strings have in common.
macro_rules! octets {
    ($($String:ty),*) => { $(
        impl $String {
            /// Returns how many octets there are.
            #[inline]
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Returns whether there are none.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Returns the text as it is, with U+FFFD where it is not UTF-8.
            pub fn to_string_lossy(&self) -> Cow<'_, str> {
                String::from_utf8_lossy(self.as_bytes())
            }
        }

        impl AsRef<[u8]> for $String {
            fn as_ref(&self) -> &[u8] {
                self.as_bytes()
            }
        }

        impl PartialEq<str> for $String {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $String {
            fn eq(&self, other: &&str) -> bool {
                *self == **other
            }
        }

        /// Shows the text, with U+FFFD where it is not UTF-8 and with control characters escaped: it is the peer's, and may
        /// not move the cursor of a terminal or begin a line of a log. [`to_string_lossy`](Self::to_string_lossy) has it as
        /// it is.
        impl fmt::Display for $String {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Escaped(&self.to_string_lossy()).fmt(f)
            }
        }

        /// The text in quotes, with U+FFFD where it is not UTF-8.
        impl fmt::Debug for $String {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
            }
        }
    )* };
}

/// Shows a peer's words with whatever would act instead of being read escaped, as Rust writes it: `\n`, `\u{1b}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_ref();
        if !text.contains(acts) {
            return f.pad(text);
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if acts(c) {
                escaped.extend(c.escape_default());
            } else {
                escaped.push(c);
            }
        }
        f.pad(&escaped)
    }
}

/// Control characters, ends of lines, and what changes the direction of writing.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

owned_octets!(ShortString, LongString);
octets!(ShortString, LongString, ShortStr<'_>);

impl PartialEq<ShortStr<'_>> for ShortString {
    fn eq(&self, other: &ShortStr<'_>) -> bool {
        self.as_short_str() == *other
    }
}

impl PartialEq<ShortString> for ShortStr<'_> {
    fn eq(&self, other: &ShortString) -> bool {
        *self == other.as_short_str()
    }
}

impl Wire for ShortString {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.short(&self.0)
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.short_str().map(ShortStr::to_owned)
    }
    fn value(&self) -> Option<Value> {
        Some(self.clone().into())
    }
}

impl Wire for LongString {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.long(&self.0)
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.long_str().map(Self::from)
    }
    fn value(&self) -> Option<Value> {
        Some(self.clone().into())
    }
}
