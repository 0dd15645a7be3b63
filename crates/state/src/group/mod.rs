//! Groups of consumers: who is in them, what each member reads, and how far they have got.

pub mod consumer;
