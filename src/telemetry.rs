//! The log of the process: one line for each event on standard error, coloured only on a terminal.

use std::io::Write;

use capek_actors::log_levels;
use env_logger::Logger;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Starts logging. `CAPEK_LOG` (in env_logger's notation) beats `log4j_level`, which is the level in log4j's words, as
/// images for Kafka set it; without either it is `info` for the broker and `warn` for a command.
pub fn start(default: LevelFilter, log4j_level: Option<&str>) {
    let default = log4j_level.map_or(default, from_log4j);
    let environment = env_logger::Env::new().filter("CAPEK_LOG").write_style("CAPEK_LOG_STYLE");
    let mut started = env_logger::Builder::new();
    started
        .filter_level(default)
        .filter_module("actix_server", LevelFilter::Warn)
        .filter_module("actix_http", LevelFilter::Off)
        // It tells of every vote and of each try to reach a peer that is down; what matters of it is said by our own.
        .filter_module("openraft", LevelFilter::Off)
        .parse_env(environment);
    let started = started.build();
    let mut writer = env_logger::Builder::new();
    writer
        .filter_level(LevelFilter::Trace)
        .parse_write_style(&std::env::var("CAPEK_LOG_STYLE").unwrap_or_default())
        .format(|line, record| {
            let style = line.default_level_style(record.level());
            let level = record.level();
            let target = record.target().strip_prefix("capek_").unwrap_or(record.target());
            writeln!(line, "{} {style}{level:5}{style:#} {target}: {}", line.timestamp_millis(), record.args())
        });
    let logger = Adjustable { started, writer: writer.build() };
    log_levels::start(|target| logger.started_level(target));
    let highest = logger.started.filter();
    // A second start happens in tests only; the first logger stays.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(highest);
    }
}

/// What was set while the process runs beats what it started with.
struct Adjustable {
    started: Logger,
    writer: Logger,
}

impl Adjustable {
    fn started_level(&self, target: &str) -> LevelFilter {
        let is_on = |level: &Level| self.started.enabled(&Metadata::builder().target(target).level(*level).build());
        Level::iter().filter(is_on).last().map_or(LevelFilter::Off, |level| level.to_level_filter())
    }
}

impl Log for Adjustable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match log_levels::level_for(metadata.target()) {
            Some(level) => metadata.level() <= level,
            None => self.started.enabled(metadata),
        }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.writer.log(record);
        }
    }

    fn flush(&self) {
        self.writer.flush();
    }
}

fn from_log4j(level: &str) -> LevelFilter {
    match level.to_ascii_uppercase().as_str() {
        "OFF" => LevelFilter::Off,
        "FATAL" | "ERROR" => LevelFilter::Error,
        "WARN" => LevelFilter::Warn,
        "DEBUG" => LevelFilter::Debug,
        "TRACE" | "ALL" => LevelFilter::Trace,
        _ => LevelFilter::Info,
    }
}
