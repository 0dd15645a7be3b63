//! The image that raft has brought this node to, and the news for whoever publishes it.
//!
//! Raft's state machine is the only one who moves it. What changed since the publication last looked is gathered here, so a
//! slow publication costs one larger delta, never a queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capek_state::cluster::{Delta, Image, Record};
use tokio::sync::watch;

use crate::metadata_publisher::Step;

/// See the head of this file.
pub struct Applied {
    state: Mutex<State>,
    /// The place of the image, for those who wait for it.
    place: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    image: Arc<Image>,
    /// The place that `delta` begins at; None: a snapshot came in between, what changed is not known.
    from: Option<u64>,
    delta: Delta,
}

/// What a publication has to make known.
#[derive(Clone, Debug)]
pub struct News {
    pub image: Arc<Image>,
    pub step: Option<Step>,
}

impl Default for Applied {
    fn default() -> Self {
        let state = State { from: Some(0), ..State::default() };
        Self { state: Mutex::new(state), place: watch::Sender::new(0) }
    }
}

impl Applied {
    pub fn image(&self) -> Arc<Image> {
        self.lock().image.clone()
    }

    /// Changes with every image.
    pub fn place(&self) -> watch::Receiver<u64> {
        self.place.subscribe()
    }

    /// The image as it is, with what changed since the last call.
    pub fn take_news(&self) -> News {
        let mut state = self.lock();
        let delta = Arc::new(std::mem::take(&mut state.delta));
        let image = state.image.clone();
        let from = state.from.replace(image.records_applied());
        News { image, step: from.map(|from| Step { from, delta }) }
    }

    /// Takes the records in if they were decided on this image; says whether, and where the image is now.
    pub(super) fn apply(&self, base: u64, records: &[Record]) -> (bool, u64) {
        let mut state = self.lock();
        let place = state.image.records_applied();
        if base != place {
            return (false, place);
        }
        let mut image = Image::clone(&state.image);
        records.iter().for_each(|record| image.apply_into(record, &mut state.delta));
        let place = image.records_applied();
        state.image = Arc::new(image);
        drop(state);
        self.place.send_replace(place);
        (true, place)
    }

    /// The image of a snapshot takes the place of what was.
    pub(super) fn replace(&self, image: Image) {
        let place = image.records_applied();
        let mut state = self.lock();
        state.image = Arc::new(image);
        state.from = None;
        state.delta = Delta::default();
        drop(state);
        self.place.send_replace(place);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
