//! The command line: arguments in, one file per command, exit codes out.

mod actors;
mod bench;
mod cluster;
mod config;
mod connect;
mod consume;
mod decode;
mod dev;
mod failure;
mod format;
mod group;
mod group_plan;
mod health;
mod http_get;
mod kafka_tools;
mod log_files;
mod offsets;
mod output;
mod produce;
mod record_json;
mod serve;
mod tool;
mod topic;
mod topic_describe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use log::LevelFilter;

pub use failure::{Exit, Failure};

/// A replicated log broker that Kafka clients, curl and browsers use at the same time, and the tools to use one.
///
/// Without a command it starts one broker with its data in ./capek-data.
#[derive(Parser)]
#[command(name = "capek", version, args_conflicts_with_subcommands = true, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker (what happens without a command, too)
    Serve(serve::ServeArguments),
    /// Run brokers on this machine, one process each, for development
    Dev(dev::DevArguments),
    /// List, create, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Show the cluster, add and remove voters
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Send records from a file or standard input, one a line
    Produce(produce::ProduceArguments),
    /// Read records from topics
    Consume(consume::ConsumeArguments),
    /// Explain, check, show and change configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask whether a broker is ready
    Health(health::HealthArguments),
    /// Draw a broker's live tree of actors
    Actors(actors::ActorsArguments),
    /// Look into a partition's files on disk
    #[command(subcommand)]
    Log(log_files::LogCommand),
    /// Be one of Kafka's command-line tools, or make links with their names
    Tool(tool::ToolArguments),
    /// Measure a broker, any that speaks Kafka's protocol, and verify what it returns
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Runs the program.
pub fn main() -> ExitCode {
    // The name by which the program is called may be that of one of Kafka's tools.
    let mut words = std::env::args_os();
    if let Some(tool) = words.next().as_deref().and_then(kafka_tools::Tool::named) {
        return kafka_tools::main(tool, words.map(|word| word.to_string_lossy().into_owned()).collect());
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no error; clap's own code for errors is not ours.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.quiet => ExitCode::SUCCESS,
        Err(failure) => {
            output::warn(format_args!("capek: {failure}"));
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let command = arguments.command.unwrap_or(Command::Serve(arguments.serve));
    if !matches!(command, Command::Serve(_)) {
        crate::telemetry::start(LevelFilter::Warn, None);
    }
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Dev(arguments) => block_on(dev::run(arguments)),
        Command::Topic(command) => block_on(topic::run(command)),
        Command::Group(command) => block_on(group::run(command)),
        Command::Cluster(command) => block_on(cluster::run(command)),
        Command::Produce(arguments) => block_on(produce::run(arguments)),
        Command::Consume(arguments) => block_on(consume::run(arguments)),
        Command::Config(command) => config::run(command),
        Command::Health(arguments) => block_on(health::run(arguments)),
        Command::Actors(arguments) => block_on(actors::run(arguments)),
        Command::Log(command) => log_files::run(command),
        Command::Tool(arguments) => tool::run(arguments),
        Command::Bench(command) => block_on(bench::run(command)),
    }
}

/// One thread is enough for a client, and starts fastest.
fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // A thread that still reads standard input must not keep the process.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        let arguments = Arguments::try_parse_from(["capek", "--kafka", ":9092", "--set", "a=b"]).unwrap();
        assert!(arguments.command.is_none());
        let arguments = Arguments::try_parse_from(["capek", "serve", "--node-id", "3"]).unwrap();
        assert!(matches!(arguments.command, Some(Command::Serve(_))));
        assert!(Arguments::try_parse_from(["capek", "groups", "list"]).is_err());
    }
}
