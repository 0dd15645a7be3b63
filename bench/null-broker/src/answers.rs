//! The few answers that a producer needs, in the versions of Kafka 2.1: ApiVersions, Metadata, InitProducerId, Produce.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::Store;

pub struct Cluster {
    pub port: i32,
    pub partitions: i32,
}

/// Fetch and ListOffsets are named only because clients look for them; they are not served.
const API_VERSIONS: [(i16, i16, i16); 6] = [(0, 0, 7), (1, 0, 10), (2, 0, 1), (3, 0, 1), (18, 0, 2), (22, 0, 1)];
const UNSUPPORTED_VERSION: i16 = 35;

/// Appends the whole response frame to `output`.
pub fn answer(frame: &[u8], store: &Store, cluster: &Cluster, output: &mut Vec<u8>) -> io::Result<()> {
    let mut request = Reader { bytes: frame };
    let (api_key, version, correlation_id) = (request.i16()?, request.i16()?, request.i32()?);
    let _client_id = request.string()?;
    let start = output.len();
    output.extend([0; 4]);
    put_i32(output, correlation_id);
    match api_key {
        0 => {
            if !produce(&mut request, version, store, output)? {
                output.truncate(start);
                return Ok(());
            }
        }
        3 => metadata(&mut request, version, cluster, output)?,
        18 => api_versions(version, output),
        22 => init_producer_id(output),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    let size = (output.len() - start - 4) as i32;
    output[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// Whether there is an answer: acks=0 has none.
fn produce(request: &mut Reader, version: i16, store: &Store, output: &mut Vec<u8>) -> io::Result<bool> {
    let _transactional_id = request.string()?;
    let (acks, _timeout_ms, topics) = (request.i16()?, request.i32()?, request.i32()?);
    put_i32(output, topics);
    for _ in 0..topics {
        let (topic, partitions) = (request.string()?, request.i32()?);
        put_string(output, topic);
        put_i32(output, partitions);
        for _ in 0..partitions {
            let (partition, size) = (request.i32()?, request.i32()?);
            let base_offset = store.append(topic, partition, request.take(size.max(0) as usize)?)?;
            put_i32(output, partition);
            put_i16(output, 0);
            put_i64(output, base_offset);
            put_i64(output, -1);
            if version >= 5 {
                put_i64(output, 0);
            }
        }
    }
    put_i32(output, 0);
    Ok(acks != 0)
}

fn metadata(request: &mut Reader, version: i16, cluster: &Cluster, output: &mut Vec<u8>) -> io::Result<()> {
    put_i32(output, 1);
    put_i32(output, 1);
    put_string(output, "127.0.0.1");
    put_i32(output, cluster.port);
    if version >= 1 {
        put_i16(output, -1);
        put_i32(output, 1);
    }
    let topics = request.i32()?.max(0);
    put_i32(output, topics);
    for _ in 0..topics {
        put_i16(output, 0);
        put_string(output, request.string()?);
        if version >= 1 {
            output.push(0);
        }
        put_i32(output, cluster.partitions);
        for partition in 0..cluster.partitions {
            put_i16(output, 0);
            // Partition and leader, then one replica and one in sync: broker 1.
            [partition, 1, 1, 1, 1, 1].into_iter().for_each(|field| put_i32(output, field));
        }
    }
    Ok(())
}

fn api_versions(version: i16, output: &mut Vec<u8>) {
    put_i16(output, if version > 2 { UNSUPPORTED_VERSION } else { 0 });
    put_i32(output, API_VERSIONS.len() as i32);
    for (key, low, high) in API_VERSIONS {
        [key, low, high].into_iter().for_each(|field| put_i16(output, field));
    }
    if (1..=2).contains(&version) {
        put_i32(output, 0);
    }
}

fn init_producer_id(output: &mut Vec<u8>) {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    put_i32(output, 0);
    put_i16(output, 0);
    put_i64(output, NEXT.fetch_add(1, Ordering::Relaxed));
    put_i16(output, 0);
}

fn put_i16(output: &mut Vec<u8>, value: i16) {
    output.extend(value.to_be_bytes());
}

fn put_i32(output: &mut Vec<u8>, value: i32) {
    output.extend(value.to_be_bytes());
}

fn put_i64(output: &mut Vec<u8>, value: i64) {
    output.extend(value.to_be_bytes());
}

fn put_string(output: &mut Vec<u8>, value: &str) {
    put_i16(output, value.len() as i16);
    output.extend(value.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("two bytes were taken")))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    /// A null string is read as an empty one.
    fn string(&mut self) -> io::Result<&'a str> {
        let length = self.i16()?.max(0) as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}
