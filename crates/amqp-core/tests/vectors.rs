//! What another implementation made: the frames of `vectors/make.py`.
#![allow(clippy::unwrap_used)]

use amqp_core::{
    frame::Frame,
    spec::{Method, MethodId},
    table::Value,
};
use std::collections::HashSet;

/// As pika 1.4.4 encodes them: each a method, and a content header with the method's arguments as its headers.
const FRAMES: &[u8] = include_bytes!("vectors/pika.frames");

fn frames() -> Vec<(Frame<'static>, &'static [u8])> {
    let mut rest = FRAMES;
    let mut frames = vec![];
    while let Some((frame, taken)) = Frame::decode(rest).unwrap() {
        let (octets, behind) = rest.split_at(taken);
        frames.push((frame, octets));
        rest = behind;
    }
    assert!(rest.is_empty(), "{} octets are no frame", rest.len());
    frames
}

/// PR20: pika's octets decode and encode to themselves. Of the types that both write, no two differ on the wire.
#[test]
fn pika_and_we_write_the_same_octets() {
    let frames = frames();
    assert_eq!(frames.len(), 10_000);
    for (frame, octets) in frames {
        let mut ours = vec![];
        frame.encode(&mut ours).unwrap();
        assert_eq!(ours, octets, "{frame:?}");
    }
}

/// PR20: and mean the same. pika's tables know the arguments' values, but not their widths; a login is not shown.
#[test]
fn pika_and_we_read_the_same_arguments() {
    let mut compared = 0;
    for pair in frames().chunks(2) {
        let [(Frame::Method(channel, method), _), (Frame::Header(same, header), _)] = pair else { panic!("{pair:?}") };
        assert_eq!((channel, header.class_id), (same, 60));
        for (name, expected) in header.properties.headers.as_ref().unwrap().iter() {
            let argument = method.argument(name.as_str().unwrap());
            if !matches!(name.as_str(), Some("response" | "new_secret")) {
                assert_eq!(argument.map(plain), Some(plain(expected.clone())), "{name:?} of {method:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

/// PR20: each method that we have is one that pika has.
#[test]
fn every_method_is_among_them() {
    let id = |frame: &_| if let Frame::Method(_, method) = frame { Some(Method::id(method)) } else { None };
    let seen: HashSet<_> = frames().iter().filter_map(|(frame, _)| id(frame)).collect();
    let all = (0..=100).flat_map(|class| (0..=200).map(move |method| MethodId { class, method }));
    assert_eq!(seen, all.filter(|id| id.name().is_some()).collect());
}

/// The value without what a method's argument and a field of a table differ in.
fn plain(value: Value) -> Value {
    match value {
        Value::Bytes(octets) => Value::LongString(octets.into()),
        value => value.as_i64().map_or(value, Value::I64),
    }
}
