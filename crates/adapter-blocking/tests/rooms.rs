//! The wall between the two rooms: calls know what drives them, and what drives knows no calls.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

#[test]
fn what_drives_knows_no_calls() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(source.join("drive")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.chain([source.join("drive.rs")]).collect();
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let program = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let looks_up = ["calls::", "Blocking", "super::super"];
        let found: Vec<_> = program.filter(|line| looks_up.iter().any(|name| line.contains(name))).collect();
        assert!(found.is_empty(), "{}: {found:?}", file.display());
    }
}
