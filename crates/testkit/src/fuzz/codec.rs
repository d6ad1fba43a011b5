//! Frames, methods, tables and properties: what was read can be written, and is then read as the same.

use amqp_core::{
    BasicProperties, MethodId, Properties, Table, Value,
    error::Invalid,
    frame::Frame,
    spec::Method,
    wire::{Reader, ShortStr, Wire, Writer},
};
use std::sync::OnceLock;

/// Frames, one after the other: none is seen before its last octet, all that are read can be written and read again.
pub fn frames(octets: &[u8]) {
    let mut rest = octets;
    while let Some((frame, taken)) = first_frame(rest) {
        let mut written = vec![];
        if encodable(frame.encode(&mut written)) {
            assert_eq!(Frame::decode(&written), Ok(Some((frame, written.len()))), "what was written is read");
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
}

/// The frame at the front, after a look at what its beginnings are.
fn first_frame(octets: &[u8]) -> Option<(Frame<'_>, usize)> {
    let whole = Frame::decode(octets);
    let end = match &whole {
        Ok(Some((_, taken))) => *taken,
        _ => octets.len().min(64),
    };
    assert!(end <= octets.len(), "a frame is no longer than what there is");
    for cut in (0..end).rev().take(64) {
        let begun = Frame::decode(octets.get(..cut).unwrap_or_default());
        match &whole {
            Ok(Some(_)) | Ok(None) => assert!(matches!(begun, Ok(None) | Err(_)), "a frame at {cut} of {end}"),
            Err(_) => assert!(begun == Ok(None) || begun == whole, "{begun:?} at {cut}, and later {whole:?}"),
        }
        if whole.is_ok() {
            assert_eq!(begun, Ok(None), "nothing is wrong with a frame of which not all is here");
        }
    }
    whole.ok().flatten().filter(|(_, taken)| *taken > 0)
}

/// Methods: the first octet chooses one of those that exist, the others are its arguments. Also without that help.
pub fn methods(octets: &[u8]) {
    method(octets);
    let Some((choice, arguments)) = octets.split_first() else { return };
    let all = every_method();
    let Some(id) = usize::from(*choice).checked_rem(all.len()).and_then(|at| all.get(at)) else { return };
    method(&[&id.class.to_be_bytes(), &id.method.to_be_bytes(), arguments].concat());
}

/// Every method that has a name.
fn every_method() -> &'static [MethodId] {
    static ALL: OnceLock<Vec<MethodId>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = (0..=100).flat_map(|class| (0..=200).map(move |method| MethodId { class, method }));
        all.filter(|id| id.name().is_some()).collect()
    })
}

fn method(payload: &[u8]) {
    let Ok(method) = Method::get(payload) else { return };
    assert!(payload.starts_with(&method.id().class.to_be_bytes()), "{method:?} has the class that was asked for");
    assert_eq!(method.id().name(), Some(method.name()));
    let mut written = vec![];
    if encodable(method.put(&mut written)) {
        assert_eq!(Method::get(&written).as_ref(), Ok(&method), "what was written is read");
        // Only bits that mean nothing, and types that two letters stand for, are written otherwise than they were read.
        assert_eq!(written.len(), payload.len(), "{method:?} is as long as it was");
    } else {
        assert!(written.is_empty(), "what cannot be written leaves nothing");
    }
    assert!(!format!("{method:?}").is_empty());
}

/// Tables, and the properties of messages.
pub fn tables(octets: &[u8]) {
    if let Ok(table) = Table::decode(octets) {
        let mut written = vec![];
        if encodable(table.put(&mut Writer::new(&mut written))) {
            let mut reader = Reader::new(&written);
            assert_eq!(<Table as Wire>::get(&mut reader).as_ref(), Ok(&table), "what was written is read");
            assert!(reader.is_empty());
            assert_eq!(written.len(), octets.len() + 4, "{table:?} is as long as it was");
        }
        for (key, value) in table.iter() {
            look_at(value);
            assert!(key.as_str().is_none_or(|key| table.get(key).is_some()), "what is there is found");
        }
        assert!(!format!("{table:?}").is_empty());
    }
    if let Ok(properties) = Properties::walk(octets) {
        self::properties(properties, octets);
    }
}

fn properties(read: Properties<'_>, octets: &[u8]) {
    assert_eq!(read.as_octets(), octets);
    let lossy = read.to_owned_lossy();
    let headers = read.headers();
    match read.to_owned() {
        Ok(owned) => {
            let mut written = vec![];
            if encodable(owned.put(&mut written)) {
                assert_eq!(owned, lossy, "nothing was lost");
                let again = Properties::walk(&written).and_then(|again| again.to_owned());
                assert_eq!(again.as_ref(), Ok(&owned), "what was written is read");
            } else {
                assert!(written.is_empty(), "what cannot be written leaves nothing");
            }
        }
        Err(violation) => {
            assert_eq!(headers.map(Result::err), Some(Some(violation)), "only headers can be wrong");
            assert_eq!(lossy.headers, None);
            assert_eq!(BasicProperties { headers: None, ..lossy.clone() }, lossy);
        }
    }
    assert_eq!(read.content_type().map(ShortStr::to_owned), lossy.content_type);
    assert_eq!((read.delivery_mode(), read.timestamp()), (lossy.delivery_mode, lossy.timestamp));
    assert_eq!(read.cluster_id().map(ShortStr::to_owned), lossy.cluster_id);
    assert!(!format!("{read:?}").is_empty());
}

/// Asks a value for all that it can be taken for.
fn look_at(value: &Value) {
    let kinds =
        [value.as_bool().is_some(), value.as_i64().is_some(), value.as_str().is_some(), value.as_table().is_some()];
    assert!(kinds.into_iter().filter(|is| *is).count() <= 1, "{value:?} is one thing");
    let _ = value.as_time();
    match value {
        Value::Array(values) => values.iter().for_each(look_at),
        Value::Table(table) => table.iter().for_each(|(_, value)| look_at(value)),
        _ => {}
    }
}

/// What was read can be written, but for numbers that are none: they are not sent.
fn encodable(written: Result<(), Invalid>) -> bool {
    match written {
        Ok(()) => true,
        Err(Invalid::NotFinite) => false,
        Err(other) => panic!("what was read cannot be written: {other:?}"),
    }
}
