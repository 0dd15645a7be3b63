//! The names of a swap, and what a start makes of them.
//!
//! ```text
//!   B.log.cleaned (+ .index .timeindex .headercrc)   written and synced; a start removes them
//!   B.log.swap                                       committed: a start removes the segments that it stands for, from B
//!                                                    up to its own end, and renames it to B.log
//! ```

use std::io;
use std::path::Path;

use crate::header_guard;
use crate::index::MemoryIndex;
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{file_name, parse_file_name};
use crate::vfs::{OpenMode, Vfs, remove_file_if_there};

const CLEANED: &str = "cleaned";
pub(crate) const SWAP: &str = "swap";
const LOG_SWAP: &str = "log.swap";

pub(crate) fn cleaned_name(base_offset: i64, extension: &str) -> String {
    file_name(base_offset, extension) + "." + CLEANED
}

/// Whether a name is that of a file that was still being written.
pub(crate) fn is_cleaned(name: &str) -> bool {
    parse_file_name(name).is_some_and(|(_, extension)| extension.ends_with(".cleaned"))
}

/// Finishes the swaps that were committed, and removes what did not get that far. `Err`: what was committed is damaged, and
/// nothing was changed.
pub(crate) fn finish_swaps(vfs: &dyn Vfs, directory: &Path) -> io::Result<Result<(), String>> {
    let names: Vec<String> = vfs.read_directory(directory)?.into_iter().map(|entry| entry.name).collect();
    let swaps = names.iter().filter_map(|name| match parse_file_name(name) {
        Some((base_offset, LOG_SWAP)) => Some(base_offset),
        _ => None,
    });
    let mut committed = Vec::new();
    for base_offset in swaps {
        match end_of_swap(vfs, directory, base_offset)? {
            Ok(end_offset) => committed.push((base_offset, end_offset)),
            Err(problem) => return Ok(Err(format!("the cleaned segment {base_offset}: {problem}"))),
        }
    }
    for (base_offset, end_offset) in committed {
        finish(vfs, directory, &names, base_offset, end_offset)?;
    }
    for name in names.iter().filter(|name| is_cleaned(name)) {
        remove_file_if_there(vfs, &directory.join(name))?;
    }
    Ok(Ok(()))
}

/// Goes through the whole of a committed segment: it was synced, so nothing may be wrong with it.
fn end_of_swap(vfs: &dyn Vfs, directory: &Path, base_offset: i64) -> io::Result<Result<i64, String>> {
    let file = vfs.open(&directory.join(file_name(base_offset, LOG_SWAP)), OpenMode::Read)?;
    let size_bytes = file.len()?;
    let (mut memory, mut end_offset) = (MemoryIndex::default(), base_offset);
    let mut scanner = Scanner::new(&*file, Depth::Whole, 0, size_bytes, base_offset);
    loop {
        match scanner.step()? {
            Step::Batch(batch) => {
                memory.note(base_offset, batch.position, &batch.header, u32::MAX);
                end_offset = batch.header.next_offset();
            }
            Step::End => break,
            Step::Bad(bad) => return Ok(Err(format!("at {}: {}", bad.position, bad.problem))),
        }
    }
    // Its guard has the one name or the other.
    for name in [cleaned_name(base_offset, header_guard::EXTENSION), file_name(base_offset, header_guard::EXTENSION)] {
        let guards = header_guard::read(vfs, &directory.join(name))?;
        let found = (size_bytes, end_offset, memory.headers_crc);
        if guards.iter().any(|guard| (u64::from(guard.end_position), guard.end_offset, guard.crc) == found) {
            return Ok(Ok(end_offset));
        }
    }
    Ok(Err("its batch headers changed".to_owned()))
}

/// The old segments go first, durably; then the new one gets its name. Its indexes and its guard are made anew by whoever
/// surveys the log.
fn finish(vfs: &dyn Vfs, directory: &Path, names: &[String], base_offset: i64, end_offset: i64) -> io::Result<()> {
    for name in names {
        let Some((other, extension)) = parse_file_name(name) else { continue };
        let is_covered = (base_offset..end_offset).contains(&other);
        let is_kept = extension == LOG_SWAP
            || (other == base_offset && extension == "snapshot")
            || (other == base_offset && extension.starts_with(header_guard::EXTENSION));
        if is_covered && !is_kept {
            remove_file_if_there(vfs, &directory.join(name))?;
        }
    }
    let guard = directory.join(file_name(base_offset, header_guard::EXTENSION));
    match vfs.rename(&directory.join(cleaned_name(base_offset, header_guard::EXTENSION)), &guard) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    vfs.sync_directory(directory)?;
    vfs.rename(&directory.join(file_name(base_offset, LOG_SWAP)), &directory.join(file_name(base_offset, "log")))?;
    vfs.sync_directory(directory)
}
