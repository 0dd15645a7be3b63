//! The log levels of this process, which can be changed while it runs (IncrementalAlterConfigs on BROKER_LOGGER). They last
//! until it ends; what it starts with comes from its environment.
//!
//! A logger is a module path, written with dots as tools expect it, `capek_actors.connection`: its level counts for it and all below it. `root` stands for all
//! of this broker's own modules. The logger itself lives in the doors; it asks here first.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use log::LevelFilter;

pub const ROOT: &str = "root";
/// The crates whose modules are loggers.
pub const CRATES: [&str; 4] = ["capek", "capek_actors", "capek_log", "capek_state"];
/// The modules that are told of before anybody has set them: tools change only what they are told of.
const MODULES: [&str; 12] = [
    "capek_actors.broker",
    "capek_actors.connection",
    "capek_actors.controller",
    "capek_actors.journal",
    "capek_actors.listener",
    "capek_actors.partition",
    "capek_actors.produce",
    "capek_actors.replica_manager",
    "capek_actors.requests",
    "capek_actors.retention",
    "capek_actors.stream_session",
    "capek_log.journal",
];
/// A process does not need more levels of its own than this.
const LEVELS_MAX: usize = 1000;

/// What was set since the start, by logger; None while nothing was, which costs a log line nothing.
static SET: ArcSwapOption<BTreeMap<String, LevelFilter>> = ArcSwapOption::const_empty();
/// What the process started with, by logger.
static STARTED: LazyLock<Mutex<BTreeMap<&'static str, LevelFilter>>> = LazyLock::new(Mutex::default);

/// Called once, with the levels that the environment asked for.
pub fn start(level_of: impl Fn(&str) -> LevelFilter) {
    let names = CRATES.into_iter().chain(MODULES).chain([ROOT]);
    let target = |name: &str| if name == ROOT { CRATES[0].to_string() } else { name.replace('.', "::") };
    let level = |name| (name, level_of(&target(name)));
    *STARTED.lock().unwrap_or_else(PoisonError::into_inner) = names.map(level).collect();
}

/// The level that was set for this module (of a log line, with colons) or for one above it; None: as the process started.
pub fn level_for(target: &str) -> Option<LevelFilter> {
    let set = SET.load();
    let set = set.as_ref()?;
    let mut path = target;
    loop {
        let dotted = path.replace("::", ".");
        if let Some(level) = set.get(&dotted) {
            return Some(*level);
        }
        match path.rsplit_once("::") {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    CRATES.contains(&path).then(|| set.get(ROOT).copied()).flatten()
}

/// Whether a logger of this name can be: `root`, a crate of ours, or a module below one.
pub fn exists(name: &str) -> bool {
    name == ROOT || CRATES.contains(&name.split('.').next().unwrap_or_default())
}

/// Every logger that has a level to tell, with it.
pub fn all() -> BTreeMap<String, LevelFilter> {
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut levels: BTreeMap<String, LevelFilter> =
        started.into_iter().map(|(name, level)| (name.into(), level)).collect();
    if let Some(set) = SET.load().as_ref() {
        for name in CRATES.into_iter().chain(MODULES) {
            levels.extend(level_for(&name.replace('.', "::")).map(|level| (name.to_string(), level)));
        }
        levels.extend(set.iter().map(|(name, level)| (name.clone(), *level)));
    }
    levels
}

/// Sets some levels and takes others back (None); false when there would be too many.
pub fn change(changes: &[(String, Option<LevelFilter>)]) -> bool {
    let mut levels = SET.load().as_deref().cloned().unwrap_or_default();
    for (name, level) in changes {
        match level {
            Some(level) => levels.insert(name.clone(), *level),
            None => levels.remove(name),
        };
    }
    if levels.len() > LEVELS_MAX {
        return false;
    }
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let highest = levels.values().chain(started.values()).max().copied().unwrap_or(LevelFilter::Info);
    // What no logger wants is not even formatted.
    log::set_max_level(highest.max(log::STATIC_MAX_LEVEL.min(LevelFilter::Info)));
    SET.store((!levels.is_empty()).then(|| levels.into()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_counts_for_a_module_and_all_below_it() {
        let set = |name: &str, level| assert!(change(&[(name.to_string(), level)]));
        assert_eq!(level_for("capek_actors::connection"), None);
        set(ROOT, Some(LevelFilter::Warn));
        set("capek_actors.requests", Some(LevelFilter::Debug));
        assert_eq!(level_for("capek_actors::requests::fetch"), Some(LevelFilter::Debug));
        assert_eq!(level_for("capek_actors::connection"), Some(LevelFilter::Warn));
        assert_eq!(level_for("actix_server::worker"), None, "what is not ours keeps its level");
        set("capek_actors.requests", None);
        assert_eq!(level_for("capek_actors::requests::fetch"), Some(LevelFilter::Warn));
        set(ROOT, None);
        assert_eq!(level_for("capek_actors::connection"), None);
        assert!(exists("root") && exists("capek_log.journal") && !exists("org.apache") && !exists(""));
    }
}
