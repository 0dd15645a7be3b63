//! Record batches.
#![allow(missing_docs)]
