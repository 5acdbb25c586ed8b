//! Tells when the contents of directories changed, without saying what: readers look again.
#![allow(
    unsafe_code,
    reason = "the runtime takes a descriptor on its owner's word"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// A watch on one or more directories. Belongs to the runtime on which it was made.
pub struct Watch {
    inotify: AsyncFd<Raw>,
}

/// What the runtime's poller asks for.
struct Raw(Inotify);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Raw` owns its descriptor and gives the same one until it is dropped with the
        // `AsyncFd`.
        let inotify = unsafe { AsyncFd::register(Raw(inotify)) }?;
        Ok(Self { inotify })
    }

    /// Adds a directory. Files count when they are complete: closed after writing, moved in, linked
    /// or removed.
    pub fn add(&self, dir: &Path) -> io::Result<()> {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.get_ref().0.add_watch(dir, events)?;
        Ok(())
    }

    /// Adds a directory whose files count whenever something is written to them, too.
    pub fn add_growing(&self, dir: &Path) -> io::Result<()> {
        let events = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.get_ref().0.add_watch(dir, events)?;
        Ok(())
    }

    /// Waits until something changed since the last call. Many changes may be told once; none is
    /// lost: what happens after the return is told by the next call.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match self.inotify.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(nix::Error::EAGAIN) => ready.clear_ready(),
                Err(nix::Error::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_moved_in_is_told() {
        let (dir, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(from.path().join("a"), "x").unwrap();
        let watch = Watch::new().unwrap();
        watch.add(dir.path()).unwrap();
        std::fs::rename(from.path().join("a"), dir.path().join("a")).unwrap();
        watch.changed().await.unwrap();
    }
}
