//! Reads the files of a log in order. Blocking.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Options;
use super::line::{self, Stream};

/// Output of one step, about.
const BATCH: usize = 64 << 10;
/// Longer lines are cut: runtimes write 16 KiB and a little.
const MAX_LINE: u64 = 1 << 20;
/// How much is looked at at once for the start of the last lines.
const BLOCK: usize = 64 << 10;

pub(super) struct Reader {
    path: PathBuf,
    options: Options,
    file: BufReader<File>,
    inode: (u64, u64),
    /// The file was moved away; what was written just before is read now.
    moved: bool,
    /// The begin of a line whose end is not there yet.
    begun: Vec<u8>,
    /// Lines and bytes that may still be sent.
    lines: Option<u64>,
    bytes: Option<u64>,
    at_line_start: bool,
}

/// A step.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) bytes: Bytes,
    /// There may be more at once.
    pub(super) more: bool,
}

impl Reader {
    pub(super) fn open(path: &Path, options: Options) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let files = files(&path)?;
        let (file, offset) = match options.tail {
            Some(lines) => tail(&files, lines)?,
            None => (files.first().cloned().unwrap_or_else(|| path.clone()), 0),
        };
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            inode: inode(&file.metadata()?),
            file: BufReader::with_capacity(BLOCK, file),
            moved: false,
            begun: Vec::new(),
            lines: options.tail.filter(|_| !options.follow),
            bytes: options.limit,
            at_line_start: true,
            path,
            options,
        })
    }

    /// Nothing more is wanted.
    pub(super) fn is_done(&self) -> bool {
        self.lines == Some(0) || self.bytes == Some(0)
    }

    /// Reads on. `ended` says that nothing more is being written, so that the last line may lack its
    /// end.
    pub(super) fn batch(&mut self, ended: bool) -> io::Result<Batch> {
        let mut out = Vec::new();
        let more = loop {
            if self.is_done() {
                break false;
            }
            if out.len() >= BATCH {
                break true;
            }
            let room = MAX_LINE.saturating_sub(self.begun.len() as u64);
            let read = (&mut self.file)
                .take(room)
                .read_until(b'\n', &mut self.begun)?;
            if self.begun.ends_with(b"\n") || read as u64 == room {
                self.take_line(&mut out);
            } else if self.next_file()? {
                if !self.begun.is_empty() && self.moved_on() {
                    self.take_line(&mut out);
                }
            } else {
                if ended && !self.begun.is_empty() {
                    self.take_line(&mut out);
                }
                break false;
            }
        };
        Ok(Batch {
            bytes: out.into(),
            more,
        })
    }

    /// Whether the file at hand is a fresh one.
    const fn moved_on(&self) -> bool {
        !self.moved
    }

    fn take_line(&mut self, out: &mut Vec<u8>) {
        let begun = std::mem::take(&mut self.begun);
        if let Some(line) = line::parse(&begun) {
            self.put(&line, out);
            self.lines = self.lines.map(|lines| lines.saturating_sub(1));
            self.at_line_start = line.content.last().is_none_or(|byte| *byte == b'\n');
        }
        self.begun = begun;
        self.begun.clear();
    }

    fn put(&mut self, line: &line::Line<'_>, out: &mut Vec<u8>) {
        let wanted = match line.stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        if !wanted || self.options.since.is_some_and(|since| line.at < since) {
            return;
        }
        let start = out.len();
        if self.options.timestamps && self.at_line_start {
            out.extend_from_slice(line::shown(line.time).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.content);
        if let Some(left) = &mut self.bytes {
            let length = usize::try_from(*left).unwrap_or(usize::MAX);
            out.truncate(start.saturating_add(length));
            *left = left.saturating_sub((out.len() - start) as u64);
        }
    }

    /// At the end of a file: whether there is more to read, in this one, which was moved away, or in
    /// the one that came after it.
    fn next_file(&mut self) -> io::Result<bool> {
        let current = match fs::metadata(&self.path) {
            Ok(current) => inode(&current),
            // Between the two steps of a rotation; or removed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        if current == self.inode {
            return Ok(false);
        }
        if !self.moved {
            self.moved = true;
            return Ok(true);
        }
        let files = files(&self.path)?;
        let is_own = |file: &PathBuf| fs::metadata(file).is_ok_and(|m| inode(&m) == self.inode);
        // If it is gone already, so is what came right after it: the oldest is next.
        let next = files.iter().position(is_own).map_or(0, |own| own + 1);
        let Some(next) = files.get(next) else {
            return Ok(false);
        };
        let file = match File::open(next) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true), // removed: look again
            Err(e) => return Err(e),
        };
        self.inode = inode(&file.metadata()?);
        self.file = BufReader::with_capacity(BLOCK, file);
        self.moved = false;
        Ok(true)
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The files of a log, the oldest first; the current one last, if it is there. Compressed ones are left
/// out, and so is everything that is older.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut names: Vec<String> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| file.starts_with(&prefix))
        .filter(|file| !file.ends_with(".tmp"))
        .collect();
    names.sort();
    let plain = names
        .iter()
        .rposition(|file| file.ends_with(".gz"))
        .map_or(0, |last| last + 1);
    let mut files: Vec<_> = names[plain..].iter().map(|file| dir.join(file)).collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Where the last lines begin.
fn tail(files: &[PathBuf], lines: u64) -> io::Result<(PathBuf, u64)> {
    let mut left = lines;
    for path in files.iter().rev() {
        match tail_of(&mut File::open(path)?, left)? {
            Ok(offset) => return Ok((path.clone(), offset)),
            Err(found) => left -= found,
        }
    }
    match files.first() {
        Some(first) => Ok((first.clone(), 0)),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The offset of the last lines of a file, or how many it has, if it has less.
fn tail_of(file: &mut File, lines: u64) -> io::Result<Result<u64, u64>> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(Ok(end));
    }
    let mut block = vec![0; BLOCK];
    let (mut found, mut from) = (0, end);
    while from > 0 {
        let length = from.min(BLOCK as u64);
        from -= length;
        file.seek(SeekFrom::Start(from))?;
        let block = &mut block[..usize::try_from(length).unwrap_or(BLOCK)];
        file.read_exact(block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let at = from + i as u64;
            // The end of the last line is not the end of one before it.
            if *byte == b'\n' && at + 1 < end {
                found += 1;
                if found == lines {
                    return Ok(Ok(at + 1));
                }
            }
        }
    }
    // The first line has no line end before it.
    if end > 0 {
        found += 1;
    }
    Ok(if found == lines { Ok(0) } else { Err(found) })
}

#[cfg(test)]
mod tests;
