//! What a stream over HTTP has been allowed, has handed over and has heard back, and how a producer's frames are known again.
//!
//! * [`Conflation`]: the newest record of each key, for those who cannot look at all.
//! * [`Credit`]: how much a client takes now; nothing is read for it beyond that.
//! * [`DeliveryWindow`]: what was delivered of a partition and not acknowledged, and what its group may commit.
//! * [`Pace`]: when the records of a partition go out.
//! * [`ProduceSlot`], [`InFlight`]: frames of records that are sent again after a connection broke are stored once.

mod conflation;
mod credit;
mod delivery;
mod pace;
mod producer;

pub use conflation::{Conflation, Dropped};
pub use credit::Credit;
pub use delivery::{DeliveryWindow, NotDelivered};
pub use pace::{Due, Linger, Pace};
pub use producer::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, InFlight, ProduceSlot, SentAgain};
