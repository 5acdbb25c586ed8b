//! A container's log in CRI's format: `TIME STREAM F|P CONTENT`.
//!
//! Owns the file and its rotation: at the limit it is renamed to `FILE.YYYYMMDD-hhmmss`, as the
//! kubelet has always named them, and the oldest are removed.
//!
//! Invariants: a write is of whole lines, so that they are never torn apart; a line longer than
//! [`MAX_LINE`] is a chain of `P` parts; a container never waits for its log's disk to have room: what
//! cannot be written is dropped and said so once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use shim::protocol;

use crate::poll::Stream;
use crate::sys;
use crate::time::{file_suffix, rfc3339};

/// Longest content of one line: what CRI runtimes write.
pub(crate) const MAX_LINE: usize = 16 << 10;

/// What is written at once, about: short lines grow many times by what is put before them.
const WRITE: usize = 64 << 10;

pub(crate) struct Log {
    /// `None` when output is discarded.
    path: Option<PathBuf>,
    file: Option<File>,
    size: u64,
    max_size: u64,
    max_files: u32,
    /// Begun lines of standard output and error.
    begun: [Vec<u8>; 2],
    complained: bool,
    /// Time suffix of the last file put aside, and how many had it before.
    rotated: (String, u32),
}

impl Log {
    pub(crate) fn open(config: &protocol::Log) -> io::Result<Self> {
        let path = Some(PathBuf::from(&config.path)).filter(|path| !path.as_os_str().is_empty());
        let mut log = Self {
            path,
            file: None,
            size: 0,
            max_size: config.max_size,
            max_files: config.max_files.max(2),
            begun: [Vec::new(), Vec::new()],
            complained: false,
            rotated: (String::new(), 0),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file by its name, after somebody moved it.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Takes output at a time (nanoseconds since 1970). A line's begin is kept until its end comes.
    pub(crate) fn write(&mut self, stream: Stream, at: i64, data: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let mut begun = std::mem::take(&mut self.begun[stream as usize]);
        let mut lines = Lines::new(at, stream, data.len());
        let mut rest = data;
        while !rest.is_empty() {
            let room = MAX_LINE - begun.len();
            let end = sys::find_line_end(&rest[..rest.len().min(room + 1)]);
            rest = match end {
                Some(end) => {
                    lines.push(b'F', &begun, &rest[..end]);
                    &rest[end + 1..]
                }
                None if rest.len() > room => {
                    lines.push(b'P', &begun, &rest[..room]);
                    &rest[room..]
                }
                None => {
                    begun.extend_from_slice(rest);
                    break;
                }
            };
            begun.clear();
            if lines.text.len() >= WRITE || self.is_full(lines.text.len()) {
                self.append(&lines.text);
                lines.text.clear();
            }
        }
        self.append(&lines.text);
        if !begun.is_empty() {
            self.begun[stream as usize] = begun; // idle containers hold nothing
        }
    }

    /// Writes a line that was begun and will not end.
    pub(crate) fn finish(&mut self, stream: Stream, at: i64) {
        let begun = std::mem::take(&mut self.begun[stream as usize]);
        if !begun.is_empty() {
            let mut lines = Lines::new(at, stream, begun.len());
            lines.push(b'P', &begun, b"");
            self.append(&lines.text);
        }
    }

    fn append(&mut self, text: &[u8]) {
        let (Some(file), false) = (&mut self.file, text.is_empty()) else {
            return;
        };
        if let Err(error) = file.write_all(text) {
            self.complain("writing", &error);
            return;
        }
        self.size += text.len() as u64;
        if self.is_full(0)
            && let Err(error) = self.rotate()
        {
            self.complain("rotating", &error);
        }
    }

    /// Whether the file has its size with this much more.
    const fn is_full(&self, more: usize) -> bool {
        self.max_size > 0 && self.size + more as u64 >= self.max_size
    }

    fn complain(&mut self, doing: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            eprintln!(
                "{doing} log {:?}: {error}",
                self.path.as_deref().unwrap_or(Path::new(""))
            );
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        fs::rename(&path, self.aside(&path))?;
        self.reopen()?;
        self.prune(&path)
    }

    /// A name for the file that is put aside: that of the second, with a number if the second has one
    /// already. Names sort by age, even when older ones of the same second are gone.
    fn aside(&mut self, path: &Path) -> PathBuf {
        let second = file_suffix(sys::now());
        loop {
            let same = self.rotated.0 == second;
            self.rotated = (second.clone(), if same { self.rotated.1 + 1 } else { 0 });
            let name = match self.rotated.1 {
                0 => format!("{}.{second}", path.display()),
                number => format!("{}.{second}.{number:06}", path.display()),
            };
            if !Path::new(&name).exists() {
                return name.into();
            }
        }
    }

    fn prune(&self, path: &Path) -> io::Result<()> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            return Ok(());
        };
        let prefix = format!("{name}.");
        let mut rotated: Vec<PathBuf> = fs::read_dir(dir)?
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|n| n.starts_with(&prefix))
            })
            .map(|entry| entry.path())
            .collect();
        rotated.sort();
        let excess = (rotated.len() + 1).saturating_sub(self.max_files as usize);
        rotated[..excess].iter().try_for_each(fs::remove_file)
    }
}

/// Lines in the making, all of one time and stream.
struct Lines {
    head: String,
    text: Vec<u8>,
}

impl Lines {
    fn new(at: i64, stream: Stream, room: usize) -> Self {
        let stream = match stream {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        };
        Self {
            head: format!("{} {stream} ", rfc3339(at)),
            text: Vec::with_capacity(room.min(WRITE) + 64),
        }
    }

    fn push(&mut self, tag: u8, begun: &[u8], end: &[u8]) {
        self.text.extend_from_slice(self.head.as_bytes());
        self.text.extend_from_slice(&[tag, b' ']);
        self.text.extend_from_slice(begun);
        self.text.extend_from_slice(end);
        self.text.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
