//! The process and its disks, as Linux tells of them; elsewhere these families are missing.

use std::fs;
use std::path::PathBuf;

use super::exposition::{Exposition, Kind, Labels, Vocabulary};

/// Of `/proc/self/stat`, counted from the field behind the name of the command.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

pub fn write(out: &mut Exposition, dirs: &[PathBuf]) {
    write_disks(out, dirs);
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        write_stat(out, &stat);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let help = "File descriptors that are open.";
        out.one(Vocabulary::Own, "process_open_fds", Kind::Gauge, help, open.count());
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(limit) = max_open_files(&limits) {
        out.one(Vocabulary::Own, "process_max_fds", Kind::Gauge, "File descriptors that may be open.", limit);
    }
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let names = [
        ("kafka_server_kafkaserver_linux_disk_read_bytes", "read_bytes:", "Bytes that came from the disk."),
        ("kafka_server_kafkaserver_linux_disk_write_bytes", "write_bytes:", "Bytes that went to the disk."),
    ];
    for (name, key, help) in names {
        if let Some(bytes) = number_behind(&io, key) {
            out.one(Vocabulary::Strimzi, name, Kind::Gauge, help, bytes);
        }
    }
}

fn write_disks(out: &mut Exposition, dirs: &[PathBuf]) {
    let volumes: Vec<_> = dirs
        .iter()
        .filter_map(|dir| Some((Labels::of(&[("dir", &dir.to_string_lossy())]), rustix::fs::statvfs(dir).ok()?)))
        .collect();
    let mut family =
        out.family(Vocabulary::Own, "capek_disk_free_bytes", Kind::Gauge, "What this process may still write there.");
    for (labels, volume) in &volumes {
        family.sample(labels, volume.f_bavail.saturating_mul(volume.f_frsize));
    }
    let mut family =
        out.family(Vocabulary::Own, "capek_disk_size_bytes", Kind::Gauge, "The file system of the data directory.");
    for (labels, volume) in &volumes {
        family.sample(labels, volume.f_blocks.saturating_mul(volume.f_frsize));
    }
}

fn write_stat(out: &mut Exposition, stat: &str) {
    let fields = fields_of(stat);
    let field = |index: usize| fields.get(index).copied();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    if let (Some(user), Some(system)) = (field(USER_TICKS), field(SYSTEM_TICKS)) {
        let seconds = (user + system) as f64 / ticks;
        let help = "Time on a processor, in seconds.";
        out.one(Vocabulary::Own, "process_cpu_seconds_total", Kind::Counter, help, seconds);
    }
    let boot = number_behind(&fs::read_to_string("/proc/stat").unwrap_or_default(), "btime");
    if let (Some(boot), Some(start)) = (boot, field(START_TICKS)) {
        let help = "When the process began, in seconds since 1970.";
        let began = boot as f64 + start as f64 / ticks;
        out.one(Vocabulary::Own, "process_start_time_seconds", Kind::Gauge, help, began);
    }
    if let Some(pages) = field(RESIDENT_PAGES) {
        let bytes = pages * rustix::param::page_size() as u64;
        let help = "Memory that is there.";
        out.one(Vocabulary::Own, "process_resident_memory_bytes", Kind::Gauge, help, bytes);
    }
    if let Some(bytes) = field(VIRTUAL_BYTES) {
        let help = "Memory that is mapped.";
        out.one(Vocabulary::Own, "process_virtual_memory_bytes", Kind::Gauge, help, bytes);
    }
    if let Some(threads) = field(THREADS) {
        out.one(Vocabulary::Own, "process_threads", Kind::Gauge, "Threads.", threads);
    }
}

/// The numbers behind the command's name, which may hold spaces and brackets; what is none counts as 0.
fn fields_of(stat: &str) -> Vec<u64> {
    let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
}

fn number_behind(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line[key.len()..].trim().parse().ok()
}

fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line["Max open files".len()..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_understood() {
        let stat = "42 (odd) name)) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 700 1048576 256 1";
        let fields = fields_of(stat);
        assert_eq!((fields[USER_TICKS], fields[SYSTEM_TICKS], fields[THREADS]), (250, 50, 9));
        assert_eq!((fields[START_TICKS], fields[VIRTUAL_BYTES], fields[RESIDENT_PAGES]), (700, 1_048_576, 256));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 4096                 files     \n";
        assert_eq!(max_open_files(limits), Some(1024));
        assert_eq!(number_behind("rchar: 5\nread_bytes: 4096\n", "read_bytes:"), Some(4096));
        assert_eq!(number_behind("", "read_bytes:"), None);
    }
}
