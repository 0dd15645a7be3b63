//! `capek`: a replicated log broker, and the command line to use one. Everything begins in [`cli`].

mod banner;
mod cli;
mod client;
mod config;
mod expression;
mod http;
mod server;
mod signals;
mod telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
