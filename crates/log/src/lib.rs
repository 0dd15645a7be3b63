//! What is on disk: segments, indexes, the journal, recovery.
