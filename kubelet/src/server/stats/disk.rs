//! Disk usage, which nobody tells: it is counted when it is asked for, and remembered for a while.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

use super::summary::{FsStats, Time};

/// How long a count is good for; upstream's `volumeStatsAggPeriod`.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// Unused counts are forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What a directory takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

#[derive(Default)]
pub(super) struct Disks {
    counted: Mutex<HashMap<PathBuf, (Instant, Usage)>>,
}

impl Disks {
    /// What a directory takes, at most a minute ago. Blocking.
    pub(super) fn usage(&self, path: &Path) -> Usage {
        if let Some((when, usage)) = self.counted.lock().get(path)
            && when.elapsed() < GOOD_FOR
        {
            return *usage;
        }
        let usage = count(path);
        let mut counted = self.counted.lock();
        counted.retain(|_, (when, _)| when.elapsed() < FORGET);
        counted.insert(path.to_owned(), (Instant::now(), usage));
        usage
    }
}

/// Counts a directory as `du -x` does: blocks that are used, each file once. What vanishes or cannot be
/// read meanwhile is left out.
fn count(root: &Path) -> Usage {
    let Ok(top) = fs::symlink_metadata(root) else {
        return Usage::default();
    };
    let mut usage = Usage {
        bytes: top.blocks().saturating_mul(512),
        inodes: 1,
    };
    let mut linked = HashSet::new();
    let mut dirs = if top.is_dir() {
        vec![root.to_owned()]
    } else {
        Vec::new()
    };
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev()
                || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino()))
            {
                continue;
            }
            usage.bytes = usage
                .bytes
                .saturating_add(meta.blocks().saturating_mul(512));
            usage.inodes = usage.inodes.saturating_add(1);
            if meta.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    usage
}

/// The file system of a path. Used is what is used of the whole, or `usage`, if that is known.
pub(super) fn file_system(path: &Path, usage: Option<Usage>) -> io::Result<FsStats> {
    let fs = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.fragment_size());
    let (inodes, free) = (fs.files(), fs.files_free());
    let whole = Usage {
        bytes: bytes(fs.blocks().saturating_sub(fs.blocks_free())),
        inodes: inodes.saturating_sub(free),
    };
    let used = usage.unwrap_or(whole);
    Ok(FsStats {
        time: Time(SystemTime::now()),
        available_bytes: bytes(fs.blocks_available()),
        capacity_bytes: bytes(fs.blocks()),
        used_bytes: used.bytes,
        inodes_free: free,
        inodes,
        inodes_used: used.inodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_sparse_ones_by_their_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("sub")).unwrap();
        let empty = count(path);
        assert_eq!(empty.inodes, 2);
        fs::write(path.join("sub/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(path.join("sub/file"), path.join("again")).unwrap();
        fs::File::create(path.join("sparse"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        std::os::unix::fs::symlink("/", path.join("link")).unwrap();
        let full = count(path);
        assert_eq!(full.inodes, 5);
        let grown = full.bytes - empty.bytes;
        assert!((100_000..200_000).contains(&grown), "{grown}");
    }

    #[test]
    fn what_is_not_there_takes_nothing() {
        assert_eq!(count(Path::new("/no/such")), Usage::default());
        assert!(file_system(Path::new("/no/such"), None).is_err());
    }
}
