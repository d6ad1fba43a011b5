//! The walls between the rooms of the core: each uses only those below it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the ground up, as `lib.rs` and docs/architecture.md list them.
const ROOMS: [&str; 10] = ["wire", "error", "tls", "config", "protocol", "session", "api", "trace", "driver", "hub"];

/// What looks up all the same: closures that are kept behind the mutex name the handle that they are lent.
const EXCEPTIONS: [(&str, &str); 1] = [("session/op.rs", "api")];

#[test]
fn a_room_uses_only_what_is_below_it() {
    let mut found = vec![];
    for (height, room) in ROOMS.iter().enumerate() {
        for file in files(&source().join(room)) {
            let name = file.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
            for used in rooms_used(&program(&fs::read_to_string(&file).unwrap())) {
                let is_up = ROOMS.iter().position(|other| *other == used).unwrap() > height;
                if is_up && !found.contains(&(name.clone(), used)) {
                    found.push((name.clone(), used));
                }
            }
        }
    }
    found.sort();
    let expected: Vec<_> = EXCEPTIONS.iter().map(|(file, room)| (file.to_string(), *room)).collect();
    assert_eq!(found, expected, "left: what looks up; right: what may");
}

/// Whatever stands outside the rooms is known by name.
#[test]
fn every_file_has_a_room() {
    let mut outside: Vec<_> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !ROOMS.contains(&name.as_str()))
        .collect();
    outside.sort();
    assert_eq!(outside, ["lib.rs", "sync.rs"]);
}

/// `lib.rs` lists the rooms from the ground up.
#[test]
fn the_front_page_lists_the_rooms_in_order() {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let listed: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .filter(|name| *name != "sync")
        .collect();
    assert_eq!(listed, ROOMS);
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The file without its tests, which may use what they like, and without comments.
fn program(text: &str) -> String {
    let tests = text.match_indices("#[cfg(test)]\n").find(|(at, marker)| {
        let next = text[at + marker.len()..].trim_start_matches("pub(crate) ");
        next.starts_with("mod ")
    });
    let program = tests.map_or(text, |(at, _)| &text[..at]);
    program.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The rooms that stand behind `crate::`, by themselves or in a list.
fn rooms_used(text: &str) -> Vec<&'static str> {
    let mut used = vec![];
    for (at, marker) in text.match_indices("crate::") {
        let rest = &text[at + marker.len()..];
        let heads = match rest.strip_prefix('{') {
            Some(list) => heads(list),
            None => vec![word(rest)],
        };
        used.extend(ROOMS.iter().filter(|room| heads.contains(room)));
    }
    used
}

/// The first word of each entry of a list that may be nested.
fn heads(list: &str) -> Vec<&str> {
    let mut heads = vec![word(list.trim_start())];
    let mut depth = 0;
    for (at, octet) in list.bytes().enumerate() {
        match octet {
            b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'}' => depth -= 1,
            b',' if depth == 0 => heads.push(word(list[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}
