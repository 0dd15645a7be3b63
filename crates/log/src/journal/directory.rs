//! A data directory is opened and closed: the lock, whose it is, the clean-stop mark.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capek_wire::Uuid;

use super::format::Salt;
use super::high_watermarks::{self, note_high_watermarks};
use super::points::{Points, PointsError, PointsWriter};
use super::recovery::{self, Recovered};
use super::ring::Ring;
use super::round::Round;
use super::swap::{note_cleaned_ends, read_cleaner_checkpoint};
use super::{JOURNAL_DIRECTORY, Journal, JournalOptions, Known, PARTITION_METADATA, Recovery, Removal};
use crate::error::{DirFailed, OpenError};
use crate::file_cache::FileCache;
use crate::ids::{LogId, LogKey, parse_directory_name};
use crate::text::{MetaProperties, offset_checkpoint_text, parse_partition_metadata};
use crate::vfs::{Vfs, is_no_space, read_file_if_there, remove_file_if_there, replace_file, write_file};

const LOCK: &str = ".lock";
const META_PROPERTIES: &str = "meta.properties";
const META_VERSION: &str = "1";
/// What Kafka's tools take for the mark of a clean stop; ours is in the recovery points.
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// What is in a data directory, by name.
#[derive(Default)]
pub(super) struct Names {
    /// Partition directories; `None`: no topic id that can be read.
    pub logs: BTreeMap<String, Option<LogKey>>,
    pub ids: BTreeMap<LogKey, LogId>,
    /// Directories on their way out.
    pub leftovers: Vec<PathBuf>,
    /// Directories that an earlier life set aside.
    pub strays: Vec<PathBuf>,
}

pub(super) fn open(vfs: Arc<dyn Vfs>, options: JournalOptions) -> Result<(Journal, Recovery), OpenError> {
    let path = options.path.clone();
    let at = OpenError::at(&path);
    create_directories(&*vfs, &path).map_err(&at)?;
    let lock = vfs.lock(&path.join(LOCK)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse(path.clone()),
        _ => at(error),
    })?;
    check_owner(&*vfs, &options)?;
    let journal_path = path.join(JOURNAL_DIRECTORY);
    vfs.create_directory(&journal_path).map_err(&at)?;
    let names = read_names(&*vfs, &path).map_err(&at)?;
    let mut points = read_points(&*vfs, &path, &names)?;
    let files = Arc::new(FileCache::new(vfs.clone(), options.open_files_max));
    let recovered = recovery::recover(&vfs, &files, &options, &points, &names)?;

    points.starts += 1;
    points.sequence = Points::first_sequence(points.starts);
    let ring = start_writing(&*vfs, &options, &mut points, &recovered).map_err(&at)?;
    let (recovery, mut known) = describe(recovered, points.sequence);
    note_cleaned_ends(&mut known, &read_cleaner_checkpoint(&*vfs, &path).map_err(&at)?);
    note_high_watermarks(&mut known, &*vfs, &path).map_err(&at)?;
    let journal = Journal {
        points_writer: PointsWriter::new(journal_path),
        vfs,
        files,
        salt: points.salt,
        starts: points.starts,
        ring,
        known,
        names: names.logs,
        deleted: BTreeMap::new(),
        round: Round::default(),
        sequence: points.sequence,
        attempt: 0,
        round_number: 0,
        durable_sequence: points.sequence,
        flushed_pending: Vec::new(),
        forget_pending: Vec::new(),
        dirty: Vec::new(),
        pending: VecDeque::new(),
        helper: Default::default(),
        removals: names.leftovers.into_iter().map(leftover).collect::<VecDeque<_>>(),
        strays: names.strays,
        cleaner_checkpoint_changed: false,
        high_watermarks_due_ms: 0,
        failed: None,
        options,
        _lock: lock,
    };
    Ok((journal, recovery))
}

fn leftover(path: PathBuf) -> Removal {
    Removal { due_ms: i64::MIN, path, is_directory: true }
}

/// Makes the directory, and its parents; its own name is durable, too.
fn create_directories(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match (vfs.create_directory(path), parent) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            create_directories(vfs, parent)?;
            vfs.create_directory(path)?;
        }
        (result, _) => result?,
    }
    match parent.map(|parent| vfs.sync_directory(parent)) {
        // Then somebody else made it.
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Some(result) => result,
        None => Ok(()),
    }
}

/// `meta.properties`: ours, or written now.
fn check_owner(vfs: &dyn Vfs, options: &JournalOptions) -> Result<(), OpenError> {
    let path = &options.path;
    let at = OpenError::at(path);
    let file = path.join(META_PROPERTIES);
    let Some(bytes) = read_file_if_there(vfs, &file).map_err(&at)? else {
        let text = MetaProperties::text(options.node_id, &options.cluster_id, Uuid(vfs.unique_id()));
        replace_file(vfs, &file, &path.join("meta.properties.tmp"), text.as_bytes()).map_err(&at)?;
        return vfs.sync_directory(path).map_err(&at);
    };
    let meta = MetaProperties::parse(&String::from_utf8_lossy(&bytes));
    if meta.version.is_empty() {
        return Err(OpenError::Corrupt { path: path.clone(), problem: "meta.properties says no version".to_owned() });
    }
    if meta.version != META_VERSION {
        return Err(OpenError::NewerVersion {
            path: path.clone(),
            found: format!("meta.properties version {}", meta.version),
        });
    }
    if let Some(found) = meta.node_id.filter(|found| *found != options.node_id) {
        return Err(OpenError::OtherNode { path: path.clone(), found, expected: options.node_id });
    }
    match meta.cluster_id {
        Some(found) if found != options.cluster_id => {
            Err(OpenError::OtherCluster { path: path.clone(), found, expected: options.cluster_id.clone() })
        }
        _ => Ok(()),
    }
}

fn read_names(vfs: &dyn Vfs, path: &Path) -> io::Result<Names> {
    let mut names = Names::default();
    for entry in vfs.read_directory(path)?.into_iter().filter(|entry| entry.is_directory) {
        if entry.name.ends_with("-delete") {
            names.leftovers.push(path.join(&entry.name));
        }
        if entry.name.ends_with("-stray") {
            names.strays.push(path.join(&entry.name));
        }
        let Some((topic, partition)) = parse_directory_name(&entry.name) else { continue };
        let metadata = read_file_if_there(vfs, &path.join(&entry.name).join(PARTITION_METADATA))?;
        let topic_id = metadata.and_then(|bytes| parse_partition_metadata(std::str::from_utf8(&bytes).ok()?));
        let key = topic_id.map(|topic_id| LogKey { topic_id, partition });
        if let Some(key) = key {
            names.ids.insert(key, LogId { topic: topic.into(), topic_id: key.topic_id, partition });
        }
        names.logs.insert(entry.name, key);
    }
    Ok(names)
}

fn read_points(vfs: &dyn Vfs, path: &Path, names: &Names) -> Result<Points, OpenError> {
    let corrupt = |problem: &str| OpenError::Corrupt { path: path.to_owned(), problem: problem.into() };
    match Points::read(vfs, &path.join(JOURNAL_DIRECTORY)) {
        Ok(Some(points)) => Ok(points),
        // Points are durable before the first log is made.
        Ok(None) if names.ids.is_empty() => Ok(Points::fresh(Salt(vfs.unique_id()))),
        Ok(None) => Err(corrupt("it has logs but no recovery points")),
        Err(PointsError::Newer(found)) => Err(OpenError::NewerVersion { path: path.to_owned(), found }),
        Err(PointsError::Corrupt) => Err(corrupt("the recovery points are damaged")),
        Err(PointsError::Io(error)) => Err(OpenError::at(path)(error)),
    }
}

/// Everything that was read or written becomes durable, then the points of the new start, which are not clean; only then
/// may the first log open and the first round be written.
fn start_writing(
    vfs: &dyn Vfs,
    options: &JournalOptions,
    points: &mut Points,
    recovered: &Recovered,
) -> io::Result<Ring> {
    let journal_path = options.path.join(JOURNAL_DIRECTORY);
    PointsWriter::remove_temporaries(vfs, &journal_path)?;
    remove_file_if_there(vfs, &options.path.join(CLEAN_SHUTDOWN))?;
    let ring = Ring::open(vfs, &journal_path, options.file_bytes)?;
    if recovered.is_clean {
        vfs.sync_directory(&options.path)?;
    } else {
        vfs.sync_filesystem(&options.path)?;
    }
    points.is_clean = false;
    points.logs = recovered.points(points.sequence);
    PointsWriter::new(journal_path).write(vfs, points)?;
    Ok(ring)
}

fn describe(recovered: Recovered, sequence: u64) -> (Recovery, BTreeMap<LogKey, Known>) {
    let mut recovery = Recovery {
        clean: recovered.is_clean,
        replayed_rounds: recovered.rounds,
        replayed_entries: recovered.entries,
        logs: Vec::new(),
    };
    let mut known = BTreeMap::new();
    for log in recovered.logs {
        let point = log.point(sequence);
        recovery.logs.push(super::RecoveredLog {
            id: log.id.clone(),
            log_start: point.log_start,
            end: log.end,
            flushed_end: log.end,
            damaged: log.damaged.clone(),
        });
        let state = Known {
            log_start: point.log_start,
            end: point.end,
            cleaned_end: 0,
            high_watermark: point.log_start,
            sequence: point.sequence,
            damaged: log.damaged,
            log: None,
            id: log.id,
        };
        known.insert(state.id.key(), state);
    }
    (recovery, known)
}

impl Journal {
    /// A clean stop: everything is synced, then the mark is left. What is still queued must be written before.
    pub fn close(mut self) -> Result<(), DirFailed> {
        self.check_failed()?;
        match self.close_all() {
            // What was confirmed is as safe as after a crash.
            Err(error) if is_no_space(&error) => {
                let path = self.options.path.display();
                ::log::warn!("{path}: no room for the mark of a clean stop: the next start replays the journal");
                Ok(())
            }
            result => result.map_err(|error| self.fail(error)),
        }
    }

    fn close_all(&mut self) -> io::Result<()> {
        self.stop_helpers()?;
        self.write_pending(usize::MAX)?;
        for known in self.known.values() {
            let Some(log) = &known.log else { continue };
            if let Some(writer) = log.writer().as_mut() {
                log.write_side_files(writer)?;
            }
        }
        self.write_checkpoints()?;
        self.write_changed_cleaner_checkpoint()?;
        self.vfs.sync_filesystem(&self.options.path)?;
        self.write_clean_points()?;
        write_file(&*self.vfs, &self.options.path.join(CLEAN_SHUTDOWN), b"{\"version\":0,\"brokerEpoch\":-1}")?
            .sync_data()?;
        self.vfs.sync_directory(&self.options.path)
    }

    /// For Kafka's tools.
    fn write_checkpoints(&self) -> io::Result<()> {
        let point = |known: &Known| match &known.log {
            Some(log) => (log.log_start(), log.end_offset()),
            None => (known.log_start, known.end),
        };
        let logs: Vec<_> = self.known.values().map(|known| (&known.id, point(known))).collect();
        let ends = logs.iter().map(|(id, (_, end))| (&*id.topic, id.partition, *end));
        let starts = logs.iter().map(|(id, (start, _))| (&*id.topic, id.partition, *start));
        for (name, text) in [
            ("recovery-point-offset-checkpoint", offset_checkpoint_text(ends)),
            (high_watermarks::FILE_NAME, self.high_watermarks_text()),
            ("log-start-offset-checkpoint", offset_checkpoint_text(starts)),
        ] {
            write_file(&*self.vfs, &self.options.path.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}
