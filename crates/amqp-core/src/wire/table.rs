//! Field tables: named values of any type, nested as deep as need be [§4.2.5.5].

use std::{
    fmt,
    num::TryFromIntError,
    time::{Duration, SystemTime},
};

use crate::wire::{
    codec::{Reader, Wire, Writer},
    fault::{Invalid, Violation},
    strings::{LongString, ShortStr, ShortString},
};

/// Named values, in the order in which they were inserted or arrived.
///
/// Two tables are equal when they hold the same in the same order. A table that the broker sent may hold one name
/// twice, which AMQP leaves undefined: [`get`](Self::get) finds the first, [`iter`](Self::iter) shows both.
///
/// ```
/// # use amqp_core::table::Table;
/// let arguments = Table::new().with("x-queue-type", "quorum").with("x-max-length", 1000);
/// assert_eq!(arguments.get("x-max-length"), Some(&1000.into()));
/// ```
#[doc(alias = "FieldTable")]
#[derive(Clone, Default, PartialEq)]
pub struct Table(Vec<(ShortString, Value)>);

impl Table {
    /// Returns a table that holds nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets `key`; gives back the value that it had before. A key over 255 octets is refused when it is sent.
    pub fn insert(&mut self, key: impl Into<ShortString>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(present, _)| *present == key) {
            Some((_, present)) => Some(std::mem::replace(present, value)),
            None => {
                self.0.push((key, value));
                None
            }
        }
    }

    /// Returns the table with `key` set.
    #[must_use]
    pub fn with(mut self, key: impl Into<ShortString>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Returns the value of `key`, searched for from the front.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(present, _)| present == key).map(|(_, value)| value)
    }

    /// Takes `key` out and keeps the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let place = self.0.iter().position(|(present, _)| present == key)?;
        Some(self.0.remove(place).1)
    }

    /// Returns all keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ShortString, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Returns how many fields there are; those of nested tables do not count.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the table whose fields are `octets`, as they are on the wire after a table's length.
    ///
    /// 502 where a type is unknown, a length points out of what encloses it, or the nesting is deeper than 32.
    pub fn decode(octets: &[u8]) -> Result<Self, Violation> {
        get_fields(octets, 1)
    }
}

impl Wire for Table {
    fn put(&self, w: &mut Writer<'_>) -> Result<(), Invalid> {
        put_table(self, w, 1)
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Violation> {
        Self::decode(r.long_str()?)
    }

    fn value(&self) -> Option<Value> {
        Some(self.clone().into())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<ShortString>, V: Into<Value>> Extend<(K, V)> for Table {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, fields: I) {
        for (key, value) in fields {
            self.insert(key, value);
        }
    }
}

impl<K: Into<ShortString>, V: Into<Value>> FromIterator<(K, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let mut table = Self::new();
        table.extend(fields);
        table
    }
}

impl IntoIterator for Table {
    type Item = (ShortString, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A value in a table, with the letter that RabbitMQ knows its type by.
///
/// Each is sent in exactly the width that its name says. Integers over [`i64::MAX`] have no type.
#[doc(alias = "AMQPValue")]
#[doc(alias = "FieldValue")]
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`, and `U` where another client sent it through the broker.
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L`, which RabbitMQ takes for the same.
    I64(i64),
    /// `f`; RabbitMQ reads finite numbers only, others are not sent.
    F32(f32),
    /// `d`; RabbitMQ reads finite numbers only, others are not sent.
    F64(f64),
    /// `D`: `value` divided by 10 to the power of `scale`.
    Decimal {
        /// How many of the digits are after the decimal point.
        scale: u8,
        /// All digits.
        value: i32,
    },
    /// `T`: seconds since 1970. Nobody checks them, and some programs send milliseconds.
    Timestamp(u64),
    /// `S`: text by custom, octets by right.
    LongString(LongString),
    /// `x`: octets.
    Bytes(Vec<u8>),
    /// `A`: values of any types, also of different ones.
    Array(Vec<Self>),
    /// `F`
    Table(Table),
    /// `V`: there is a field, and it has no value.
    #[default]
    Void,
}

impl Value {
    /// Returns the truth value of a [`Bool`](Self::Bool).
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, of an integer of any width.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(value) => Some(value.into()),
            Self::U8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the text of a [`LongString`](Self::LongString) that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongString(text) => text.as_str(),
            _ => None,
        }
    }

    /// Returns the number of an [`F32`](Self::F32) or an [`F64`](Self::F64).
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the octets of a [`LongString`](Self::LongString) or of [`Bytes`](Self::Bytes).
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::LongString(text) => Some(text.as_bytes()),
            Self::Bytes(octets) => Some(octets),
            _ => None,
        }
    }

    /// Returns the values of an [`Array`](Self::Array).
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the fields of a [`Table`](Self::Table).
    pub fn as_table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns the time that a [`Timestamp`](Self::Timestamp) stands for; `None` also where the system cannot express it.
    pub fn as_time(&self) -> Option<SystemTime> {
        match self {
            Self::Timestamp(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*seconds)),
            _ => None,
        }
    }
}

/// Rust types that have one obvious type in a table.
macro_rules! values {
    ($($Type:ty => $Variant:ident),* $(,)?) => { $(
        impl From<$Type> for Value {
            fn from(value: $Type) -> Self {
                Self::$Variant(value.into())
            }
        }
    )* };
}

values! {
    bool => Bool,
    i8 => I8,
    u8 => U8,
    i16 => I16,
    u16 => U16,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    f32 => F32,
    f64 => F64,
    &str => LongString,
    String => LongString,
    &String => LongString,
    LongString => LongString,
    ShortStr<'_> => LongString,
    Vec<u8> => Bytes,
    &[u8] => Bytes,
    Vec<Value> => Array,
    Table => Table,
}

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        Self::I64(value as i64)
    }
}

/// Integers that need not fit into 64 bits with a sign, the largest that a table has.
macro_rules! large_integers {
    ($($Type:ty),*) => { $(
        impl TryFrom<$Type> for Value {
            type Error = TryFromIntError;

            fn try_from(value: $Type) -> Result<Self, TryFromIntError> {
                i64::try_from(value).map(Self::I64)
            }
        }
    )* };
}

large_integers!(u64, usize, i128, u128);

/// Several values of one type are an array; octets are not, but [`Value::Bytes`].
macro_rules! arrays {
    ($($Type:ty),* $(,)?) => { $(
        impl From<Vec<$Type>> for Value {
            fn from(values: Vec<$Type>) -> Self {
                values.into_iter().collect()
            }
        }

        impl<const N: usize> From<[$Type; N]> for Value {
            fn from(values: [$Type; N]) -> Self {
                values.into_iter().collect()
            }
        }
    )* };
}

arrays!(bool, i8, i16, u16, i32, u32, i64, f32, f64, &str, String, ShortString, LongString, Table);

impl<const N: usize> From<[Self; N]> for Value {
    fn from(values: [Self; N]) -> Self {
        Self::Array(values.into())
    }
}

impl From<&[&str]> for Value {
    fn from(values: &[&str]) -> Self {
        values.iter().copied().collect()
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(octets: [u8; N]) -> Self {
        Self::Bytes(octets.into())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(octets: &[u8; N]) -> Self {
        Self::Bytes(octets.as_slice().into())
    }
}

/// An array of them.
impl<V: Into<Self>> FromIterator<V> for Value {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl From<ShortString> for Value {
    fn from(name: ShortString) -> Self {
        Self::LongString(name.into_bytes().into())
    }
}

fn put_table(table: &Table, w: &mut Writer<'_>, level: usize) -> Result<(), Invalid> {
    if level > MAX_LEVELS {
        return Err(Invalid::TooDeep);
    }
    w.counted(|w| {
        for (key, value) in &table.0 {
            w.short(key.as_bytes())?;
            put_value(value, w, level)?;
        }
        Ok(())
    })
}

fn put_array(values: &[Value], w: &mut Writer<'_>, level: usize) -> Result<(), Invalid> {
    if level > MAX_LEVELS {
        return Err(Invalid::TooDeep);
    }
    w.counted(|w| values.iter().try_for_each(|value| put_value(value, w, level)))
}

/// Appends the letter and the content of a value that lies in a table or an array of `level`.
fn put_value(value: &Value, w: &mut Writer<'_>, level: usize) -> Result<(), Invalid> {
    let mut tagged = |letter: u8, content: &[u8]| {
        w.u8(letter);
        w.octets(content);
        Ok(())
    };
    match value {
        Value::Bool(value) => tagged(b't', &[u8::from(*value)]),
        Value::I8(value) => tagged(b'b', &value.to_be_bytes()),
        Value::U8(value) => tagged(b'B', &value.to_be_bytes()),
        Value::I16(value) => tagged(b's', &value.to_be_bytes()),
        Value::U16(value) => tagged(b'u', &value.to_be_bytes()),
        Value::I32(value) => tagged(b'I', &value.to_be_bytes()),
        Value::U32(value) => tagged(b'i', &value.to_be_bytes()),
        Value::I64(value) => tagged(b'l', &value.to_be_bytes()),
        Value::F32(value) if value.is_finite() => tagged(b'f', &value.to_be_bytes()),
        Value::F64(value) if value.is_finite() => tagged(b'd', &value.to_be_bytes()),
        Value::F32(_) | Value::F64(_) => Err(Invalid::NotFinite),
        Value::Decimal { scale, value } => {
            tagged(b'D', &[*scale])?;
            w.octets(&value.to_be_bytes());
            Ok(())
        }
        Value::Timestamp(seconds) => tagged(b'T', &seconds.to_be_bytes()),
        Value::LongString(text) => {
            w.u8(b'S');
            w.long(text.as_bytes())
        }
        Value::Bytes(octets) => {
            w.u8(b'x');
            w.long(octets)
        }
        Value::Array(values) => {
            w.u8(b'A');
            put_array(values, w, level + 1)
        }
        Value::Table(table) => {
            w.u8(b'F');
            put_table(table, w, level + 1)
        }
        Value::Void => tagged(b'V', &[]),
    }
}

fn get_fields(octets: &[u8], level: usize) -> Result<Table, Violation> {
    if level > MAX_LEVELS {
        return Err(TOO_DEEP);
    }
    let mut r = Reader::new(octets);
    let mut fields = Vec::new();
    while !r.is_empty() {
        fields.push((r.short_str()?.to_owned(), get_value(&mut r, level)?));
    }
    Ok(Table(fields))
}

fn get_values(octets: &[u8], level: usize) -> Result<Vec<Value>, Violation> {
    if level > MAX_LEVELS {
        return Err(TOO_DEEP);
    }
    let mut r = Reader::new(octets);
    let mut values = Vec::new();
    while !r.is_empty() {
        values.push(get_value(&mut r, level)?);
    }
    Ok(values)
}

/// Takes the letter and the content of a value that lies in a table or an array of `level`.
fn get_value(r: &mut Reader<'_>, level: usize) -> Result<Value, Violation> {
    Ok(match r.u8()? {
        b't' => Value::Bool(r.u8()? != 0),
        b'b' => Value::I8(i8::from_be_bytes(r.array()?)),
        b'B' => Value::U8(r.u8()?),
        b's' | b'U' => Value::I16(i16::from_be_bytes(r.array()?)),
        b'u' => Value::U16(r.u16()?),
        b'I' => Value::I32(i32::from_be_bytes(r.array()?)),
        b'i' => Value::U32(r.u32()?),
        b'l' | b'L' => Value::I64(i64::from_be_bytes(r.array()?)),
        b'f' => Value::F32(f32::from_be_bytes(r.array()?)),
        b'd' => Value::F64(f64::from_be_bytes(r.array()?)),
        b'D' => Value::Decimal { scale: r.u8()?, value: i32::from_be_bytes(r.array()?) },
        b'T' => Value::Timestamp(r.u64()?),
        b'S' => Value::LongString(r.long_str()?.into()),
        b'x' => Value::Bytes(r.long_str()?.to_vec()),
        b'A' => Value::Array(get_values(r.long_str()?, level + 1)?),
        b'F' => Value::Table(get_fields(r.long_str()?, level + 1)?),
        b'V' => Value::Void,
        _ => return Err(Violation::syntax("a table holds a field of an unknown type")),
    })
}

/// How many tables and arrays may lie in each other, the outermost table included.
const MAX_LEVELS: usize = 32;

const TOO_DEEP: Violation = Violation::syntax("a table is nested more than 32 levels deep");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::tests::{Choices, Choose};

    impl Choose for Table {
        fn choose(choices: &mut Choices<'_>) -> Self {
            chosen_table(choices, 1)
        }
    }

    fn chosen_table(choices: &mut Choices<'_>, level: usize) -> Table {
        let fields = choices.octet() % 6;
        Table((0..fields).map(|_| (choices.octets().into(), chosen_value(choices, level))).collect())
    }

    fn chosen_value(choices: &mut Choices<'_>, level: usize) -> Value {
        match choices.octet() % 17 {
            0 => Value::Void,
            1 => Value::Bool(bool::choose(choices)),
            2 => Value::I8(i8::from_be_bytes(choices.array())),
            3 => Value::U8(choices.octet()),
            4 => Value::I16(i16::from_be_bytes(choices.array())),
            5 => Value::U16(u16::choose(choices)),
            6 => Value::I32(i32::from_be_bytes(choices.array())),
            7 => Value::U32(u32::choose(choices)),
            8 => Value::I64(i64::from_be_bytes(choices.array())),
            9 => Value::F32(Some(f32::from_be_bytes(choices.array())).filter(|f| f.is_finite()).unwrap_or(1.5)),
            10 => Value::F64(Some(f64::from_be_bytes(choices.array())).filter(|f| f.is_finite()).unwrap_or(-2.5)),
            11 => Value::Decimal { scale: choices.octet(), value: i32::from_be_bytes(choices.array()) },
            12 => Value::Timestamp(u64::choose(choices)),
            13 => Value::LongString(LongString::choose(choices)),
            14 => Value::Bytes(choices.octets()),
            15 if level < MAX_LEVELS => {
                Value::Array((0..choices.octet() % 4).map(|_| chosen_value(choices, level + 1)).collect())
            }
            16 if level < MAX_LEVELS => Value::Table(chosen_table(choices, level + 1)),
            _ => Value::Void,
        }
    }

    fn one_of_each() -> Table {
        Table::new()
            .with("t", true)
            .with("b", -1i8)
            .with("B", 0xfeu8)
            .with("s", -2i16)
            .with("u", 0xfeffu16)
            .with("I", -3)
            .with("i", u32::MAX)
            .with("l", i64::MIN)
            .with("f", 1.5f32)
            .with("d", -2.5)
            .with("D", Value::Decimal { scale: 2, value: -314 })
            .with("T", Value::Timestamp(1 << 40))
            .with("S", "text")
            .with("x", vec![0u8, 0xff])
            .with("A", vec![Value::from(1), Value::from("two"), Value::Array(vec![Value::Void])])
            .with("F", Table::new().with("inner", false))
            .with("V", Value::Void)
    }

    fn encoded(table: &Table) -> Vec<u8> {
        let mut octets = Vec::new();
        table.put(&mut Writer::new(&mut octets)).unwrap();
        octets
    }

    fn decoded(octets: &[u8]) -> Result<Table, Violation> {
        let mut r = Reader::new(octets);
        let table: Table = Wire::get(&mut r)?;
        r.finish().map(|()| table)
    }

    /// A table, which holds a table or an array, which holds … so that there are `levels` of them.
    fn nested(levels: usize) -> Table {
        let innermost = if levels % 2 == 1 { Value::Table(Table::new()) } else { Value::Array(Vec::new()) };
        let value = (2..levels).fold(innermost, |inner, level| match level % 2 {
            0 => Value::Array(vec![inner]),
            _ => Value::Table(Table::new().with("n", inner)),
        });
        Table::new().with("n", value)
    }

    /// The same as octets, made from the inside out, which reaches depths that recursion does not.
    fn nested_octets(levels: usize, letter: u8) -> Vec<u8> {
        (1..levels).fold(vec![0; 4], |inner, level| {
            let mut fields = if letter == b'F' || level == levels - 1 { vec![1, b'n', letter] } else { vec![letter] };
            fields.extend(inner);
            let mut octets = u32::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
            octets.extend(fields);
            octets
        })
    }

    #[test]
    fn every_type_survives_the_wire() {
        let table = one_of_each();
        assert_eq!(decoded(&encoded(&table)), Ok(table));
    }

    /// Faults 9, D-5, D-6: `s` is RabbitMQ's, and every value is sent under the letter that RabbitMQ knows it by, in the
    /// width of its type.
    #[test]
    fn every_type_has_its_letter_and_its_width() {
        let widths = [
            ("t", 1),
            ("b", 1),
            ("B", 1),
            ("s", 2),
            ("u", 2),
            ("I", 4),
            ("i", 4),
            ("l", 8),
            ("f", 4),
            ("d", 8),
            ("D", 5),
            ("T", 8),
            ("S", 8),
            ("x", 6),
            ("V", 0),
        ];
        for (letter, width) in widths {
            let table = one_of_each();
            let octets = encoded(&Table::new().with(letter, table.get(letter).unwrap().clone()));
            assert_eq!(octets.get(5..7), Some([letter.as_bytes(), letter.as_bytes()].concat().as_slice()));
            assert_eq!(octets.len(), 7 + width, "{letter}");
        }
    }

    /// Faults 9, D-6.
    #[test]
    fn letters_that_are_never_sent_are_understood() {
        let octets =
            [0, 0, 0, 16, 1, b'a', b'U', 0xff, 0xfe, 1, b'b', b'L', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decoded(&octets), Ok(Table::new().with("a", -2i16).with("b", -1i64)));
    }

    /// D-6: RabbitMQ takes every octet but 0 for it.
    #[test]
    fn true_is_any_octet_but_zero() {
        for (octet, value) in [(0, false), (1, true), (2, true), (0xff, true)] {
            assert_eq!(decoded(&[0, 0, 0, 4, 1, b'a', b't', octet]), Ok(Table::new().with("a", value)));
        }
    }

    /// D-8: the octets are kept as they are, trailing zeros included.
    #[test]
    fn a_decimal_is_a_scale_and_a_signed_number() {
        let decimals = [(2, -314, [2, 0xff, 0xff, 0xfe, 0xc6]), (0, i32::MAX, [0, 0x7f, 0xff, 0xff, 0xff])];
        for (scale, value, octets) in decimals.into_iter().chain([(255, 500, [255, 0, 0, 1, 0xf4])]) {
            let table = Table::new().with("k", Value::Decimal { scale, value });
            let octets = [&[0, 0, 0, 8, 1, b'k', b'D'], &octets[..]].concat();
            assert_eq!(encoded(&table), octets);
            assert_eq!(decoded(&octets), Ok(table));
        }
    }

    /// Faults 9.
    #[test]
    fn an_unknown_type_is_a_syntax_error() {
        for letter in (0..=255).filter(|letter| !b"tbBsuUIilLfdDTSxAFV".contains(letter)) {
            let octets = [0, 0, 0, 11, 1, b'a', letter, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(decoded(&octets).map_err(|violation| violation.code), Err(Some(502)), "{letter}");
        }
    }

    #[test]
    fn a_table_cut_anywhere_is_an_error() {
        let octets = encoded(&one_of_each());
        for end in 0..octets.len() {
            let code = decoded(octets.get(..end).unwrap()).map_err(|violation| violation.code);
            assert_eq!(code, Err(Some(502)), "cut at {end}");
        }
    }

    /// Faults 8.
    #[test]
    fn a_length_may_not_point_out_of_its_table() {
        // The outer table has 12 octets; the inner string, array, table or byte array claims one more than is left.
        for letter in [b'S', b'x', b'A', b'F'] {
            let lying = [0, 0, 0, 12, 1, b'a', letter, 0, 0, 0, 6, 1, b'b', b'V', 1, b'c', b'V', 1, b'd', b'V'];
            let mut r = Reader::new(&lying);
            assert_eq!(<Table as Wire>::get(&mut r).map_err(|violation| violation.code), Err(Some(502)));
        }
        // The inner table ends amid its field, although the outer one has the octets that are missing.
        let lying = [0, 0, 0, 12, 1, b'a', b'F', 0, 0, 0, 3, 1, b'b', b'I', 0, 0];
        assert_eq!(decoded(&lying).map_err(|violation| violation.code), Err(Some(502)));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]).map_err(|violation| violation.code), Err(Some(502)));
    }

    /// Faults 7, PR17.
    #[test]
    fn tables_may_be_nested_32_levels_deep_and_no_deeper() {
        let deepest = nested(32);
        assert_eq!(decoded(&encoded(&deepest)), Ok(deepest));
        let mut octets = Vec::new();
        assert_eq!(nested(33).put(&mut Writer::new(&mut octets)), Err(Invalid::TooDeep));
        for letter in [b'F', b'A'] {
            assert!(decoded(&nested_octets(32, letter)).is_ok());
            assert_eq!(decoded(&nested_octets(33, letter)), Err(TOO_DEEP));
            assert_eq!(decoded(&nested_octets(3_000, letter)), Err(TOO_DEEP));
        }
    }

    /// PR19.
    #[test]
    fn numbers_that_rabbitmq_cannot_read_are_not_sent() {
        for value in [Value::F64(f64::NAN), Value::F64(f64::INFINITY), Value::F32(f32::NEG_INFINITY)] {
            let table = Table::new().with("a", vec![value]);
            assert_eq!(table.put(&mut Writer::new(&mut Vec::new())), Err(Invalid::NotFinite));
        }
    }

    #[test]
    fn a_key_over_255_octets_is_not_sent() {
        let table = Table::new().with("k".repeat(256), 1);
        assert_eq!(table.put(&mut Writer::new(&mut Vec::new())), Err(Invalid::NameTooLong(256)));
    }

    #[test]
    fn inserting_replaces_in_place() {
        let mut table = Table::new().with("a", 1).with("b", 2);
        assert_eq!(table.insert("a", 3), Some(Value::I32(1)));
        assert_eq!(table.insert("c", 4), None);
        assert_eq!(table, [("a", 3), ("b", 2), ("c", 4)].into_iter().collect());
        assert_eq!((table.remove("b"), table.remove("b"), table.len()), (Some(Value::I32(2)), None, 2));
        assert_eq!(table.iter().map(|(key, _)| key.to_string()).collect::<String>(), "ac");
    }

    #[test]
    fn a_name_that_was_sent_twice_is_kept_twice() {
        let octets = [0, 0, 0, 8, 1, b'a', b't', 1, 1, b'a', b't', 0];
        let table = decoded(&octets).unwrap();
        assert_eq!((table.len(), table.get("a")), (2, Some(&Value::Bool(true))));
        assert_eq!(encoded(&table), octets);
    }

    #[test]
    fn keys_and_texts_need_not_be_utf_8() {
        let octets = [0, 0, 0, 8, 1, 0xff, b'S', 0, 0, 0, 1, 0xfe];
        let table = decoded(&octets).unwrap();
        assert_eq!(format!("{table:?}"), "{\"\u{fffd}\": LongString(\"\u{fffd}\")}");
        assert_eq!(encoded(&table), octets);
    }

    /// D-7: a timestamp that no calendar has is a value like any other.
    #[test]
    fn a_timestamp_out_of_range_poisons_nothing() {
        assert_eq!(Value::Timestamp(0).as_time(), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(Value::Timestamp(1 << 33).as_time(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)));
        assert_eq!(Value::Timestamp(u64::MAX).as_time(), None);
        let table = Table::new().with("t", Value::Timestamp(u64::MAX));
        assert_eq!(decoded(&encoded(&table)), Ok(table));
    }

    #[test]
    fn integers_of_all_widths_compare_as_numbers() {
        let table = one_of_each();
        let numbers = ["b", "B", "s", "u", "I", "i", "l"].map(|key| table.get(key).and_then(Value::as_i64).unwrap());
        assert_eq!(numbers, [-1, 0xfe, -2, 0xfeff, -3, i64::from(u32::MAX), i64::MIN]);
        assert_eq!(
            (Value::Void.as_i64(), Value::from(1).as_bool(), Value::from("x").as_str()),
            (None, None, Some("x"))
        );
    }

    /// Trial T32.
    #[test]
    fn what_fits_becomes_a_value_and_comes_out_again() {
        let text = String::from("four");
        assert_eq!(Value::try_from(text.len()), Ok(Value::I64(4)));
        assert_eq!(Value::try_from(i64::MAX as u64), Ok(Value::I64(i64::MAX)));
        assert!(Value::try_from(u64::MAX).is_err() && Value::try_from(u128::MAX).is_err());
        assert_eq!(Value::try_from(-5_i128), Ok(Value::from(-5_isize)));
        let queues = Value::Array(vec!["a".into(), "b".into()]);
        assert_eq!(Value::from(["a", "b"]), queues);
        assert_eq!(Value::from(vec!["a", "b"]), queues);
        assert_eq!(Value::from(vec!["a".to_owned(), "b".to_owned()]), queues);
        assert_eq!(Value::from(["a", "b"].as_slice()), queues);
        assert_eq!(["a", "b"].into_iter().collect::<Value>(), queues);
        assert_eq!(Value::from([1, 2]).as_array(), Some(&[Value::I32(1), Value::I32(2)][..]));
        assert_eq!(Value::from([1_u8, 2]), Value::Bytes(vec![1, 2]));
        assert_eq!(Value::from(b"ab").as_bytes(), Some(&b"ab"[..]));
        assert_eq!((Value::from("ab").as_bytes(), Value::from(1).as_bytes()), (Some(&b"ab"[..]), None));
        assert_eq!((Value::from(0.5_f32).as_f64(), Value::from(0.5).as_f64()), (Some(0.5), Some(0.5)));
        assert_eq!((Value::from(1).as_f64(), Value::from("x").as_array()), (None, None));
    }

    /// Faults 38.
    #[test]
    fn decoding_takes_time_in_proportion_to_the_octets() {
        // A million keys that are all the same: looking each of them up would not end.
        let octets = [1, b'a', b'V'].repeat(1_000_000);
        assert_eq!(Table::decode(&octets).map(|table| table.len()), Ok(1_000_000));
    }

    proptest! {
        #[test]
        fn any_table_survives_the_wire(octets: Vec<u8>) {
            let table = Table::choose(&mut Choices(&octets));
            prop_assert_eq!(decoded(&encoded(&table)), Ok(table));
        }

        /// PR16.
        #[test]
        fn any_octets_are_a_table_or_an_error(octets: Vec<u8>) {
            let _ = (Table::decode(&octets), decoded(&octets));
        }

        /// Octets that resemble a table get further than octets that do not.
        #[test]
        fn a_table_with_one_octet_changed_is_a_table_or_an_error(place: prop::sample::Index, octet: u8) {
            let mut octets = encoded(&one_of_each());
            *place.get_mut(&mut octets) = octet;
            let _ = decoded(&octets);
        }
    }
}
