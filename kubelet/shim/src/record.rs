//! The exit of a container on disk: `name value` lines in the file [`FILE`] of its directory.
//!
//! Invariant: the file is there completely or not at all, and is on disk before anybody is told.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::protocol::Exit;

/// Name of the file.
pub const FILE: &str = "exit";

/// Writes the record.
///
/// # Errors
/// If the directory is gone or the disk is full.
pub fn write(dir: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = dir.join("exit.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(to_text(exit).as_bytes())?;
    file.sync_data()?;
    fs::rename(&temporary, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// Reads the record; `None` if the container has not ended.
///
/// # Errors
/// If it cannot be read or understood.
pub fn read(dir: &Path) -> io::Result<Option<Exit>> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => from_text(&text)
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn to_text(exit: &Exit) -> String {
    let Exit {
        code,
        signal,
        oom,
        started_at,
        finished_at,
        start_error,
        lost,
    } = exit;
    let (oom, lost) = (u8::from(*oom), u8::from(*lost));
    let error = start_error.replace('\n', " ");
    format!(
        "code {code}\nsignal {signal}\noom {oom}\nlost {lost}\n\
         started {started_at}\nfinished {finished_at}\nerror {error}\n"
    )
}

fn from_text(text: &str) -> Option<Exit> {
    let mut exit = Exit::default();
    let mut finished = false;
    for line in text.lines() {
        let (name, value) = line.split_once(' ')?;
        match name {
            "code" => exit.code = value.parse().ok()?,
            "signal" => exit.signal = value.parse().ok()?,
            "oom" => exit.oom = value == "1",
            "lost" => exit.lost = value == "1",
            "started" => exit.started_at = value.parse().ok()?,
            "finished" => (exit.finished_at, finished) = (value.parse().ok()?, true),
            "error" => value.clone_into(&mut exit.start_error),
            _ => {} // of a newer shim
        }
    }
    finished.then_some(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let exit = Exit {
            code: 137,
            signal: 9,
            oom: true,
            started_at: 5,
            finished_at: 1_700_000_000_000_000_001,
            start_error: "two\nlines".into(),
            lost: true,
        };
        let read = from_text(&to_text(&exit)).unwrap();
        assert_eq!(
            read,
            Exit {
                start_error: "two lines".into(),
                ..exit
            }
        );
    }

    #[test]
    fn what_is_cut_short_is_no_record() {
        assert_eq!(from_text("code 0\nsignal 0\n"), None);
        assert_eq!(from_text("code x\nfinished 1\n"), None);
        assert_eq!(from_text("garbage"), None);
    }
}
