//! Random values: the same seed gives the same message.

use bytes::Bytes;

use crate::{Str, Uuid};

/// Draws the fields of random messages.
#[derive(Clone, Debug)]
pub struct Sampler {
    state: u64,
    /// How many elements a list has at most.
    pub count_max: u64,
}

impl Sampler {
    /// Draws from this seed on.
    pub fn new(seed: u64) -> Sampler {
        Sampler { state: seed, count_max: 3 }
    }

    /// 64 random bits (SplitMix64).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// Small numbers, all numbers, and the two ends.
    pub fn i64(&mut self) -> i64 {
        match self.below(5) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => self.below(100) as i64 - 2,
            _ => self.bits() as i64,
        }
    }

    /// As [`Sampler::i64`]; cut off, so that the ends are 0 and -1.
    pub fn i32(&mut self) -> i32 {
        self.i64() as i32
    }

    /// As [`Sampler::i32`].
    pub fn i16(&mut self) -> i16 {
        self.i64() as i16
    }

    /// As [`Sampler::i32`].
    pub fn u16(&mut self) -> u16 {
        self.i64() as u16
    }

    /// As [`Sampler::i32`].
    pub fn i8(&mut self) -> i8 {
        self.i64() as i8
    }

    /// A finite number.
    pub fn f64(&mut self) -> f64 {
        self.i32() as f64 / 8.0
    }

    /// Heads or tails.
    pub fn bool(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Mostly not zero.
    pub fn uuid(&mut self) -> Uuid {
        if self.below(8) == 0 { Uuid::ZERO } else { Uuid(std::array::from_fn(|_| self.bits() as u8)) }
    }

    /// Up to a dozen letters of one to four bytes, now and then a long text.
    pub fn str(&mut self) -> Str {
        let length = if self.below(16) == 0 { self.below(300) } else { self.below(13) };
        let letters = ['a', 'Z', '7', '-', '.', 'ü', '€', '🦀'];
        Str::from((0..length).map(|_| letters[self.below(8) as usize]).collect::<String>())
    }

    /// Up to 40 bytes, now and then enough for a chunk of its own.
    pub fn bytes(&mut self) -> Bytes {
        let length = if self.below(16) == 0 { self.below(6000) } else { self.below(40) };
        Bytes::from((0..length).map(|_| self.bits() as u8).collect::<Vec<u8>>())
    }

    /// Damages bytes in one to four places: flips, overwrites, cuts, doubles.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff];
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len() as u64) as usize;
            let end = (at + 1 + self.below(8) as usize).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = TELLING[self.below(8) as usize],
                2 => bytes[at..end].fill(TELLING[self.below(8) as usize]),
                3 => bytes.truncate(at),
                4 => drop(bytes.drain(at..end)),
                _ => bytes.extend_from_within(at..end),
            }
        }
    }

    /// A short list.
    pub fn array<T>(&mut self, mut element: impl FnMut(&mut Sampler) -> T) -> Vec<T> {
        (0..self.below(self.count_max + 1)).map(|_| element(self)).collect()
    }

    /// Null now and then, where that is allowed.
    pub fn nullable<T>(&mut self, is_allowed: bool, value: impl FnOnce(&mut Sampler) -> T) -> Option<T> {
        if is_allowed && self.below(3) == 0 { None } else { Some(value(self)) }
    }
}
