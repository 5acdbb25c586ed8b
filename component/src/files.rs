//! Values made from files, made again when the files change.
//!
//! Files are looked at when the value is used, at most every few seconds: a process that nobody talks
//! to does not wake up. A change is a change of inode, size or times, so that both an atomic rename
//! and a symlink that is switched (mounted secrets) are seen. If the new content cannot be used, the
//! old value stays in use, the failure is logged, and the files are read again.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How old the knowledge about the files may be.
const FRESH: Duration = Duration::from_secs(5);

/// A value made from files.
pub struct FromFiles<T> {
    paths: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync>,
    fresh: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    seen: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What changes when a file does.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl<T> FromFiles<T> {
    /// Makes the value for the first time; `make` reads `paths`.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new<E, F>(paths: Vec<PathBuf>, make: F) -> Result<Self, E>
    where
        E: Error + Send + Sync + 'static,
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
    {
        // Looked at before they are read: a change in between is noticed next time.
        let seen = paths.iter().map(|p| Stamp::of(p)).collect();
        let state = State {
            value: Arc::new(make()?),
            seen,
            looked: Instant::now(),
        };
        let make = Box::new(move || make().map_err(Into::into));
        Ok(Self {
            paths,
            make,
            fresh: FRESH,
            state: Mutex::new(state),
        })
    }

    /// The value as of now, or a few seconds ago.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= self.fresh {
            state.looked = Instant::now();
            let seen: Vec<_> = self.paths.iter().map(|p| Stamp::of(p)).collect();
            if seen != state.seen {
                match (self.make)() {
                    Ok(value) => {
                        tracing::info!(files = ?self.paths, "Files changed");
                        state.value = Arc::new(value);
                        state.seen = seen;
                    }
                    Err(e) => {
                        tracing::error!(files = ?self.paths, error = %e, "Changed files cannot be used")
                    }
                }
            }
        }
        Arc::clone(&state.value)
    }

    /// For tests: the files are looked at each time.
    #[cfg(test)]
    pub(crate) fn look_always(&mut self) {
        self.fresh = Duration::ZERO;
    }
}

/// A text file that is read again when it changes, by whoever makes something of its text: what that
/// costs, and what its failure means, is the caller's.
pub struct TextFile {
    path: PathBuf,
    state: Mutex<TextState>,
}

struct TextState {
    text: String,
    seen: Option<Stamp>,
    looked: Instant,
    /// When to read it again even if it is the same.
    again: Option<Instant>,
}

impl TextFile {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub fn open(path: &Path) -> std::io::Result<(Self, String)> {
        let seen = Stamp::of(path);
        let text = std::fs::read_to_string(path)?;
        let state = TextState {
            text: text.clone(),
            seen,
            looked: Instant::now(),
            again: None,
        };
        let file = Self {
            path: path.to_owned(),
            state: Mutex::new(state),
        };
        Ok((file, text))
    }

    /// The text, if it is another one than the last that was given out. Looks at most every few
    /// seconds; one caller gets the answer. That a changed file cannot be read is told once.
    pub fn changed(&self) -> Option<std::io::Result<String>> {
        let mut state = self.state.lock();
        if state.looked.elapsed() < FRESH {
            return None;
        }
        state.looked = Instant::now();
        let again = state.again.is_some_and(|at| at <= Instant::now());
        let seen = Stamp::of(&self.path);
        if seen == state.seen && !again {
            return None;
        }
        state.seen = seen;
        state.again = None;
        match std::fs::read_to_string(&self.path) {
            Ok(text) if text == state.text && !again => None,
            Ok(text) => {
                state.text.clone_from(&text);
                Some(Ok(text))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Gives the text out once more after a while, though it stays the same: what it names may be
    /// there then.
    pub fn once_more(&self, after: Duration) {
        self.state.lock().again = Some(Instant::now() + after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> FromFiles<u32> {
        let read = path.to_owned();
        let mut value = FromFiles::new(vec![path.to_owned()], move || {
            std::fs::read_to_string(&read)
                .map_err(std::io::Error::other)?
                .trim()
                .parse::<u32>()
                .map_err(std::io::Error::other)
        })
        .unwrap();
        value.look_always();
        value
    }

    #[test]
    fn a_switched_symlink_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (
            dir.path().join("1"),
            dir.path().join("2"),
            dir.path().join("now"),
        );
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "2").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let value = number(&link);
        assert_eq!(*value.current(), 1);
        let next = dir.path().join("next");
        std::os::unix::fs::symlink(&two, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
        assert_eq!(*value.current(), 2);
    }

    #[test]
    fn what_cannot_be_used_leaves_the_old_value_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let value = number(&path);
        std::fs::write(&path, "none").unwrap();
        assert_eq!(*value.current(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*value.current(), 1);
        std::fs::write(&path, "3").unwrap();
        assert_eq!(*value.current(), 3);
    }
}
