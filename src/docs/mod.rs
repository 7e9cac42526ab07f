//! The guides of this library.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("conformance.md")]
pub mod conformance {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("write_an_adapter.md")]
pub mod write_an_adapter {}
