//! The pages of the project's `docs` folder.
//!
//! Their programs are compiled by the tests of this project.

// The pages have tests of their own; a piece of a program that a page explains is no program.
#![cfg(not(doctest))]

#[doc = include_str!("../docs/porting-from-pika.md")]
pub mod porting_from_pika {}

#[doc = include_str!("../docs/writing-an-adapter.md")]
pub mod writing_an_adapter {}

#[doc = include_str!("../docs/tracing.md")]
pub mod tracing {}

#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("../docs/broker-differences.md")]
pub mod broker_differences {}

#[doc = include_str!("../docs/faults.md")]
pub mod faults {}

#[doc = include_str!("../docs/semantics-coverage.md")]
pub mod semantics_coverage {}
