//! What tells this process to stop: SIGTERM, SIGINT as Ctrl-C sends it, and the end of the process that started it.

use rustix::process::{self, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The kernel sends it for each thread of the parent that ends before the last one does. So it must not be SIGTERM, which
/// means "at once" when it comes again.
const PARENT_ENDED: Number = Number::USR1;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    parent_ended: Signal,
    has_parent_ended: bool,
}

impl Signals {
    /// From here on these signals do not end the process by themselves.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent_ended: signal(SignalKind::from_raw(PARENT_ENDED.as_raw()))?,
            has_parent_ended: false,
        })
    }

    /// The name of the next one. The end of the parent is told once.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.parent_ended.recv(), if !self.has_parent_ended => {
                self.has_parent_ended = true;
                "the process that started this one has ended"
            }
        }
    }
}

/// Lets the kernel tell this process of its parent's end, however that ends.
pub fn end_with_parent() -> std::io::Result<()> {
    Ok(process::set_parent_process_death_signal(Some(PARENT_ENDED))?)
}
