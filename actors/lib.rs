//! How it runs: the supervision tree.
