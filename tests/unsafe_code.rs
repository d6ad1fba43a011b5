//! How often `unsafe` is written here: where a system call demands it, and nowhere else.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every file with unsafe code, and how many places there are: each is a block and the lint that is lifted for it.
const COUNTED: [(&str, usize); 3] = [
    ("crates/adapter-select/src/descriptors.rs", 1),
    ("crates/adapter-select/src/poller.rs", 1),
    ("tests/forked.rs", 1),
];

/// The word with what makes code of it and no prose. Examples in comments and in Markdown count as well.
const CODE: [&str; 6] = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe("];

/// What lifts the lint.
const LIFTED: [&str; 2] = ["allow(unsafe_code", "expect(unsafe_code"];

#[test]
fn unsafe_is_written_where_it_is_counted_and_nowhere_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    collect(root, &mut files);
    assert!(files.len() > 150, "{} files were looked at", files.len());

    let (mut code, mut lifted) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let count = |what: &[&str]| what.iter().map(|what| words.matches(what).count()).sum::<usize>();
        code.insert(name.clone(), count(&CODE));
        lifted.insert(name, count(&LIFTED));
    }
    for mut found in [code, lifted] {
        found.retain(|name, count| *count > 0 && name != file!());
        assert_eq!(found, COUNTED.map(|(name, count)| (name.into(), count)).into());
    }
}

/// All Rust and Markdown below `folder` that is the project's own.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            files.push(path);
        }
    }
}
