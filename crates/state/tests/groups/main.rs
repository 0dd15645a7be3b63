//! The rules of groups as promises, each held against the plain state machine that keeps it.

mod records;
