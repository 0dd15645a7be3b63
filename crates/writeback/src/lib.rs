//! System calls that no safe wrapper offers. Here: asking the kernel to begin writing a file's dirty pages to the disk. In
//! [`code`]: giving back the pages of the program's own code.
//!
//! It promises nothing, so a sync must follow; but when several files are to be synced, and writing was begun in all of them
//! first, the disk works on all of them at once, and the first sync's commit of the file system covers the others.

mod code;

use std::fs::File;
use std::io;

pub use code::give_back as give_back_code;

/// Begins to write what is dirty in `file`, without waiting for it. Where the system has no such call nothing happens.
#[cfg(target_os = "linux")]
pub fn start(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    const WHOLE_FILE: libc::off64_t = 0;
    // SAFETY: the call takes numbers only, and the descriptor is open as long as `file` is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, WHOLE_FILE, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub fn start(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_file_is_as_it_was() {
        let path = std::env::temp_dir().join(format!("capek-writeback-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        file.write_all(b"dirty").expect("written");
        super::start(&file).expect("begun");
        let mut read = String::new();
        file.rewind().expect("back at the start");
        file.read_to_string(&mut read).expect("read");
        assert_eq!(read, "dirty");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn what_is_no_file_on_a_disk_is_an_error() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        assert!(super::start(&pipe).is_err());
    }
}
