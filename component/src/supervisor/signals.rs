//! SIGTERM and SIGINT: the first asks for the end, the second is obeyed at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Supervisor;

/// The exit code after a second signal, upstream's.
const IMPATIENT: i32 = 1;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn watch(mut self, supervisor: Supervisor) {
        self.next().await;
        supervisor.stop();
        self.next().await;
        tracing::warn!("Second signal, exiting at once");
        std::process::exit(IMPATIENT)
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
