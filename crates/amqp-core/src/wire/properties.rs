//! The properties of a message [§1.8.1]: made by a program, or lying in what the broker sent [§4.2.6.1].

use std::fmt;

use crate::wire::{
    codec::{Reader, Wire, Writer},
    fault::{Invalid, Violation},
    strings::{ShortStr, ShortString},
    table::{Table, Value},
};

/// Makes [`BasicProperties`] and the accessors of [`Properties`] from the properties in wire order: the name
/// and the type of each when it is owned, the same when it is borrowed, and its flag.
macro_rules! properties {
    ($(
        $(#[$doc:meta])*
        $field:ident: $Type:ty, $view:ident: $View:ty, $flag:literal;
    )*) => {
        /// The properties of a message that is to be sent, or that was kept.
        ///
        /// ```
        /// # use amqp_core::properties::BasicProperties;
        /// let properties = BasicProperties::new().content_type("text/plain").persistent().header("attempt", 1);
        /// assert_eq!(properties.delivery_mode, Some(2));
        /// ```
        #[derive(Clone, Default, PartialEq)]
        pub struct BasicProperties { $(
            $(#[$doc])*
            pub $field: Option<$Type>,
        )* }

        impl BasicProperties { $(
            $(#[$doc])*
            #[must_use]
            pub fn $field(mut self, $field: impl Into<$Type>) -> Self {
                self.$field = Some($field.into());
                self
            }
        )* }

        /// Only those that are set.
        impl fmt::Debug for BasicProperties {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut properties = f.debug_struct("BasicProperties");
                $(if let Some($field) = &self.$field {
                    properties.field(stringify!($field), $field);
                })*
                properties.finish()
            }
        }

        impl BasicProperties {
            /// The flags of the properties that are set.
            #[inline]
            fn flags(&self) -> u16 {
                0 $(| if self.$field.is_some() { $flag } else { 0 })*
            }

            fn put_list(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
                $(if let Some($field) = &self.$field {
                    $field.put(w)?;
                })*
                Ok(())
            }
        }

        impl<'a> Properties<'a> { $(
            $(#[$doc])*
            pub fn $view(&self) -> Option<$View> {
                self.find::<$Type>($flag)
            }
        )* }

        impl<'a> Properties<'a> {
            /// Goes over the properties that have a flag in `flags`; what is left comes after them.
            fn skip(flags: u16, r: &mut Reader<'a>) -> Result<(), Violation> {
                $(if flags & $flag != 0 {
                    <$Type as Property>::view(r)?;
                })*
                Ok(())
            }

            /// Everything but the headers.
            fn without_headers(&self) -> BasicProperties {
                BasicProperties { $($field: self.find::<$Type>($flag).and_then(<$Type as Property>::kept)),* }
            }
        }

        /// The flags of all properties.
        const ALL: u16 = 0 $(| $flag)*;
    };
}

properties! {
    /// What the body is, a MIME type by custom; for programs, the broker does not read it.
    content_type: ShortString, content_type: ShortStr<'a>, 0x8000;
    /// How the body is packed, `gzip` for example; for programs, the broker does not read it.
    content_encoding: ShortString, content_encoding: ShortStr<'a>, 0x4000;
    /// The headers: whatever the program says. A headers exchange routes by them, and the broker adds some, `x-death`
    /// for example.
    headers: Table, raw_headers: &'a [u8], 0x2000;
    /// 2 for a message that a durable queue writes to disk, 1 for one that it need not.
    delivery_mode: u8, delivery_mode: u8, 0x1000;
    /// From 0, where a queue with `x-max-priority` begins with the highest.
    priority: u8, priority: u8, 0x0800;
    /// Ties an answer to its question; for programs.
    correlation_id: ShortString, correlation_id: ShortStr<'a>, 0x0400;
    /// The queue that an answer should go to; for programs, except for RabbitMQ's `amq.rabbitmq.reply-to`.
    reply_to: ShortString, reply_to: ShortStr<'a>, 0x0200;
    /// After how many milliseconds in a queue the message is dropped, in decimal digits. Anything else closes the
    /// channel with 406.
    expiration: ShortString, expiration: ShortStr<'a>, 0x0100;
    /// The message's own name; for programs.
    message_id: ShortString, message_id: ShortStr<'a>, 0x0080;
    /// Seconds since 1970; application-defined, and not checked.
    timestamp: u64, timestamp: u64, 0x0040;
    /// The kind of message, AMQP's `type`; for programs.
    message_type: ShortString, message_type: ShortStr<'a>, 0x0020;
    /// The user who published; one that is not the connection's user closes the channel with 406.
    user_id: ShortString, user_id: ShortStr<'a>, 0x0010;
    /// The program that published; for programs.
    app_id: ShortString, app_id: ShortStr<'a>, 0x0008;
    /// Obsolete, and reserved in AMQP 0-9-1.
    cluster_id: ShortString, cluster_id: ShortStr<'a>, 0x0004;
}

/// The header in which a stream queue says where in it a message lies.
const STREAM_OFFSET: &str = "x-stream-offset";

impl BasicProperties {
    /// Whether the message lies in a stream queue, as [`Properties::is_of_stream_queue`].
    pub(crate) fn is_of_stream_queue(&self) -> bool {
        self.headers.as_ref().is_some_and(|headers| headers.get(STREAM_OFFSET).is_some())
    }

    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one of the headers, and leaves the others.
    #[must_use]
    pub fn header(mut self, key: impl Into<ShortString>, value: impl Into<Value>) -> Self {
        self.headers.get_or_insert_default().insert(key, value);
        self
    }

    /// Delivery mode 2: a durable queue writes the message to disk.
    #[must_use]
    pub fn persistent(self) -> Self {
        self.delivery_mode(2)
    }

    /// Returns whether no property is set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.flags() == 0
    }

    /// Appends flags and property list, the end of a content header. On an error nothing is appended.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let start = out.len();
        let flags = self.flags();
        let mut w = Writer::new(out);
        w.u16(flags);
        if flags == 0 {
            return Ok(());
        }
        let done = self.put_list(&mut w);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }
}

/// The properties of a message that arrived, lying where they arrived.
///
/// That they can be told apart is known; each is decoded when it is asked for, so that those that nobody asks for cost
/// nothing. The headers belong to the program that published the message, and may be anything: only they can fail.
#[derive(Clone, Copy)]
pub struct Properties<'a> {
    flags: u16,
    /// All octets, flags included.
    octets: &'a [u8],
    /// The octets after the flags.
    list: &'a [u8],
}

/// As [`BasicProperties`], without headers that cannot be decoded.
impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_owned_lossy().fmt(f)
    }
}

impl<'a> Properties<'a> {
    /// Takes `octets`, the end of a content header, for properties.
    ///
    /// 502 where they do not add up: a length that points out of them, octets left over, a property that AMQP does not
    /// have. The inside of the headers is not looked at, and nothing is allocated.
    #[inline]
    pub fn walk(octets: &'a [u8]) -> Result<Self, Violation> {
        match octets {
            [0, 0] => Ok(Self { flags: 0, octets, list: &[] }),
            _ => Self::walk_list(octets),
        }
    }

    /// Returns the headers. An `Err` where they cannot be decoded, which is no fault of the broker's; see
    /// [`raw_headers`](Self::raw_headers) then. They are decoded again each time.
    pub fn headers(&self) -> Option<Result<Table, Violation>> {
        self.raw_headers().map(Table::decode)
    }

    /// Returns all octets, flags included, as [`BasicProperties::put`] makes them.
    pub fn as_octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Returns a copy with its own octets; an `Err` where the headers cannot be decoded.
    pub fn to_owned(&self) -> Result<BasicProperties, Violation> {
        let headers = self.headers().transpose()?;
        Ok(BasicProperties { headers, ..self.without_headers() })
    }

    /// Returns a copy with its own octets, without the headers where they cannot be decoded.
    pub fn to_owned_lossy(&self) -> BasicProperties {
        let headers = self.headers().and_then(Result::ok);
        BasicProperties { headers, ..self.without_headers() }
    }

    /// Whether the message lies in a stream queue, which adds its offset: RabbitMQ closes the connection with 540 if such a
    /// message is rejected.
    pub(crate) fn is_of_stream_queue(&self) -> bool {
        self.headers().and_then(Result::ok).is_some_and(|headers| headers.get(STREAM_OFFSET).is_some())
    }

    fn walk_list(octets: &'a [u8]) -> Result<Self, Violation> {
        let mut r = Reader::new(octets);
        let flags = r.u16()?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = r.u16()?;
            if word & !CONTINUED != 0 {
                return Err(UNKNOWN);
            }
        }
        if flags & !(ALL | CONTINUED) != 0 {
            return Err(UNKNOWN);
        }
        let list = r.clone().rest();
        Self::skip(flags, &mut r)?;
        r.finish()?;
        Ok(Self { flags, octets, list })
    }

    /// The property with this flag, if it is there.
    fn find<P: Property>(&self, flag: u16) -> Option<P::View<'a>> {
        if self.flags & flag == 0 {
            return None;
        }
        let mut r = Reader::new(self.list);
        // Those before it have the higher flags. The walk has shown that nothing here fails.
        Self::skip(self.flags & !(flag | (flag - 1)), &mut r).ok()?;
        P::view(&mut r).ok()
    }
}

/// A type that a property can have, and how it looks while it lies in a buffer.
trait Property: Wire {
    type View<'a>;

    fn view<'a>(r: &mut Reader<'a>) -> Result<Self::View<'a>, Violation>;

    /// The view with its own octets; `None` for headers, which may fail.
    fn kept(view: Self::View<'_>) -> Option<Self>;
}

impl Property for ShortString {
    type View<'a> = ShortStr<'a>;

    fn view<'a>(r: &mut Reader<'a>) -> Result<ShortStr<'a>, Violation> {
        r.short_str()
    }
    fn kept(view: ShortStr<'_>) -> Option<Self> {
        Some(view.to_owned())
    }
}

impl Property for Table {
    type View<'a> = &'a [u8];

    fn view<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Violation> {
        r.long_str()
    }
    fn kept(_: &[u8]) -> Option<Self> {
        None
    }
}

impl Property for u8 {
    type View<'a> = Self;

    fn view(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u8()
    }
    fn kept(view: Self) -> Option<Self> {
        Some(view)
    }
}

impl Property for u64 {
    type View<'a> = Self;

    fn view(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u64()
    }
    fn kept(view: Self) -> Option<Self> {
        Some(view)
    }
}

/// The flag that says that another word of flags follows.
const CONTINUED: u16 = 0x0001;

const UNKNOWN: Violation = Violation::syntax("a message has a property that AMQP does not have");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::tests::{Choices, Choose};

    fn all() -> BasicProperties {
        BasicProperties::new()
            .content_type("text/plain")
            .content_encoding("gzip")
            .headers(Table::new().with("a", 1))
            .delivery_mode(2)
            .priority(9)
            .correlation_id("question")
            .reply_to("answers")
            .expiration("60000")
            .message_id("m-1")
            .timestamp(1_u64 << 40)
            .message_type("event")
            .user_id("guest")
            .app_id("pooka")
            .cluster_id("none")
    }

    /// Each property alone, in wire order, which is from the highest flag down.
    fn one_of_each() -> [BasicProperties; 14] {
        let new = BasicProperties::new;
        [
            new().content_type("text/plain"),
            new().content_encoding("gzip"),
            new().header("a", 1),
            new().persistent(),
            new().priority(9),
            new().correlation_id("question"),
            new().reply_to("answers"),
            new().expiration("60000"),
            new().message_id("m-1"),
            new().timestamp(1_u64 << 40),
            new().message_type("event"),
            new().user_id("guest"),
            new().app_id("pooka"),
            new().cluster_id("none"),
        ]
    }

    fn chosen(choices: &mut Choices<'_>) -> BasicProperties {
        fn maybe<T: Choose>(choices: &mut Choices<'_>) -> Option<T> {
            bool::choose(choices).then(|| T::choose(choices))
        }
        BasicProperties {
            content_type: maybe(choices),
            content_encoding: maybe(choices),
            headers: maybe(choices),
            delivery_mode: maybe(choices),
            priority: maybe(choices),
            correlation_id: maybe(choices),
            reply_to: maybe(choices),
            expiration: maybe(choices),
            message_id: maybe(choices),
            timestamp: maybe(choices),
            message_type: maybe(choices),
            user_id: maybe(choices),
            app_id: maybe(choices),
            cluster_id: maybe(choices),
        }
    }

    fn encoded(properties: &BasicProperties) -> Vec<u8> {
        let mut octets = Vec::new();
        properties.put(&mut octets).unwrap();
        octets
    }

    fn walked(octets: &[u8]) -> Result<BasicProperties, Violation> {
        Properties::walk(octets)?.to_owned()
    }

    fn code<T>(result: Result<T, Violation>) -> Option<u16> {
        result.err().and_then(|violation| violation.code)
    }

    #[test]
    fn no_properties_are_two_octets() {
        assert_eq!(encoded(&BasicProperties::new()), [0, 0]);
        assert!(BasicProperties::new().is_empty() && !all().is_empty());
        assert_eq!(walked(&[0, 0]), Ok(BasicProperties::new()));
        assert_eq!(code(Properties::walk(&[])), Some(502));
        assert_eq!(code(Properties::walk(&[0])), Some(502));
    }

    /// D-10
    #[test]
    fn each_property_survives_the_wire_alone_and_has_its_flag() {
        for (place, properties) in one_of_each().into_iter().enumerate() {
            let octets = encoded(&properties);
            assert_eq!(octets.get(..2), Some(&(0x8000_u16 >> place).to_be_bytes()[..]));
            assert_eq!(walked(&octets), Ok(properties));
        }
    }

    #[test]
    fn all_properties_survive_the_wire_together() {
        let octets = encoded(&all());
        assert_eq!(octets.get(..2), Some(&[0xff, 0xfc][..]));
        assert_eq!(walked(&octets), Ok(all()));
    }

    /// D-10: [`all`] as the codec of RabbitMQ 3.10.8 reads and writes it.
    #[test]
    fn all_properties_are_what_rabbitmq_makes_of_them() {
        let octets =
            b"\xff\xfc\x0atext/plain\x04gzip\0\0\0\x07\x01aI\0\0\0\x01\x02\x09\x08question\x07answers\x0560000\
            \x03m-1\0\0\x01\0\0\0\0\0\x05event\x05guest\x05pooka\x04none";
        assert_eq!(encoded(&all()), octets);
    }

    #[test]
    fn a_property_is_found_among_the_others() {
        let octets = encoded(&all());
        let properties = Properties::walk(&octets).unwrap();
        assert_eq!(properties.content_type().and_then(ShortStr::as_str), Some("text/plain"));
        assert_eq!(properties.content_encoding().and_then(ShortStr::as_str), Some("gzip"));
        assert_eq!(properties.raw_headers(), Some(&[1, b'a', b'I', 0, 0, 0, 1][..]));
        assert_eq!(properties.headers(), Some(Ok(Table::new().with("a", 1))));
        assert_eq!((properties.delivery_mode(), properties.priority()), (Some(2), Some(9)));
        assert_eq!(properties.correlation_id().and_then(ShortStr::as_str), Some("question"));
        assert_eq!(properties.reply_to().and_then(ShortStr::as_str), Some("answers"));
        assert_eq!(properties.expiration().and_then(ShortStr::as_str), Some("60000"));
        assert_eq!(properties.message_id().and_then(ShortStr::as_str), Some("m-1"));
        assert_eq!(properties.timestamp(), Some(1 << 40));
        assert_eq!(properties.message_type().and_then(ShortStr::as_str), Some("event"));
        assert_eq!(properties.user_id().and_then(ShortStr::as_str), Some("guest"));
        assert_eq!(properties.app_id().and_then(ShortStr::as_str), Some("pooka"));
        assert_eq!(properties.cluster_id().and_then(ShortStr::as_str), Some("none"));
        assert_eq!(properties.as_octets(), octets);
    }

    #[test]
    fn a_property_that_is_not_there_is_not_found() {
        let octets = encoded(&BasicProperties::new().priority(1));
        let properties = Properties::walk(&octets).unwrap();
        assert_eq!((properties.priority(), properties.delivery_mode(), properties.timestamp()), (Some(1), None, None));
        assert_eq!((properties.content_type(), properties.cluster_id(), properties.headers()), (None, None, None));
    }

    #[test]
    fn the_list_must_add_up() {
        let octets = encoded(&all());
        for end in 0..octets.len() {
            assert_eq!(code(Properties::walk(octets.get(..end).unwrap())), Some(502), "cut at {end}");
        }
        for octets in [octets, vec![0, 0]] {
            assert_eq!(code(Properties::walk(&[octets, vec![0]].concat())), Some(502));
        }
    }

    /// Faults 8.
    #[test]
    fn headers_that_nobody_can_decode_are_the_applications_affair() {
        // Headers of 3 octets, of the type `?`, then priority 5.
        let octets = [0x28, 0, 0, 0, 0, 3, 1, b'a', b'?', 5];
        let properties = Properties::walk(&octets).unwrap();
        assert_eq!(properties.headers().map(code), Some(Some(502)));
        assert_eq!(properties.raw_headers(), Some(&[1, b'a', b'?'][..]));
        assert_eq!(properties.priority(), Some(5));
        assert_eq!(code(properties.to_owned()), Some(502));
        assert_eq!(properties.to_owned_lossy(), BasicProperties::new().priority(5));
    }

    #[test]
    fn headers_may_not_reach_out_of_the_list() {
        assert_eq!(code(Properties::walk(&[0x28, 0, 0, 0, 0, 5, 1, b'a', b'V', 5])), Some(502));
        assert_eq!(code(Properties::walk(&[0x20, 0, 0xff, 0xff, 0xff, 0xff])), Some(502));
    }

    #[test]
    fn words_of_flags_may_be_continued_but_hold_nothing_that_we_know() {
        assert_eq!(walked(&[0x08, 0x01, 0, 0, 7]), Ok(BasicProperties::new().priority(7)));
        assert_eq!(walked(&[0x08, 0x01, 0, 1, 0, 1, 0, 0, 7]), Ok(BasicProperties::new().priority(7)));
        assert_eq!(walked(&[0, 1, 0, 0]), Ok(BasicProperties::new()));
        for octets in [&[0, 1][..], &[0, 1, 0], &[0, 1, 0, 1], &[0, 1, 0x80, 0, 0], &[0, 1, 0, 2], &[0, 2]] {
            assert_eq!(code(Properties::walk(octets)), Some(502), "{octets:?}");
        }
    }

    #[test]
    fn properties_need_not_be_utf_8() {
        let properties = BasicProperties::new().correlation_id(vec![0xff, 0]);
        let octets = encoded(&properties);
        assert_eq!(Properties::walk(&octets).unwrap().correlation_id().map(ShortStr::as_str), Some(None));
        assert_eq!(walked(&octets), Ok(properties));
    }

    /// Faults 11, PR19.
    #[test]
    fn what_cannot_be_sent_leaves_nothing_behind() {
        let mut octets = vec![1, 2, 3];
        let properties = BasicProperties::new().priority(1).app_id("x".repeat(256));
        assert_eq!(properties.put(&mut octets), Err(Invalid::NameTooLong(256)));
        assert_eq!(octets, [1, 2, 3]);
    }

    #[test]
    fn one_header_is_added_to_the_others() {
        let properties = BasicProperties::new().header("a", 1).header("b", "two").header("a", 3);
        assert_eq!(properties.headers, Some(Table::new().with("a", 3).with("b", "two")));
    }

    proptest! {
        #[test]
        fn any_properties_survive_the_wire(octets: Vec<u8>) {
            let properties = chosen(&mut Choices(&octets));
            prop_assert_eq!(walked(&encoded(&properties)), Ok(properties));
        }

        /// PR16.
        #[test]
        fn any_octets_are_properties_or_an_error(octets: Vec<u8>) {
            if let Ok(properties) = Properties::walk(&octets) {
                let _ = (properties.to_owned(), properties.to_owned_lossy());
            }
        }

        /// Octets that resemble properties get further than octets that do not.
        #[test]
        fn properties_with_one_octet_changed_are_properties_or_an_error(place: prop::sample::Index, octet: u8) {
            let mut octets = encoded(&all());
            *place.get_mut(&mut octets) = octet;
            if let Ok(properties) = Properties::walk(&octets) {
                let _ = (properties.to_owned(), properties.to_owned_lossy());
            }
        }
    }
}
