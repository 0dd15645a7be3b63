//! Randomness, in one place: ids and seeds are drawn here and given to the pure code as arguments.

/// Random bytes from the system.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness once it has booted");
    bytes
}

pub fn seed() -> u64 {
    u64::from_le_bytes(bytes())
}
