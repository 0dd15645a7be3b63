//! `capek log`: reads a partition's directory, or one segment, without a broker.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;

#[derive(Subcommand)]
pub enum LogCommand {
    /// Print the batches of a partition directory or segment
    Dump(DumpArguments),
    /// Check every batch of a partition directory or segment
    Verify(DumpArguments),
}

#[derive(Args)]
pub struct DumpArguments {
    path: PathBuf,
}

pub fn run(_command: LogCommand) -> Result<(), Failure> {
    Err(Failure::usage("placeholder"))
}
