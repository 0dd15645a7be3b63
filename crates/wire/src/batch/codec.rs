//! The four codecs, each behind a limit on what comes out.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::BatchError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The text names no codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a codec: none, gzip, snappy, lz4 or zstd")]
pub struct CodecNameError;

const NAMES: [(Codec, &str); 5] = [
    (Codec::None, "none"),
    (Codec::Gzip, "gzip"),
    (Codec::Snappy, "snappy"),
    (Codec::Lz4, "lz4"),
    (Codec::Zstd, "zstd"),
];

impl Codec {
    /// The codec with this number in a batch's attributes.
    pub fn from_code(code: i16) -> Result<Codec, BatchError> {
        let index = usize::try_from(code).map_err(|_| BatchError::Codec(code))?;
        NAMES.get(index).map(|(codec, _)| *codec).ok_or(BatchError::Codec(code))
    }

    /// The number in a batch's attributes.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Codec {
    type Err = CodecNameError;

    fn from_str(text: &str) -> Result<Codec, CodecNameError> {
        // A topic's compression.type calls none "uncompressed".
        let text = if text == "uncompressed" { "none" } else { text };
        NAMES.iter().find(|(_, name)| *name == text).map(|(codec, _)| *codec).ok_or(CodecNameError)
    }
}

/// Compresses as Kafka's Java client does: gzip and zstd at their usual levels, snappy in xerial's frame, lz4 in blocks
/// of 64 KiB.
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    compress_at(codec, None, bytes)
}

/// As [`compress`], at another level of gzip (1 to 9) or zstd; the other codecs have none.
pub fn compress_at(codec: Codec, level: Option<i32>, bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let compressed = match codec {
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => gzip(bytes, level),
        Codec::Snappy => return snappy(bytes),
        Codec::Lz4 => lz4(bytes),
        Codec::Zstd => zstd::bulk::compress(bytes, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
    };
    compressed.map_err(|error| damaged(codec, error))
}

fn gzip(bytes: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    // -1 is zlib's word for the usual one.
    let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
    let mut encoder = GzEncoder::new(Vec::new(), level.map_or(Compression::default(), Compression::new));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn lz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// xerial's frame, which the Java client writes: 8 bytes of magic, version and oldest compatible version, then blocks
/// behind their lengths. Other clients write a single raw block.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn snappy(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + bytes.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(|error| damaged(Codec::Snappy, error))?;
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

/// Inflates, and stops with an error when more than `inflated_bytes_max` come out.
pub fn decompress(codec: Codec, bytes: &[u8], inflated_bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Codec::None if bytes.len() > inflated_bytes_max => Err(BatchError::Inflated(inflated_bytes_max)),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => read_limited(codec, bytes, MultiGzDecoder::new(bytes), inflated_bytes_max),
        Codec::Snappy => unsnappy(bytes, inflated_bytes_max),
        Codec::Lz4 => read_limited(codec, bytes, FrameDecoder::new(bytes), inflated_bytes_max),
        Codec::Zstd => {
            let decoder = zstd::Decoder::with_buffer(bytes).map_err(|error| damaged(codec, error))?;
            read_limited(codec, bytes, decoder, inflated_bytes_max)
        }
    }
}

fn read_limited(codec: Codec, bytes: &[u8], decoder: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    // Text often shrinks to a quarter. What comes out decides, not what a frame claims.
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(4).min(limit));
    let mut limited = decoder.take((limit as u64).saturating_add(1));
    limited.read_to_end(&mut out).map_err(|error| damaged(codec, error))?;
    if out.len() > limit { Err(BatchError::Inflated(limit)) } else { Ok(out) }
}

fn unsnappy(bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL_MAGIC) {
        unsnappy_block(bytes, limit, &mut out)?;
        return Ok(out);
    }
    let truncated = || damaged(Codec::Snappy, "the frame is cut off");
    let mut rest = bytes.get(XERIAL_HEADER_BYTES..).ok_or_else(truncated)?;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| truncated())?;
        let (block, after) = after.split_at_checked(length).ok_or_else(truncated)?;
        unsnappy_block(block, limit, &mut out)?;
        rest = after;
    }
    if rest.is_empty() { Ok(out) } else { Err(truncated()) }
}

/// Appends one raw block, which says how much it inflates to.
fn unsnappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    // Three bytes give 64 at best: a block that claims more is not believed.
    const RATIO_MAX: usize = 22;
    let claimed = snap::raw::decompress_len(block).map_err(|error| damaged(Codec::Snappy, error))?;
    if claimed > limit - out.len() {
        return Err(BatchError::Inflated(limit));
    }
    if claimed > block.len() * RATIO_MAX {
        return Err(damaged(Codec::Snappy, "the block is too short for what it claims"));
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let mut decoder = snap::raw::Decoder::new();
    decoder.decompress(block, &mut out[start..]).map_err(|error| damaged(Codec::Snappy, error))?;
    Ok(())
}

fn damaged(codec: Codec, problem: impl ToString) -> BatchError {
    BatchError::Compressed { codec, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index / 7 % 251) as u8).collect()
    }

    #[test]
    fn bytes_come_back_from_every_codec() {
        for codec in CODECS {
            for length in [0, 1, 100, 32 * 1024, 100_000, 300_000] {
                let compressed = compress(codec, &text(length)).unwrap();
                assert_eq!(decompress(codec, &compressed, length), Ok(text(length)), "{codec} {length}");
            }
        }
    }

    #[test]
    fn inflating_stops_at_the_limit() {
        for codec in CODECS {
            let compressed = compress(codec, &vec![0; 1 << 20]).unwrap();
            assert_eq!(decompress(codec, &compressed, 1000), Err(BatchError::Inflated(1000)), "{codec}");
        }
    }

    #[test]
    fn snappy_is_read_with_and_without_a_frame() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, 100), Ok(b"hello hello hello".to_vec()));
        let framed = compress(Codec::Snappy, b"hello hello hello").unwrap();
        assert!(framed.starts_with(&XERIAL_MAGIC) && framed[XERIAL_HEADER_BYTES + 4..] == raw);
        assert!(decompress(Codec::Snappy, &framed[..framed.len() - 1], 100).is_err());
    }

    #[test]
    fn a_snappy_block_that_claims_too_much_allocates_nothing() {
        // 100 MB in nine bytes.
        let block = [0x80, 0xc2, 0xd7, 0x2f, 0, 0, 0, 0, 0];
        assert!(matches!(decompress(Codec::Snappy, &block, 1 << 30), Err(BatchError::Compressed { .. })));
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        for codec in &CODECS[1..] {
            let compressed = compress(*codec, &text(5000)).unwrap();
            assert!(decompress(*codec, &compressed[..compressed.len() / 2], 1 << 20).is_err(), "{codec} cut off");
            assert!(decompress(*codec, b"\x7fnot compressed at all", 1 << 20).is_err(), "{codec} garbage");
        }
    }

    #[test]
    fn names_are_kafkas() {
        for codec in CODECS {
            assert_eq!(codec.to_string().parse(), Ok(codec));
            assert_eq!(Codec::from_code(codec.code()), Ok(codec));
        }
        assert_eq!("uncompressed".parse(), Ok(Codec::None));
        assert_eq!("GZIP".parse::<Codec>(), Err(CodecNameError));
        assert_eq!(Codec::from_code(5), Err(BatchError::Codec(5)));
    }
}
