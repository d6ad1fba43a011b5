//! The elements of the protocol: integers, bits and strings, in network order [§4.2.5].

use crate::wire::{
    fault::{Invalid, Violation},
    secret::Secret,
    strings::ShortStr,
    table::Value,
};

/// An element of a method's arguments: how it is written, how it is read, and what it is as a field of a table.
pub trait Wire: Sized {
    /// Appends the element; on an error the octets that were already appended are the caller's to take back.
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid>;

    /// Takes the element from the front; 502 where the octets do not suffice.
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation>;

    /// The element as a table's field, for comparisons; `None` for a [`Secret`] and for integers over [`i64::MAX`].
    fn value(&self) -> Option<Value>;
}

/// Appends elements to a buffer.
///
/// Successive [bits](Self::bool) share octets and everything else begins a new one [§4.2.5.2].
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// How many bits of the last octet are taken; 0 where the last octet is not one of bits.
    bits: u8,
}

impl<'a> Writer<'a> {
    /// Writes to the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, bits: 0 }
    }

    /// One octet.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.octets(&[value]);
    }

    /// Two octets.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.octets(&value.to_be_bytes());
    }

    /// Four octets.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.octets(&value.to_be_bytes());
    }

    /// Eight octets.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.octets(&value.to_be_bytes());
    }

    /// One bit: the next free one of the octet that the previous bit went to, from the lowest up, or of a new octet.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        if self.bits == 0 {
            self.out.push(0);
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(value) << self.bits;
        }
        self.bits = (self.bits + 1) % 8;
    }

    /// Writes a short string: one octet of length and at most 255 of content.
    #[inline]
    pub fn short(&mut self, octets: &[u8]) -> Result<(), Invalid> {
        let length = u8::try_from(octets.len()).map_err(|_| Invalid::NameTooLong(octets.len()))?;
        self.u8(length);
        self.octets(octets);
        Ok(())
    }

    /// Writes a long string: four octets of length and less than 2^32 of content.
    #[inline]
    pub fn long(&mut self, octets: &[u8]) -> Result<(), Invalid> {
        let length = u32::try_from(octets.len()).map_err(|_| Invalid::ValueTooLong(octets.len()))?;
        self.u32(length);
        self.octets(octets);
        Ok(())
    }

    /// Octets as they are, without a length.
    #[inline]
    pub fn octets(&mut self, octets: &[u8]) {
        self.bits = 0;
        self.out.extend_from_slice(octets);
    }

    /// Writes what `write` writes, preceded by its length in four octets.
    pub(crate) fn counted(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Invalid>) -> Result<(), Invalid> {
        let start = self.out.len();
        self.u32(0);
        write(self)?;
        self.bits = 0;
        if let Some((count, content)) = self.out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut) {
            *count = u32::try_from(content.len()).map_err(|_| Invalid::ValueTooLong(content.len()))?.to_be_bytes();
        }
        Ok(())
    }
}

/// Takes elements from the front of what a frame holds, and never more than there is.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    octets: &'a [u8],
    /// The bits that were not taken yet, the next one lowest.
    bits: u8,
    /// How many they are.
    bits_left: u8,
}

impl<'a> Reader<'a> {
    /// Reads `octets` from their start.
    #[inline]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, bits: 0, bits_left: 0 }
    }

    /// One octet.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Violation> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two octets.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Violation> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four octets.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Violation> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight octets.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Violation> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// One bit: the next one of the octet that the previous bit came from, or the lowest of a new octet.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Violation> {
        if self.bits_left == 0 {
            self.bits = self.u8()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    /// Returns a short string, not necessarily UTF-8.
    #[inline]
    pub fn short_str(&mut self) -> Result<ShortStr<'a>, Violation> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(ShortStr)
    }

    /// Returns the content of a long string.
    #[inline]
    pub fn long_str(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// `n` octets as they are.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Violation> {
        let (head, tail) = self.octets.split_at_checked(n).ok_or(TRUNCATED)?;
        self.octets = tail;
        self.bits_left = 0;
        Ok(head)
    }

    /// Returns all that is left, which may be nothing.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        self.bits_left = 0;
        std::mem::take(&mut self.octets)
    }

    /// Returns whether nothing is left. Bits of an octet that was begun do not count.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// 502 if anything is left.
    #[inline]
    pub fn finish(&self) -> Result<(), Violation> {
        if self.is_empty() { Ok(()) } else { Err(Violation::syntax("octets are left over after the last field")) }
    }

    /// `N` octets as they are.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, tail) = self.octets.split_first_chunk().ok_or(TRUNCATED)?;
        self.octets = tail;
        self.bits_left = 0;
        Ok(*head)
    }
}

impl Wire for u8 {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.u8(*self);
        Ok(())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u8()
    }
    fn value(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl Wire for u16 {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.u16(*self);
        Ok(())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u16()
    }
    fn value(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl Wire for u32 {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.u32(*self);
        Ok(())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u32()
    }
    fn value(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl Wire for u64 {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.u64(*self);
        Ok(())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.u64()
    }
    fn value(&self) -> Option<Value> {
        i64::try_from(*self).ok().map(Value::I64)
    }
}

impl Wire for bool {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.bool(*self);
        Ok(())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.bit()
    }
    fn value(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl Wire for Secret {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        w.long(self.expose())
    }
    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        r.long_str().map(|octets| octets.to_vec().into())
    }
    fn value(&self) -> Option<Value> {
        None
    }
}

const TRUNCATED: Violation = Violation::syntax("a field is longer than what encloses it");

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::strings::{LongString, ShortString};
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Random octets that values are made of, zeros when they are used up; so that proptest can shrink every value.
    pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

    impl Choices<'_> {
        pub(crate) fn octet(&mut self) -> u8 {
            let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
            self.0 = rest;
            *first
        }

        pub(crate) fn octets(&mut self) -> Vec<u8> {
            let length = usize::from(self.octet()).min(self.0.len());
            let (head, rest) = self.0.split_at(length);
            self.0 = rest;
            head.to_vec()
        }

        pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
            std::array::from_fn(|_| self.octet())
        }
    }

    /// A random value of every type that can be put on the wire.
    pub(crate) trait Choose {
        fn choose(choices: &mut Choices<'_>) -> Self;
    }

    macro_rules! choose {
        ($($Type:ty: $choices:ident => $value:expr;)*) => { $(
            impl Choose for $Type {
                fn choose($choices: &mut Choices<'_>) -> Self {
                    $value
                }
            }
        )* };
    }

    choose! {
        u8: choices => choices.octet();
        u16: choices => Self::from_be_bytes(choices.array());
        u32: choices => Self::from_be_bytes(choices.array());
        u64: choices => Self::from_be_bytes(choices.array());
        bool: choices => choices.octet() % 2 == 1;
        ShortString: choices => choices.octets().into();
        LongString: choices => choices.octets().into();
        Secret: choices => choices.octets().into();
    }

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut octets = Vec::new();
        write(&mut Writer::new(&mut octets));
        octets
    }

    #[test]
    fn integers_are_in_network_order() {
        let octets = written(|w| {
            w.u8(1);
            w.u16(0x0203);
            w.u32(0x0405_0607);
            w.u64(0x0809_0a0b_0c0d_0e0f);
        });
        assert_eq!(octets, (1..=15).collect::<Vec<u8>>());
        let mut r = Reader::new(&octets);
        assert_eq!(
            (r.u8(), r.u16(), r.u32(), r.u64()),
            (Ok(1), Ok(0x0203), Ok(0x0405_0607), Ok(0x0809_0a0b_0c0d_0e0f))
        );
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn successive_bits_share_an_octet_from_the_lowest_up() {
        let bits = [true, false, true, true, false, false, false, true, true, false];
        let octets = written(|w| bits.iter().for_each(|&bit| w.bool(bit)));
        assert_eq!(octets, [0b1000_1101, 0b01]);
        let mut r = Reader::new(&octets);
        assert_eq!(bits.map(|_| r.bit()), bits.map(Ok));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn a_field_between_bits_begins_a_new_octet_of_bits() {
        let octets = written(|w| {
            w.bool(true);
            w.bool(true);
            w.u8(0xff);
            w.bool(true);
            w.short(b"").unwrap();
            w.bool(false);
            w.bool(true);
        });
        assert_eq!(octets, [0b11, 0xff, 0b1, 0, 0b10]);
        let mut r = Reader::new(&octets);
        assert_eq!((r.bit(), r.bit(), r.u8(), r.bit()), (Ok(true), Ok(true), Ok(0xff), Ok(true)));
        assert_eq!((r.short_str().map(|s| s.len()), r.bit(), r.bit()), (Ok(0), Ok(false), Ok(true)));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn taking_octets_gives_up_the_bits_that_were_left() {
        let mut r = Reader::new(&[0xff, 0xff, 0]);
        assert_eq!((r.bit(), r.take(1), r.bit()), (Ok(true), Ok(&[0xff][..]), Ok(false)));
        let mut r = Reader::new(&[0xff, 7]);
        assert_eq!((r.bit(), r.rest()), (Ok(true), &[7][..]));
        assert_eq!(r.bit(), Err(TRUNCATED));
    }

    #[test]
    fn a_short_string_has_at_most_255_octets() {
        let mut octets = Vec::new();
        assert_eq!(Writer::new(&mut octets).short(&[b'x'; 255]), Ok(()));
        assert_eq!(octets.len(), 256);
        assert_eq!(Reader::new(&octets).short_str().map(|s| s.len()), Ok(255));
        let long = ShortString::from("x".repeat(256));
        assert_eq!(long.put(&mut Writer::new(&mut octets)), Err(Invalid::NameTooLong(256)));
        assert_eq!(octets.len(), 256, "nothing was written");
    }

    #[test]
    fn a_lying_length_is_an_error_and_takes_nothing() {
        assert_eq!(Reader::new(&[3, b'a', b'b']).short_str(), Err(TRUNCATED));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, b'a']).long_str(), Err(TRUNCATED));
        let mut r = Reader::new(&[1, 2]);
        assert_eq!((r.take(3), r.u32(), r.take(usize::MAX)), (Err(TRUNCATED), Err(TRUNCATED), Err(TRUNCATED)));
        assert_eq!(r.take(2), Ok(&[1, 2][..]));
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        let mut r = Reader::new(&[1, 2]);
        assert_eq!(r.u8(), Ok(1));
        assert_eq!(r.finish().map_err(|violation| violation.code), Err(Some(502)));
    }

    #[test]
    fn a_string_that_is_not_utf_8_is_kept_and_shown_lossily() {
        let mut r = Reader::new(&[2, 0xff, b'a']);
        let borrowed = r.short_str().unwrap();
        let owned = borrowed.to_owned();
        assert_eq!((borrowed.as_bytes(), borrowed.as_str()), (&[0xff, b'a'][..], None));
        assert_eq!((owned.as_bytes(), owned.as_str()), (&[0xff, b'a'][..], None));
        assert_eq!(format!("{borrowed} {owned:?}"), "\u{fffd}a \"\u{fffd}a\"");
        assert_eq!(format!("{:?}", LongString::from(vec![0xff])), "\"\u{fffd}\"");
    }

    #[test]
    fn strings_compare_by_their_octets() {
        let owned = ShortString::from("hello");
        assert!(owned == "hello" && owned == *"hello" && owned.as_short_str() == "hello");
        assert!(owned == owned.as_short_str() && owned.as_short_str() == owned);
        let [upper, longer] = ["Hello", "hello!"].map(ShortString::from);
        assert!(upper < owned && owned < longer);
        let map = HashMap::from([(owned.clone(), 1)]);
        assert_eq!(map.get(owned.as_short_str().as_bytes()), Some(&1));
    }

    #[test]
    fn a_counted_block_says_how_long_it_is() {
        let octets = written(|w| {
            w.counted(|w| {
                w.u8(7);
                w.counted(|w| w.short(b"abc"))
            })
            .unwrap();
        });
        assert_eq!(octets, [0, 0, 0, 9, 7, 0, 0, 0, 4, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn a_secret_has_no_value_to_compare_with() {
        assert_eq!(Secret::from("x").value(), None);
        assert_eq!(ShortString::from("x").value(), Some(Value::from("x")));
        assert_eq!((u64::MAX.value(), 7u64.value()), (None, Some(Value::I64(7))));
    }

    proptest! {
        #[test]
        fn any_octets_can_be_read_in_any_way(octets: Vec<u8>, ways: Vec<u8>) {
            let mut r = Reader::new(&octets);
            for way in ways {
                let _ = match way % 8 {
                    0 => r.u8().map(drop),
                    1 => r.u16().map(drop),
                    2 => r.u32().map(drop),
                    3 => r.u64().map(drop),
                    4 => r.bit().map(drop),
                    5 => r.short_str().map(drop),
                    6 => r.long_str().map(drop),
                    _ => r.take(usize::from(way)).map(drop),
                };
            }
            prop_assert!(r.rest().len() <= octets.len());
        }
    }
}
