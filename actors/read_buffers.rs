//! ReadBuffers: the memory that large frames are read into, used again once the journal has let go of it.
//!
//! A fresh buffer of a megabyte costs a page fault for every 4 KiB of it, which is more than reading the bytes. So a buffer whose
//! frame was split off leaves a handle here; when that is the only handle left, the memory serves the next frame. One pool
//! for each arbiter, shared by its connections; it goes when the last of them does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// What is kept at most, in use or not. A buffer beyond that goes back to the allocator as soon as its frame does.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// When no large frame came for so long, nothing is kept.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Capacities are multiples of this, so that frames of about one size fit into each other's buffers.
const STEP_BYTES: usize = 128 << 10;

/// See the head of this file.
#[derive(Clone)]
pub struct ReadBuffers {
    kept: Rc<RefCell<Kept>>,
}

struct Kept {
    /// What is left of each buffer, and its capacity when it is whole; the oldest first.
    handles: VecDeque<(BytesMut, usize)>,
    size_bytes: usize,
    last_used: Instant,
}

thread_local! {
    static OF_THIS_ARBITER: RefCell<Weak<RefCell<Kept>>> = const { RefCell::new(Weak::new()) };
}

impl ReadBuffers {
    pub fn of_this_arbiter() -> Self {
        OF_THIS_ARBITER.with_borrow_mut(|known| {
            let kept = known.upgrade().unwrap_or_else(|| {
                Rc::new(RefCell::new(Kept { handles: VecDeque::new(), size_bytes: 0, last_used: Instant::now() }))
            });
            *known = Rc::downgrade(&kept);
            Self { kept }
        })
    }

    /// An empty buffer with room for `size_bytes`.
    pub fn take(&self, size_bytes: usize) -> BytesMut {
        let mut kept = self.kept.borrow_mut();
        kept.last_used = Instant::now();
        for at in 0..kept.handles.len() {
            let (handle, capacity) = &mut kept.handles[at];
            if *capacity >= size_bytes && handle.try_reclaim(size_bytes) {
                let found = kept.handles.remove(at);
                let (handle, capacity) = found.expect("it was just looked at");
                kept.size_bytes -= capacity;
                return handle;
            }
        }
        BytesMut::with_capacity(size_bytes.next_multiple_of(STEP_BYTES))
    }

    /// `handle` is what is left of a buffer of `capacity` bytes whose frame was split off.
    pub fn keep(&self, mut handle: BytesMut, capacity: usize) {
        let mut kept = self.kept.borrow_mut();
        handle.clear();
        kept.handles.push_back((handle, capacity));
        kept.size_bytes += capacity;
        while kept.size_bytes > KEPT_BYTES_MAX {
            let Some((_, capacity)) = kept.handles.pop_front() else { break };
            kept.size_bytes -= capacity;
        }
    }

    /// Lets go of everything when no large frame came for a while.
    pub fn shrink(&self, now: Instant) {
        let mut kept = self.kept.borrow_mut();
        if now.duration_since(kept.last_used) > IDLE_MAX {
            kept.handles.clear();
            kept.size_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `size_bytes` as a connection reads it; returns where its memory is, too.
    fn read_frame(buffers: &ReadBuffers, size_bytes: usize) -> (BytesMut, *const u8) {
        let mut input = buffers.take(size_bytes);
        let capacity = input.capacity();
        input.resize(size_bytes, 7);
        let frame = input.split_to(size_bytes);
        buffers.keep(input, capacity);
        let address = frame.as_ptr();
        (frame, address)
    }

    #[test]
    fn memory_is_used_again_when_its_frame_has_gone() {
        let buffers = ReadBuffers::of_this_arbiter();
        let (first, first_address) = read_frame(&buffers, 1_000_000);
        let (_second, second_address) = read_frame(&buffers, 1_000_000);
        assert_ne!(first_address, second_address, "the first frame is still in use");
        let part = first.freeze().slice(10..20);
        let (_third, third_address) = read_frame(&buffers, 1_000_000);
        assert_ne!(first_address, third_address, "a part of the first frame is still in use");
        drop(part);
        let (_fourth, fourth_address) = read_frame(&buffers, 900_000);
        assert_eq!(first_address, fourth_address);
    }

    #[test]
    fn a_smaller_buffer_does_not_serve_a_larger_frame() {
        let buffers = ReadBuffers::of_this_arbiter();
        drop(read_frame(&buffers, 200_000));
        assert!(buffers.take(2_000_000).capacity() >= 2_000_000);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = ReadBuffers::of_this_arbiter();
        let frames: Vec<_> = (0..40).map(|_| read_frame(&buffers, 2 << 20)).collect();
        let kept = buffers.kept.borrow();
        assert!(kept.size_bytes <= KEPT_BYTES_MAX && kept.handles.len() < frames.len());
        assert_eq!(kept.size_bytes, kept.handles.iter().map(|(_, capacity)| capacity).sum::<usize>());
    }

    #[test]
    fn nothing_is_kept_once_large_frames_stop_coming() {
        let buffers = ReadBuffers::of_this_arbiter();
        drop(read_frame(&buffers, 1_000_000));
        buffers.shrink(Instant::now());
        assert_eq!(buffers.kept.borrow().handles.len(), 1);
        buffers.shrink(Instant::now() + IDLE_MAX * 2);
        assert_eq!((buffers.kept.borrow().handles.len(), buffers.kept.borrow().size_bytes), (0, 0));
    }
}
