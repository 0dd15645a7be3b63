//! Zigzag numbers of variable length, as records use them.

/// Appends a varint or varlong.
pub fn put(out: &mut Vec<u8>, value: i64) {
    let mut bits = zigzag(value);
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// How many bytes [`put`] appends.
pub fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reads a varlong at `at` and moves behind it; `None` when it does not end or does not fit.
pub fn get_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Reads a varint at `at` and moves behind it.
pub fn get_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    i32::try_from(get_i64(bytes, at)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        let edges = (0..63).flat_map(|shift| [1i64 << shift, -(1i64 << shift), (1i64 << shift) - 1]);
        for value in edges.chain([0, -1, i64::MIN, i64::MAX]) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), size(value), "{value}");
            let mut at = 0;
            assert_eq!(get_i64(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            assert_eq!(get_i64(&bytes[..bytes.len() - 1], &mut 0), None, "{value} cut off");
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-2, &[3]), (64, &[0x80, 1]), (300, &[0xd8, 4])] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(get_i64(&[0xff; 11], &mut 0), None);
        assert_eq!(get_i64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &mut 0), None);
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f], &mut 0), None);
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f], &mut 0), Some(i32::MIN));
    }
}
