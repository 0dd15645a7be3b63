//! Holds `capek-wire` against two codecs that others wrote: see `tests/`.
