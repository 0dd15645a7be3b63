//! A disk in memory for tests. It keeps what was synced; of the rest a power cut leaves any subset of 512-byte sectors
//! and of names, in no order. The same seed gives the same subset.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BLOCK_BYTES, DirectoryEntry, LockGuard, OpenMode, ReadAt, Vfs, VfsFile};

const SECTOR_BYTES: u64 = 512;
const ROOT: u64 = 0;

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimVfs {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    random: u64,
    operations: u64,
    crash_at: Option<u64>,
    is_off: bool,
    capacity_bytes: Option<u64>,
    locks: BTreeMap<String, Arc<AtomicBool>>,
}

enum Node {
    File(FileNode),
    Directory(DirectoryNode),
}

#[derive(Default)]
struct FileNode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
}

#[derive(Default)]
struct DirectoryNode {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
}

enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone)]
enum NameChange {
    Add { name: String, node: u64 },
    Remove { name: String },
    Rename { from: String, to: String, node: u64 },
}

/// How much of the unsynced survives a power cut.
#[derive(Clone, Copy)]
enum Survival {
    Nothing,
    Half,
    Everything,
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    node: u64,
}

struct SimLock(Arc<AtomicBool>);

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated power is off")
}

impl SimVfs {
    /// An empty disk; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> SimVfs {
        let mut nodes = BTreeMap::new();
        nodes.insert(ROOT, Node::Directory(DirectoryNode::default()));
        SimVfs {
            disk: Arc::new(Mutex::new(Disk {
                nodes,
                next_node: ROOT + 1,
                random: seed,
                operations: 0,
                crash_at: None,
                is_off: false,
                capacity_bytes: None,
                locks: BTreeMap::new(),
            })),
        }
    }

    /// Writes, syncs and changes of names so far.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// The power goes in the middle of the operation of this number (counted from 1) and everything fails after it.
    pub fn crash_at(&self, operation: Option<u64>) {
        self.disk().crash_at = operation;
    }

    pub fn is_off(&self) -> bool {
        self.disk().is_off
    }

    /// All files together may not grow beyond this.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.disk().capacity_bytes = capacity_bytes;
    }

    /// The power goes (if it did not yet) and comes back: what was not synced survives in part.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// Flips one bit, on the platter and in the cache.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.file_at(path)?;
        let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        for bytes in [&mut file.live, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off { Err(power_is_off()) } else { Ok(()) }
    }

    /// Counts a change; `true` when the power goes in the middle of it.
    fn count(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.operations += 1;
        self.is_off = self.crash_at.is_some_and(|at| self.operations >= at);
        Ok(self.is_off)
    }

    fn lookup(&self, path: &Path) -> io::Result<u64> {
        let mut node = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or(ErrorKind::InvalidInput)?;
            let Some(Node::Directory(directory)) = self.nodes.get(&node) else {
                return Err(ErrorKind::NotFound.into());
            };
            node = *directory.live.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn parent_and_name(&self, path: &Path) -> io::Result<(u64, String)> {
        let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        Ok((self.lookup(parent)?, name.to_owned()))
    }

    fn directory(&mut self, node: u64) -> io::Result<&mut DirectoryNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, node: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn file_at(&mut self, path: &Path) -> io::Result<&mut FileNode> {
        let node = self.lookup(path)?;
        self.file(node)
    }

    fn change_name(&mut self, directory: u64, change: NameChange) -> io::Result<()> {
        let stops = self.count()?;
        let directory = self.directory(directory)?;
        apply_name(&mut directory.live, &change);
        directory.pending.push(change);
        if stops { Err(power_is_off()) } else { Ok(()) }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<u64> {
        let (parent, name) = self.parent_and_name(path)?;
        let number = self.next_node;
        self.next_node += 1;
        self.nodes.insert(number, node);
        self.change_name(parent, NameChange::Add { name, node: number })?;
        Ok(number)
    }

    fn change_file(&mut self, node: u64, change: FileChange) -> io::Result<()> {
        let stops = self.count()?;
        self.check_room(node, &change)?;
        let file = self.file(node)?;
        apply_change(&mut file.live, &change);
        file.pending.push(change);
        if stops { Err(power_is_off()) } else { Ok(()) }
    }

    fn check_room(&mut self, node: u64, change: &FileChange) -> io::Result<()> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let length = self.file(node)?.live.len() as u64;
        let end = match change {
            FileChange::Write { position, bytes } => position + bytes.len() as u64,
            FileChange::SetLen(_) => return Ok(()),
        };
        let used: u64 =
            self.nodes.values().map(|node| if let Node::File(file) = node { file.live.len() as u64 } else { 0 }).sum();
        if used + end.saturating_sub(length) > capacity && end > length {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync_node(&mut self, node: u64) {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => {
                for change in std::mem::take(&mut file.pending) {
                    apply_change(&mut file.durable, &change);
                }
            }
            Some(Node::Directory(directory)) => {
                for change in std::mem::take(&mut directory.pending) {
                    apply_name(&mut directory.durable, &change);
                }
            }
            None => {}
        }
    }

    fn crash(&mut self) {
        let survival = match self.next_random() % 4 {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Half,
        };
        let numbers: Vec<u64> = self.nodes.keys().copied().collect();
        for number in numbers {
            self.crash_node(number, survival);
        }
        self.forget_unreachable();
        for lock in self.locks.values() {
            lock.store(false, Ordering::Release);
        }
        self.is_off = false;
        self.crash_at = None;
    }

    fn crash_node(&mut self, number: u64, survival: Survival) {
        let Some(mut node) = self.nodes.remove(&number) else { return };
        match &mut node {
            Node::File(file) => {
                for change in std::mem::take(&mut file.pending) {
                    self.tear(&mut file.durable, change, survival);
                }
                file.live = file.durable.clone();
            }
            Node::Directory(directory) => {
                for change in std::mem::take(&mut directory.pending) {
                    if self.survives(survival) {
                        apply_name(&mut directory.durable, &change);
                    }
                }
                directory.live = directory.durable.clone();
            }
        }
        self.nodes.insert(number, node);
    }

    fn survives(&mut self, survival: Survival) -> bool {
        match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Half => self.next_random().is_multiple_of(2),
        }
    }

    fn tear(&mut self, durable: &mut Vec<u8>, change: FileChange, survival: Survival) {
        let FileChange::Write { position, bytes } = change else {
            if self.survives(survival) {
                apply_change(durable, &change);
            }
            return;
        };
        let mut at = 0;
        while at < bytes.len() {
            let absolute = position + at as u64;
            let sector_end = (absolute / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let end = bytes.len().min(at + (sector_end - absolute) as usize);
            if self.survives(survival) {
                apply_write(durable, absolute, &bytes[at..end]);
            }
            at = end;
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(number) = next.pop() {
            if let Some(Node::Directory(directory)) = self.nodes.get(&number) {
                next.extend(directory.live.values());
            }
            reached.insert(number);
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }
}

fn apply_name(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Add { name, node } => {
            names.insert(name.clone(), *node);
        }
        NameChange::Remove { name } => {
            names.remove(name);
        }
        NameChange::Rename { from, to, node } => {
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
    }
}

fn apply_change(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { position, bytes } => apply_write(content, *position, bytes),
        FileChange::SetLen(length) => content.resize(*length as usize, 0),
    }
}

fn apply_write(content: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let (start, end) = (position as usize, position as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}

impl SimFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for SimFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        disk.check_power()?;
        let content = &disk.file(self.node)?.live;
        let start = (position as usize).min(content.len());
        let end = start.saturating_add(length).min(content.len());
        Ok(content[start..end].to_vec())
    }
}

impl VfsFile for SimFile {
    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk().change_file(self.node, FileChange::Write { position, bytes: bytes.to_vec() })
    }

    fn write_all_vectored_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.disk().change_file(self.node, FileChange::Write { position, bytes })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.count()? {
            return Err(power_is_off());
        }
        disk.sync_node(self.node);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk().change_file(self.node, FileChange::SetLen(length))
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.check_power()?;
        Ok(disk.file(self.node)?.live.len() as u64)
    }
}

/// Takes only what a disk takes past the cache, and no more than was there.
struct InPlaceFile(Arc<dyn VfsFile>);

impl ReadAt for InPlaceFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(position, length)
    }
}

impl VfsFile for InPlaceFile {
    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let starts = [position as usize, bytes.as_ptr() as usize];
        let is_aligned = starts.iter().all(|start| start.is_multiple_of(BLOCK_BYTES));
        let is_whole = (bytes.len() as u64).is_multiple_of(SECTOR_BYTES);
        assert!(is_aligned && is_whole, "{} bytes at {position} are not whole blocks", bytes.len());
        assert!(position + bytes.len() as u64 <= self.0.len()?, "it was not written before");
        self.0.write_all_at(position, bytes)
    }

    fn write_all_vectored_at(&self, _: u64, _: &[IoSlice<'_>]) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut disk = self.disk();
        disk.check_power()?;
        let node = match disk.lookup(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && mode == OpenMode::Create => {
                disk.add(path, Node::File(FileNode::default()))?
            }
            other => other?,
        };
        disk.file(node)?;
        Ok(Arc::new(SimFile { disk: self.disk.clone(), node }))
    }

    fn open_in_place(&self, path: &Path) -> io::Result<Option<Arc<dyn VfsFile>>> {
        Ok(Some(Arc::new(InPlaceFile(self.open(path, OpenMode::Write)?))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        let node = disk.lookup(from)?;
        let (from_parent, from) = disk.parent_and_name(from)?;
        let (to_parent, to) = disk.parent_and_name(to)?;
        assert_eq!(from_parent, to_parent, "nothing here renames from one directory to another");
        disk.change_name(from_parent, NameChange::Rename { from, to, node })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        disk.file_at(path)?;
        let (parent, name) = disk.parent_and_name(path)?;
        disk.change_name(parent, NameChange::Remove { name })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        let node = disk.lookup(path)?;
        if !disk.directory(node)?.live.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = disk.parent_and_name(path)?;
        disk.change_name(parent, NameChange::Remove { name })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        match disk.lookup(path) {
            Ok(node) => disk.directory(node).map(|_| ()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                disk.add(path, Node::Directory(DirectoryNode::default())).map(|_| ())
            }
            Err(error) => Err(error),
        }
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut disk = self.disk();
        disk.check_power()?;
        let node = disk.lookup(path)?;
        let names = disk.directory(node)?.live.clone();
        let is_directory = |node| matches!(disk.nodes.get(node), Some(Node::Directory(_)));
        Ok(names
            .iter()
            .map(|(name, node)| DirectoryEntry { name: name.clone(), is_directory: is_directory(node) })
            .collect())
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.check_power()?;
        Ok(disk.file_at(path)?.live.len() as u64)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.count()? {
            return Err(power_is_off());
        }
        let node = disk.lookup(path)?;
        disk.sync_node(node);
        Ok(())
    }

    fn sync_filesystem(&self, _path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.count()? {
            return Err(power_is_off());
        }
        let numbers: Vec<u64> = disk.nodes.keys().copied().collect();
        for number in numbers {
            disk.sync_node(number);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let mut disk = self.disk();
        disk.check_power()?;
        let lock = disk.locks.entry(path.to_string_lossy().into_owned()).or_default().clone();
        if lock.swap(true, Ordering::AcqRel) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(lock)))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.disk().capacity_bytes.unwrap_or(u64::MAX))
    }

    fn unique_id(&self) -> [u8; 16] {
        let mut disk = self.disk();
        (u128::from(disk.next_random()) << 64 | u128::from(disk.next_random())).to_be_bytes()
    }
}
