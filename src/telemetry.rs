//! The log of the process: one line for each event on standard error, coloured only on a terminal.

use std::io::Write;

use log::LevelFilter;

/// Starts logging. `CAPEK_LOG` (in env_logger's notation) beats `log4j_level`, which is the level in log4j's words, as
/// images for Kafka set it; without either it is `info` for the broker and `warn` for a command.
pub fn start(default: LevelFilter, log4j_level: Option<&str>) {
    let default = log4j_level.map_or(default, from_log4j);
    let environment = env_logger::Env::new().filter("CAPEK_LOG").write_style("CAPEK_LOG_STYLE");
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(default)
        .filter_module("actix_server", LevelFilter::Warn)
        .filter_module("actix_http", LevelFilter::Off)
        .parse_env(environment)
        .format(|line, record| {
            let style = line.default_level_style(record.level());
            let level = record.level();
            let target = record.target().strip_prefix("capek_").unwrap_or(record.target());
            writeln!(line, "{} {style}{level:5}{style:#} {target}: {}", line.timestamp_millis(), record.args())
        });
    // A second start happens in tests only; the first logger stays.
    let _ = builder.try_init();
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
