//! The generator that `build.rs` runs: text of the schema in, Rust code out. A wrong schema panics with file and line,
//! which stops the build.

pub mod api_keys;
pub mod error_codes;
mod fields;
pub mod messages;
pub mod model;
pub mod parse;
mod sample;
