//! Ctrl-C: the first asks the run to end in order, the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// The shell's convention for a program that a signal ended: 128 and SIGINT.
const EXIT: i32 = 130;

#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on. Called before any other thread is started, which would receive the signals otherwise.
    pub(super) fn listen() -> Self {
        let stop = Self::default();
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        if signals.thread_block().is_ok() {
            let asked = stop.clone();
            thread::spawn(move || {
                while signals.wait().is_ok() {
                    if asked.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT);
                    }
                }
            });
        }
        stop
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
