//! SipHash-2-4 with 128 bits of output: who does not know the key cannot make two record keys collide.

/// The hash's own key.
#[derive(Clone, Copy, Debug)]
pub(super) struct SipKey(pub u64, pub u64);

struct State([u64; 4]);

impl State {
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn give(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

pub(super) fn hash128(key: SipKey, bytes: &[u8]) -> [u64; 2] {
    let mut state = State([
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    state.take(u64::from_le_bytes(last));
    state.0[2] ^= 0xee;
    let first = state.give();
    state.0[1] ^= 0xdd;
    [first, state.give()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_hold() {
        let key = SipKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let hash = |bytes: &[u8]| hash128(key, bytes).map(u64::to_be_bytes);
        let swapped = |word: u64| word.swap_bytes().to_be_bytes();
        assert_eq!(hash(&[]), [swapped(0xa381_7f04_ba25_a8e6), swapped(0x6df6_7214_c755_0293)]);
        assert_eq!(hash(&[0]), [swapped(0xda87_c1d8_6b99_af44), swapped(0x3476_5911_9b22_fc45)]);
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let key = SipKey(1, 2);
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..40 {
            let bytes = vec![7; length];
            assert!(seen.insert(hash128(key, &bytes)), "{length}");
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert!(seen.insert(hash128(key, &other)), "{length} at {at}");
            }
        }
    }
}
