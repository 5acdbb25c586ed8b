//! Signals by name and number, as images and pods write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal of Linux on this architecture's numbering.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    pub const TERM: Self = Self(libc::SIGTERM);
    pub const KILL: Self = Self(libc::SIGKILL);
}

/// `SIGRTMIN` as userspace counts it: the C library keeps the first two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

const NAMES: &[(&str, i32)] = &[
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("BUS", libc::SIGBUS),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("IOT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("POLL", libc::SIGIO),
    ("PROF", libc::SIGPROF),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STKFLT", libc::SIGSTKFLT),
    ("STOP", libc::SIGSTOP),
    ("SYS", libc::SIGSYS),
    ("TERM", libc::SIGTERM),
    ("TRAP", libc::SIGTRAP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("VTALRM", libc::SIGVTALRM),
    ("WINCH", libc::SIGWINCH),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

/// No such signal.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Takes `SIGTERM`, `term`, `15`, `SIGRTMIN+3` and `RTMAX-2`.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse() {
            return if (1..=RTMAX).contains(&number) {
                Ok(Self(number))
            } else {
                Err(unknown())
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let number = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => offset.parse::<u8>().ok().map(|n| RTMIN + i32::from(n)),
            (_, Some(offset)) => offset.parse::<u8>().ok().map(|n| RTMAX - i32::from(n)),
            _ => None,
        };
        number
            .filter(|n| (RTMIN..=RTMAX).contains(n))
            .map(Self)
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if (RTMIN..RTMAX).contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_images_and_pods_write_them() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGUSR1", 10),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "SIGNOPE",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN+999",
        ] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_signal() {
        for number in 1..=RTMAX {
            assert_eq!(Signal(number).to_string().parse(), Ok(Signal(number)));
        }
    }
}
