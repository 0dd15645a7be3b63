//! `capek tool install DIR`: links with the tools' names, all to this binary.

use std::path::PathBuf;

use clap::Args;

use super::super::Failure;
use super::super::output::say;
use super::Tool;

#[derive(Args)]
pub struct InstallArguments {
    /// Where the links go, a directory on the PATH for instance
    directory: PathBuf,
    /// Replace what has the name of a tool already
    #[arg(short, long)]
    force: bool,
    /// Names that end in .sh, as in Kafka's own bin directory
    #[arg(long)]
    sh: bool,
}

pub fn install(arguments: &InstallArguments) -> Result<(), Failure> {
    let binary = std::env::current_exe()?;
    std::fs::create_dir_all(&arguments.directory).map_err(|error| at(&arguments.directory, &error))?;
    for tool in Tool::ALL {
        let link = arguments.directory.join(format!("{}{}", tool.name(), if arguments.sh { ".sh" } else { "" }));
        if arguments.force && link.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            std::fs::remove_file(&link).map_err(|error| at(&link, &error))?;
        }
        std::os::unix::fs::symlink(&binary, &link).map_err(|error| at(&link, &error))?;
        say(format_args!("{} -> {}", link.display(), binary.display()))?;
    }
    Ok(())
}

fn at(path: &std::path::Path, error: &std::io::Error) -> Failure {
    let hint = if error.kind() == std::io::ErrorKind::AlreadyExists { ": --force replaces it" } else { "" };
    Failure::usage(format!("{}: {error}{hint}", path.display()))
}
