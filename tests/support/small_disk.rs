//! A file system of its own that is soon full. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SMALL_DISK_BYTES: u64 = 96 << 20;

/// An ext4 in a file, mounted; unmounted when dropped.
pub struct SmallDisk {
    pub path: PathBuf,
}

impl SmallDisk {
    pub fn mount(directory: &Path) -> SmallDisk {
        let (image, path) = (directory.join("image"), directory.join("disk"));
        fs::create_dir(&path).expect("the test's directory is writable");
        let file = fs::File::create(&image).expect("the test's directory is writable");
        file.set_len(SMALL_DISK_BYTES).expect("a sparse file");
        must(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        must(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
        SmallDisk { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker of a failed test may still run.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} (this test needs root): {}", String::from_utf8_lossy(&output.stderr));
}
