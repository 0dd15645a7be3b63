//! Partitioner.
