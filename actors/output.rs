//! Output: what a connection has yet to write to its client, in the order of the requests.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::budget::BudgetPermit;
use crate::requests::Response;

/// A chunk below this is copied next to its neighbours: a system call's slice costs more.
const COPY_BYTES_MAX: usize = 4 << 10;

/// Small answers share a buffer, large chunks are kept as they came.
#[derive(Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    pub len_bytes: usize,
    written: u64,
    pushed: u64,
    /// Budget that is given back when so many bytes are written.
    permits: VecDeque<(u64, BudgetPermit)>,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    pub fn push(&mut self, response: Response) {
        for chunk in response.chunks {
            self.len_bytes += chunk.len();
            self.pushed += chunk.len() as u64;
            if chunk.len() < COPY_BYTES_MAX {
                self.tail.extend_from_slice(&chunk);
            } else {
                self.seal_tail();
                self.chunks.push_back(chunk);
            }
        }
        if let Some(permit) = response.permit {
            self.permits.push_back((self.pushed, permit));
        }
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    pub fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.seal_tail();
        let count = self.chunks.len().min(slices.len());
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        count
    }

    pub fn advance(&mut self, mut count: usize) {
        self.len_bytes -= count;
        self.written += count as u64;
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            if front.len() > count {
                front.advance(count);
                break;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
        while self.permits.front().is_some_and(|&(end, _)| end <= self.written) {
            self.permits.pop_front();
        }
    }
}
