//! The guides of this library.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("beside_an_existing_service.md")]
pub mod beside_an_existing_service {}

#[doc = include_str!("conformance.md")]
pub mod conformance {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("handlers_and_failures.md")]
pub mod handlers_and_failures {}

#[doc = include_str!("ordering_and_concurrency.md")]
pub mod ordering_and_concurrency {}

#[doc = include_str!("testing_a_service.md")]
pub mod testing_a_service {}

#[doc = include_str!("write_an_adapter.md")]
pub mod write_an_adapter {}
