//! A log file that is replaced by a new one when it has grown too large.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Rotation;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where lines go.
pub(super) enum Output {
    Standard,
    File(Rotated),
}

/// A file and what is known of it.
pub(super) struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

impl Output {
    /// Opens a file for appending; it and its directory are made if they are not there.
    pub(super) fn file(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let file = open(path, 0o600)?;
        let size = file.metadata()?.len();
        let rotated = Rotated {
            path: path.to_owned(),
            rotation,
            file,
            size,
        };
        rotated.clean();
        Ok(Self::File(rotated))
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.flush()
            }
            Self::File(file) => file.write(line),
        }
    }
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(mode)
        .open(path)
}

impl Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let (max, len) = (self.rotation.max_size, line.len() as u64);
        if max > 0 {
            if len > max {
                return Err(io::Error::other(format!(
                    "write length {len} exceeds maximum file size {max}"
                )));
            }
            if self.size + len > max {
                self.rotate(SystemTime::now())?;
            }
        }
        self.file.write_all(line)?;
        self.size += len;
        Ok(())
    }

    /// Moves the file away and begins a new one with the same permissions.
    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        // Somebody else may have moved it away already.
        if self.path.exists() {
            std::fs::rename(&self.path, self.backup(now))?;
        }
        let mode = self.file.metadata()?.permissions().mode() & 0o777;
        self.file = open(&self.path, mode)?;
        self.size = self.file.metadata()?.len();
        self.clean();
        Ok(())
    }

    /// What stands before and behind the time in a backup's name.
    fn around(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let extension = match self.path.extension() {
            Some(extension) => format!(".{}", part(Some(extension))),
            None => String::new(),
        };
        (format!("{}-", part(self.path.file_stem())), extension)
    }

    /// `name-2006-01-02T15-04-05.000.log`.
    fn backup(&self, now: SystemTime) -> PathBuf {
        let (head, tail) = self.around();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let text = proto::time::print_time(seconds);
        let text = text.trim_end_matches('Z').replace(':', "-");
        let millis = since.subsec_millis();
        self.path
            .with_file_name(format!("{head}{text}.{millis:03}{tail}"))
    }

    /// When a backup was made; none for other files.
    fn made(&self, name: &str) -> Option<SystemTime> {
        let (head, tail) = self.around();
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let text = name.strip_prefix(&head)?.strip_suffix(&tail)?;
        let (date, time) = text.split_once('T')?;
        let text = format!("{date}T{}Z", time.replace('-', ":"));
        let (seconds, nanos) = proto::time::unix_of(&text)?;
        let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
        Some(UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(nanos).ok()?))
    }

    /// Removes backups that are too many or too old, and compresses the others. What fails is logged
    /// and tried again after the next rotation.
    fn clean(&self) {
        let failed = |error: io::Error| {
            tracing::error!(%error, "old audit logs cannot be cleaned up");
        };
        if let Err(error) = self.try_clean(SystemTime::now()) {
            failed(error);
        }
    }

    fn try_clean(&self, now: SystemTime) -> io::Result<()> {
        let Rotation {
            max_age,
            max_backups,
            compress,
            ..
        } = self.rotation;
        if max_age == 0 && max_backups == 0 && !compress {
            return Ok(());
        }
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut backups = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(made) = self.made(&entry.file_name().to_string_lossy()) {
                backups.push((made, entry.path()));
            }
        }
        backups.sort();
        backups.reverse();
        let age = DAY.saturating_mul(u32::try_from(max_age).unwrap_or(u32::MAX));
        for (i, (made, path)) in backups.iter().enumerate() {
            let old = max_age > 0 && now.duration_since(*made).is_ok_and(|a| a > age);
            if old || (max_backups > 0 && i >= max_backups) {
                std::fs::remove_file(path)?;
            } else if compress && path.extension().is_none_or(|e| e != "gz") {
                gzip(path)?;
            }
        }
        Ok(())
    }
}

/// Replaces a file by its compressed form.
fn gzip(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut from = File::open(path)?;
    let mode = from.metadata()?.permissions().mode() & 0o777;
    let to = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&name)?;
    let mut to = flate2::write::GzEncoder::new(to, flate2::Compression::default());
    let done = io::copy(&mut from, &mut to).and_then(|_| to.finish()?.sync_all());
    if let Err(error) = done {
        // A half of it is worth nothing; the original is still there.
        std::fs::remove_file(&name)?;
        return Err(error);
    }
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests;
