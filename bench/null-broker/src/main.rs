//! A null broker: it parses frames, checks the CRC and replies. What is slower than this is the broker's doing, what is not is
//! the client's or the machine's. It shares no code with the broker that it is held against.
//!
//! `null-broker ADDRESS MODE DIRECTORY PARTITIONS` where MODE is `reply` (nothing is stored), `cache` (append to the page
//! cache) or `sync` (append and fdatasync for each request). Every topic exists. It cannot be read from.

#![allow(clippy::print_stderr)] // a program for developers

mod answers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const FRAME_BYTES_MAX: usize = 100 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Reply,
    Cache,
    Sync,
}

/// Next offset and file of each partition, made when it is first written.
struct Store {
    mode: Mode,
    directory: PathBuf,
    partitions: Mutex<BTreeMap<(String, i32), Slot>>,
}

type Slot = Arc<Mutex<Partition>>;

#[derive(Default)]
struct Partition {
    next_offset: i64,
    file: Option<File>,
}

impl Store {
    fn append(&self, topic: &str, partition: i32, batch: &[u8]) -> io::Result<i64> {
        let header = batch.get(..61).ok_or(io::ErrorKind::InvalidData)?;
        let crc = u32::from_be_bytes([header[17], header[18], header[19], header[20]]);
        if crc32c::crc32c(&batch[21..]) != crc {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let records = i64::from(i32::from_be_bytes([header[23], header[24], header[25], header[26]])) + 1;
        let slot = self.slot(topic, partition);
        let mut slot = slot.lock().expect("no holder of this lock panics");
        let base_offset = slot.next_offset;
        slot.next_offset += records;
        if self.mode != Mode::Reply {
            if slot.file.is_none() {
                slot.file = Some(File::create(self.directory.join(format!("{topic}-{partition}")))?);
            }
            let file = slot.file.as_mut().expect("it was just created");
            file.write_all(batch)?;
            if self.mode == Mode::Sync {
                file.sync_data()?;
            }
        }
        Ok(base_offset)
    }

    fn slot(&self, topic: &str, partition: i32) -> Slot {
        let mut partitions = self.partitions.lock().expect("no holder of this lock panics");
        Arc::clone(partitions.entry((topic.to_owned(), partition)).or_default())
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, mode, directory, partitions] = arguments.as_slice() else {
        eprintln!("usage: null-broker ADDRESS reply|cache|sync DIRECTORY PARTITIONS");
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mode = match mode.as_str() {
        "reply" => Mode::Reply,
        "cache" => Mode::Cache,
        "sync" => Mode::Sync,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let partitions = partitions.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let store = Arc::new(Store { mode, directory: directory.into(), partitions: Mutex::default() });
    let listener = TcpListener::bind(address)?;
    let port = i32::from(listener.local_addr()?.port());
    for socket in listener.incoming() {
        let (socket, store) = (socket?, Arc::clone(&store));
        std::thread::spawn(move || serve(socket, &store, &answers::Cluster { port, partitions }));
    }
    Ok(())
}

/// All whole frames that a read brought are answered with one write.
fn serve(mut socket: TcpStream, store: &Store, cluster: &answers::Cluster) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut filled, mut output) = (vec![0; 256 << 10], 0, Vec::new());
    loop {
        let count = socket.read(&mut input[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut start = 0;
        let mut wanted = 4;
        while filled - start >= 4 {
            let size =
                i32::from_be_bytes([input[start], input[start + 1], input[start + 2], input[start + 3]]) as usize;
            if size > FRAME_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            wanted = 4 + size;
            if filled - start < wanted {
                break;
            }
            answers::answer(&input[start + 4..start + wanted], store, cluster, &mut output)?;
            start += wanted;
            wanted = 4;
        }
        input.copy_within(start..filled, 0);
        filled -= start;
        if input.len() < wanted {
            input.resize(wanted, 0);
        }
        if !output.is_empty() {
            socket.write_all(&output)?;
            output.clear();
        }
    }
}
