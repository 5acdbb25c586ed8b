//! What a person sees while something is built or started: one line per step with the time it took.

use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

/// Where steps are told.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    Screen,
    /// For tests.
    Silent,
}

const LABEL_WIDTH: usize = 34;

impl Progress {
    /// Does `work` and tells how long it took. On a terminal the label stands there meanwhile.
    pub fn step<T, E>(self, label: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let screen = matches!(self, Self::Screen);
        let mut out = stderr();
        if screen && out.is_terminal() {
            let _ = write!(out, "  {label:<LABEL_WIDTH$} ...");
        }
        let result = work();
        if screen {
            let back = if out.is_terminal() { "\r\x1b[K" } else { "" };
            let outcome = if result.is_ok() { "" } else { "  failed" };
            let seconds = start.elapsed().as_secs_f64();
            let _ = writeln!(
                out,
                "{back}  {label:<LABEL_WIDTH$} {seconds:6.1} s{outcome}"
            );
        }
        result
    }

    pub fn say(self, text: &str) {
        if matches!(self, Self::Screen) {
            eprintln!("{text}");
        }
    }
}
