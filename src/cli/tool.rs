//! `capek tool`: Kafka's tools without their names on the PATH, and the links that put them there.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::kafka_tools::{self, InstallArguments, Tool};
use super::{Exit, Failure};

/// Called by the name kafka-topics, kafka-configs and so on this binary is that tool; here they are without links.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct ToolArguments {
    #[command(subcommand)]
    command: ToolCommand,
}

#[derive(Subcommand)]
enum ToolCommand {
    /// Make links with the tools' names to this binary
    Install(InstallArguments),
    /// List the tools
    List,
    /// kafka-topics, kafka-console-producer, kafka-consumer-groups, … with that tool's own arguments
    #[command(external_subcommand)]
    Run(Vec<String>),
}

pub fn run(arguments: ToolArguments) -> Result<(), Failure> {
    match arguments.command {
        ToolCommand::Install(arguments) => kafka_tools::install(&arguments),
        ToolCommand::List => Tool::ALL.into_iter().try_for_each(|tool| super::output::say(tool.name())),
        ToolCommand::Run(words) => {
            let (name, rest) = words.split_first().ok_or_else(|| Failure::usage("name a tool: see capek tool list"))?;
            let tool = Tool::named(OsStr::new(name)).or_else(|| Tool::named(OsStr::new(&format!("kafka-{name}"))));
            let tool =
                tool.ok_or_else(|| Failure::not_found(format!("there is no tool '{name}': see capek tool list")))?;
            match kafka_tools::main(tool, rest.to_vec()) {
                code if code == ExitCode::SUCCESS => Ok(()),
                _ => Err(Failure { exit: Exit::Usage, message: String::new(), quiet: false }),
            }
        }
    }
}
