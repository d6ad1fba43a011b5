//! A bounded piece of what `fuzz/` does without an end: random octets, and those that are committed.
#![allow(clippy::unwrap_used)]

use pooka_testkit::fuzz;
use proptest::prelude::*;
use std::{fs, path::Path};

/// The name of a folder of seeds, and what is done with the octets of each.
type Target = (&'static str, fn(&[u8]));

/// Every target of `fuzz/`.
const TARGETS: [Target; 5] = [
    ("connection", fuzz::connection),
    ("frames", fuzz::frames),
    ("methods", fuzz::methods),
    ("tables", fuzz::tables),
    ("urls", fuzz::urls),
];

/// Seeds, and whatever was found once.
#[test]
fn what_is_committed_holds() {
    for (name, target) in TARGETS {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        let files: Vec<_> = fs::read_dir(&seeds).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has seeds");
        for file in files {
            let octets = fs::read(&file).unwrap();
            println!("{}", file.display()); // which is shown if it fails
            target(&octets);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// PR16, PR18, PR21: octets × cuts × timers × calls.
    #[test]
    fn any_life_of_a_connection_answers_each_question_once_in_any_cut(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::connection(&octets);
    }

    #[test]
    fn any_octets_that_are_read_can_be_written_and_read_again(octets in prop::collection::vec(any::<u8>(), 0..100)) {
        fuzz::frames(&octets);
        fuzz::methods(&octets);
        fuzz::tables(&octets);
    }

    #[test]
    fn any_text_is_a_url_or_not_and_never_shows_a_password(text in "\\PC{0,60}") {
        fuzz::urls(text.as_bytes());
    }
}
