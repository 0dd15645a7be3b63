//! What can be said against a batch before its partition sees it.

use bytes::Bytes;
use capek_wire::batch;

/// Where the fields of a batch's head lie that tell its format.
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
/// What comes before the bytes that the length counts.
const LENGTH_BASE: usize = 12;
const MAGIC: u8 = 2;

/// How much a batch for a compacted topic may inflate to while its keys are looked at; one that is larger is let pass.
const INFLATED_BYTES_MAX: usize = 64 << 20;

/// A partition is sent exactly one whole batch of the present format. None: it is.
pub fn shape_problem(records: &[u8]) -> Option<&'static str> {
    let head = records.get(LENGTH_AT..LENGTH_BASE).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let length = head.and_then(|bytes| usize::try_from(i32::from_be_bytes(bytes)).ok());
    let size_bytes = length.map(|length| length.saturating_add(LENGTH_BASE));
    match (size_bytes, records.get(MAGIC_AT)) {
        (Some(size_bytes), Some(_)) if size_bytes > records.len() => {
            Some("A produce request must carry one whole record batch for each partition.")
        }
        (Some(_), Some(&magic)) if magic != MAGIC => {
            Some("A produce request may only carry record batches with magic 2.")
        }
        (Some(size_bytes), Some(_)) if size_bytes < records.len() => {
            Some("A produce request must carry exactly one record batch for each partition.")
        }
        (Some(_), Some(_)) => None,
        _ => Some("A produce request must carry a record batch for each partition."),
    }
}

/// The indexes of records without a key, which a compacted topic cannot keep. None in a batch that cannot be read: its
/// partition says what is wrong with that.
pub fn keyless_records(batch: &[u8]) -> Vec<i32> {
    let records = batch::check(batch).and_then(|_| batch::records(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX));
    let Ok(records) = records else {
        return Vec::new();
    };
    let is_keyless = |(_, record): &(i32, Result<batch::Record, _>)| {
        record.as_ref().is_ok_and(|record: &batch::Record| record.key.is_none())
    };
    (0..).zip(records).filter(is_keyless).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use capek_wire::batch::{BatchBuilder, Codec};

    use super::*;

    fn built(codec: Codec, keys: &[Option<&[u8]>]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for key in keys {
            builder.push(1, *key, Some(b"value"), &[]);
        }
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn one_whole_batch_passes_and_nothing_else() {
        let batch = built(Codec::None, &[Some(b"key")]);
        assert_eq!(shape_problem(&batch), None);
        assert!(shape_problem(&[]).is_some());
        for cut in 0..batch.len() {
            assert!(shape_problem(&batch[..cut]).is_some(), "cut at {cut}");
        }
        assert!(shape_problem(&[&batch[..], &batch].concat()).unwrap().contains("exactly one"));
        let mut old = batch.clone();
        old[MAGIC_AT] = 1;
        assert!(shape_problem(&old).unwrap().contains("magic"));
        let mut negative = batch;
        negative[LENGTH_AT..LENGTH_BASE].copy_from_slice(&(-1_i32).to_be_bytes());
        assert!(shape_problem(&negative).is_some());
    }

    #[test]
    fn records_without_a_key_are_found_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = built(codec, &[Some(b"a"), None, Some(b""), None]);
            assert_eq!(keyless_records(&batch), [1, 3], "{codec}");
        }
        let mut corrupt = built(Codec::None, &[None]);
        corrupt[30] ^= 1;
        assert_eq!(keyless_records(&corrupt), [0; 0]);
    }
}
