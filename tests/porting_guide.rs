//! The guide for porting from pika mentions what there is.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn guide() -> String {
    fs::read_to_string(root().join("docs/porting-from-pika.md")).unwrap()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// What a line of a source names: an item, a variant, a field, an option, or a string.
fn named(line: &str) -> Vec<&str> {
    let line = line.trim();
    if line.starts_with("//") {
        return vec![];
    }
    let all: Vec<_> = words(line).collect();
    let items = ["fn", "struct", "enum", "trait", "mod", "type"];
    let item = all.windows(2).filter(|pair| items.contains(&pair[0])).map(|pair| pair[1]);
    // The specification's table has AMQP's name before ours.
    let first = match line.strip_prefix('"').and_then(|line| line.split_once("\" ")) {
        Some((_, first)) => first,
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    let end = first.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(first.len());
    let after: &[&str] = if first.starts_with(char::is_uppercase) { &["(", ",", " {", " ="] } else { &[":"] };
    let is_declared = after.iter().any(|next| first[end..].starts_with(next));
    let strings = line.split('"').skip(1).step_by(2);
    item.chain(is_declared.then_some(&first[..end])).chain(strings).collect()
}

/// The column that says what something is called here, of every table that has one.
fn column_here(guide: &str) -> Vec<&str> {
    let mut here = false;
    let mut cells = vec![];
    for line in guide.lines() {
        let row: Vec<_> = line.split('|').map(str::trim).collect();
        match row[..] {
            ["", _, "here", ..] => here = true,
            ["", _, cell, ..] if here => cells.push(cell),
            _ => here = false,
        }
    }
    cells
}

/// What the guide calls by pika's names: in the first column of its tables, and in its prose. `DEFAULT_…` and `…_supported`
/// stand for all names that begin or end so.
fn pikas(guide: &str) -> BTreeSet<&str> {
    let prose = guide.split("```").step_by(2).flat_map(str::lines);
    let told = prose.map(|line| match line.strip_prefix("| ") {
        Some(row) => row.split(" | ").next().unwrap_or(row),
        None => line,
    });
    let code = told.flat_map(|text| text.split('`').skip(1).step_by(2));
    code.flat_map(|span| span.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '…')).collect()
}

#[test]
fn every_public_name_of_pikas_and_every_argument_is_in_the_guide() {
    let guide = guide();
    let told = pikas(&guide);
    let family = |name: &str| {
        let is_of = |word: &&str| match (word.strip_suffix('…'), word.strip_prefix('…')) {
            (Some(start), _) => !start.is_empty() && name.starts_with(start),
            (_, Some(end)) => name.ends_with(end),
            _ => false,
        };
        told.iter().any(is_of)
    };
    let mut missing = vec![];
    for version in ["0.9.14", "1.4.4"] {
        let names = fs::read_to_string(root().join(format!("tests/pika_names/pika-{version}.txt"))).unwrap();
        assert!(names.lines().count() > 250, "{version}");
        for line in names.lines() {
            let (name, arguments) = line.split_once(' ').unwrap_or((line, ""));
            let last = name.rsplit('.').next().unwrap();
            let untold = [last].into_iter().chain(arguments.split_whitespace());
            let untold: Vec<_> = untold.filter(|word| !told.contains(word) && !family(word)).collect();
            if !untold.is_empty() {
                missing.push(format!("{version}: {name}: {}", untold.join(", ")));
            }
        }
    }
    assert!(missing.is_empty(), "not in the guide:\n{}", missing.join("\n"));
}

#[test]
fn every_name_that_the_guide_translates_to_exists() {
    let mut paths = vec![];
    for adapter in ["adapter-blocking", "adapter-mio", "adapter-select", "adapter-smol", "adapter-tokio", "amqp-core"] {
        sources(&root().join("crates").join(adapter).join("src"), &mut paths);
    }
    let texts: Vec<_> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let code = texts.iter().map(|text| text.split("#[cfg(test)]\nmod tests").next().unwrap());
    let names: BTreeSet<_> = code.flat_map(str::lines).flat_map(named).collect();

    let guide = guide();
    let cells = column_here(&guide);
    let mentioned: BTreeSet<_> =
        cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).flat_map(words).collect();
    assert!(mentioned.len() > 200, "{}", mentioned.len());
    let unknown: Vec<_> = mentioned.difference(&names).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_example_of_pikas_is_in_the_guide_and_in_the_manifest() {
    let mut paths = vec![];
    sources(&root().join("examples/pika"), &mut paths);
    let (guide, manifest) = (guide(), fs::read_to_string(root().join("Cargo.toml")).unwrap());
    assert!(paths.len() >= 15);
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(guide.contains(&format!("`{name}`")), "{name}");
        assert!(manifest.contains(&format!("name = \"pika_{name}\"")), "{name}");
    }
}
