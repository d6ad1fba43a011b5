//! docs/writing-an-adapter.md shows the adapter that the conformance suite tests: all of it, and nothing else.
#![allow(clippy::unwrap_used)]

const PAGE: &str = include_str!("../docs/writing-an-adapter.md");
const ADAPTER: &str = include_str!("../examples/own_adapter/adapter.rs");

/// What is not blank, but for the line that sends the reader to the page.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//!"))
}

#[test]
fn the_pages_pieces_are_the_adapter() {
    let mut pieces = PAGE.split("```rust\n").skip(1).map(|piece| piece.split("```").next().unwrap());
    let shown: Vec<&str> = pieces.by_ref().flat_map(lines).collect();
    assert_eq!(shown, lines(ADAPTER).collect::<Vec<_>>());
}

#[test]
fn an_adapter_takes_less_than_a_hundred_lines() {
    let code = lines(ADAPTER).filter(|line| !line.trim_start().starts_with("//")).count();
    assert!(code < 100, "{code} lines");
}
