//! Kafka's own command-line tools by their names: what they take, what they print, what they end with.
//!
//! Called `kafka-topics` (or `kafka-topics.sh`), or as `capek tool kafka-topics …`, the binary is that tool. One file a tool;
//! the options of all of them are read by [`options`].

mod acls;
mod admin;
mod broker_api_versions;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod consumer_perf;
mod delete_records;
mod deserializer;
mod error;
mod get_offsets;
mod group_output;
mod group_reset;
mod install;
mod line_reader;
mod message_formatter;
mod options;
mod producer_perf;
mod properties;
mod topic_filter;
mod topics;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use error::ToolError;
pub use install::{InstallArguments, install};
use options::{OptionSpec, Options, flag, usage};

use super::output::{say, warn};

/// The release of Kafka whose tools these are like.
const LIKE_KAFKA: &str = "4.3.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Acls,
    BrokerApiVersions,
    Configs,
    ConsoleConsumer,
    ConsoleProducer,
    ConsumerGroups,
    ConsumerPerf,
    DeleteRecords,
    GetOffsets,
    ProducerPerf,
    Topics,
}

impl Tool {
    pub const ALL: [Tool; 11] = [
        Tool::Acls,
        Tool::BrokerApiVersions,
        Tool::Configs,
        Tool::ConsoleConsumer,
        Tool::ConsoleProducer,
        Tool::ConsumerGroups,
        Tool::ConsumerPerf,
        Tool::DeleteRecords,
        Tool::GetOffsets,
        Tool::ProducerPerf,
        Tool::Topics,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Acls => "kafka-acls",
            Tool::BrokerApiVersions => "kafka-broker-api-versions",
            Tool::Configs => "kafka-configs",
            Tool::ConsoleConsumer => "kafka-console-consumer",
            Tool::ConsoleProducer => "kafka-console-producer",
            Tool::ConsumerGroups => "kafka-consumer-groups",
            Tool::ConsumerPerf => "kafka-consumer-perf-test",
            Tool::DeleteRecords => "kafka-delete-records",
            Tool::GetOffsets => "kafka-get-offsets",
            Tool::ProducerPerf => "kafka-producer-perf-test",
            Tool::Topics => "kafka-topics",
        }
    }

    /// The tool of this name, with or without `.sh` and the directory before it.
    pub fn named(name: &OsStr) -> Option<Tool> {
        let name = Path::new(name).file_name()?.to_str()?;
        let name = name.strip_suffix(".sh").unwrap_or(name);
        Tool::ALL.into_iter().find(|tool| tool.name() == name)
    }

    fn about(self) -> &'static str {
        match self {
            Tool::Acls => "This tool helps to manage ACLs.",
            Tool::BrokerApiVersions => "This tool shows which versions of each API the brokers speak.",
            Tool::Configs => "This tool shows and changes the dynamic configs of topics, brokers and other entities.",
            Tool::ConsoleConsumer => "This tool reads records from topics and writes them to standard output.",
            Tool::ConsoleProducer => "This tool reads lines from standard input and sends them to a topic.",
            Tool::ConsumerGroups => "This tool lists, describes and deletes consumer groups, and resets their offsets.",
            Tool::ConsumerPerf => "This tool measures how fast records can be consumed.",
            Tool::DeleteRecords => "This tool deletes the records of partitions below given offsets.",
            Tool::GetOffsets => "This tool shows the offsets of partitions.",
            Tool::ProducerPerf => "This tool measures how fast records can be produced.",
            Tool::Topics => "This tool creates, deletes, describes and changes topics.",
        }
    }

    fn options(self) -> &'static [OptionSpec] {
        match self {
            Tool::Acls => acls::OPTIONS,
            Tool::BrokerApiVersions => broker_api_versions::OPTIONS,
            Tool::Configs => configs::OPTIONS,
            Tool::ConsoleConsumer => console_consumer::OPTIONS,
            Tool::ConsoleProducer => console_producer::OPTIONS,
            Tool::ConsumerGroups => consumer_groups::OPTIONS,
            Tool::ConsumerPerf => consumer_perf::OPTIONS,
            Tool::DeleteRecords => delete_records::OPTIONS,
            Tool::GetOffsets => get_offsets::OPTIONS,
            Tool::ProducerPerf => producer_perf::OPTIONS,
            Tool::Topics => topics::OPTIONS,
        }
    }

    async fn run(self, options: Options) -> Result<(), ToolError> {
        match self {
            Tool::Acls => acls::run(options).await,
            Tool::BrokerApiVersions => broker_api_versions::run(options).await,
            Tool::Configs => configs::run(options).await,
            Tool::ConsoleConsumer => console_consumer::run(options).await,
            Tool::ConsoleProducer => console_producer::run(options).await,
            Tool::ConsumerGroups => consumer_groups::run(options).await,
            Tool::ConsumerPerf => consumer_perf::run(options).await,
            Tool::DeleteRecords => delete_records::run(options).await,
            Tool::GetOffsets => get_offsets::run(options).await,
            Tool::ProducerPerf => producer_perf::run(options).await,
            Tool::Topics => topics::run(options).await,
        }
    }
}

/// Every tool explains itself.
const COMMON: [OptionSpec; 2] =
    [flag("help", "Print usage information."), flag("version", "Display version information and exit.")];

/// Runs a tool with its arguments and answers what the process ends with.
pub fn main(tool: Tool, arguments: Vec<String>) -> ExitCode {
    crate::telemetry::start(log::LevelFilter::Warn, None);
    let specs = [tool.options(), &COMMON].concat();
    match start(tool, &specs, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            if error.with_usage {
                warn(usage(&specs).trim_end());
            }
            ExitCode::from(error.exit)
        }
    }
}

fn start(tool: Tool, specs: &[OptionSpec], arguments: Vec<String>) -> Result<(), ToolError> {
    // The performance tool for producers has a parser of its own, in which several values follow one option.
    let arguments = if tool == Tool::ProducerPerf { producer_perf::spread(arguments) } else { arguments };
    let options = Options::parse(specs, &arguments).map_err(|problem| unparsed(tool, problem))?;
    if options.has("help") {
        // Kafka's tools call this a failure, too.
        return Err(ToolError::usage(tool.about()));
    }
    if options.has("version") {
        return Ok(say(format_args!("{LIKE_KAFKA} (capek {})", env!("CARGO_PKG_VERSION")))?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(tool.run(options));
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    result
}

fn unparsed(tool: Tool, problem: String) -> ToolError {
    match tool {
        Tool::GetOffsets => ToolError::usage(format!("Error occurred: {problem}")),
        Tool::ConsumerGroups => ToolError::usage(format!("Exception in thread \"main\" {problem}")),
        _ => ToolError::usage(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_known_by_its_name_wherever_it_lies() {
        for tool in Tool::ALL {
            for name in
                [tool.name().to_owned(), format!("{}.sh", tool.name()), format!("/opt/kafka/bin/{}.sh", tool.name())]
            {
                assert_eq!(Tool::named(OsStr::new(&name)), Some(tool), "{name}");
            }
        }
        for name in ["capek", "kafka-storage", "kafka-topics.bat", ""] {
            assert_eq!(Tool::named(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn no_tool_has_an_option_twice() {
        for tool in Tool::ALL {
            let mut names: Vec<&str> = tool.options().iter().chain(&COMMON).map(|spec| spec.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", tool.name());
        }
    }
}
