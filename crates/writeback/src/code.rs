//! The pages of the program's own code, given back once the start is over.
//!
//! Most of what a start runs is never run again; but the kernel maps sixteen pages and more around each that is touched, so
//! two thirds of a large program count as its memory from then on, ten times as much as an idle broker uses. What is needed
//! again comes back from the page cache by itself, without the disk.

use std::io;

/// A range of addresses.
struct Mapping {
    address: usize,
    length: usize,
}

/// Gives back every page of the running program's code. Where the system does not say where it lies nothing happens.
#[cfg(target_os = "linux")]
pub fn give_back() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let mappings = std::fs::read_to_string("/proc/self/maps")?;
    for Mapping { address, length } in code_of(&mappings, &program.to_string_lossy()) {
        // SAFETY: a private mapping of a file that may be executed and not be written, and never was: code that does not depend
        // on its place has no relocations. Its pages are those of the file, which cannot be written while it is executed. So
        // the next use of a page finds what was there.
        let result = unsafe { libc::madvise(address as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn give_back() -> io::Result<()> {
    Ok(())
}

/// Where `program` is mapped to be executed, and privately, and not to be written.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn code_of(mappings: &str, program: &str) -> Vec<Mapping> {
    let parse = |line: &str| {
        let mut fields = line.splitn(6, ' ');
        let (range, permissions) = (fields.next()?, fields.next()?);
        let path = fields.nth(3)?.trim_start();
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        let is_code = permissions == "r-xp" && path == program && start < end;
        is_code.then(|| Mapping { address: start, length: end - start })
    };
    mappings.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::code_of;

    #[test]
    fn only_code_of_the_program_itself_is_meant() {
        let mappings = "\
55d0c8a00000-55d0c8b00000 r--p 00000000 fd:00 1311                       /usr/bin/capek
55d0c8b00000-55d0c9d00000 r-xp 00100000 fd:00 1311                       /usr/bin/capek
55d0c9d00000-55d0c9e00000 rw-p 01300000 fd:00 1311                       /usr/bin/capek
7f0000000000-7f0000001000 r-xp 00000000 fd:00 1312                       /usr/lib/libc.so.6
7f0000001000-7f0000002000 rwxp 00000000 fd:00 1311                       /usr/bin/capek
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
";
        let found = code_of(mappings, "/usr/bin/capek");
        let found: Vec<_> = found.iter().map(|mapping| (mapping.address, mapping.length)).collect();
        assert_eq!(found, [(0x55d0_c8b0_0000, 0x120_0000)]);
        assert!(code_of(mappings, "/usr/bin/capek (deleted)").is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_program_goes_on() {
        for _ in 0..3 {
            super::give_back().expect("the kernel takes them");
            assert_eq!(format!("{:?}", vec![1.5, 2.5]), "[1.5, 2.5]");
        }
    }
}
