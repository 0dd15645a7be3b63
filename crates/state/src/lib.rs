//! What is decided: partitions and the cluster as plain state machines.
