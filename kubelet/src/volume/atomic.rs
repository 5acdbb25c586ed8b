//! Files that change all at once: upstream's `AtomicWriter`, in the same layout.
//!
//! ```text
//! key        -> ..data/key
//! ..data     -> ..2026_11_21_07_00_00.1234567890
//! ..2026_11_21_07_00_00.1234567890/key
//! ```
//! A reader that opened `..data` sees one version; the rename of that link is the change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::sys::file;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Projection {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
    /// Who owns it, if not root.
    pub(super) user: Option<u32>,
}

/// Files by their path in the volume.
pub(super) type Payload = BTreeMap<PathBuf, Projection>;

#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("invalid path: must not be empty: {0:?}")]
    Empty(PathBuf),
    #[error("invalid path: must be relative path: {0}")]
    Absolute(String),
    #[error("invalid path: must be less than or equal to {PATH_MAX} characters")]
    LongPath,
    #[error("invalid path: filenames must be less than or equal to {NAME_MAX} characters")]
    LongName,
    #[error("invalid path: must not contain '..': {0}")]
    Dots(String),
    #[error("invalid path: must not start with '..': {0}")]
    LeadingDots(String),
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Makes `dir` hold exactly these files. `own` gives what is new its owner and mode before it is
/// seen. Returns whether anything changed.
pub(super) fn write(
    dir: &Path,
    payload: &Payload,
    own: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<bool, Error> {
    payload.keys().try_for_each(|path| check(path))?;
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(target) => Some(target),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(at("read link", &data)(err)),
    };
    let present = old
        .as_ref()
        .map(|old| files_in(&dir.join(old)))
        .transpose()?;
    let same = present.as_ref().is_some_and(|present| {
        let wanted: BTreeSet<_> = payload.keys().cloned().collect();
        *present == wanted
            && payload
                .iter()
                .all(|(path, file)| is(&data.join(path), &file.data))
    });
    let current = match old {
        Some(old) if same => old,
        _ => publish(dir, payload, own)?,
    };
    show(dir, payload)?;
    sweep(dir, payload, &current)?;
    Ok(!same)
}

/// Upstream's rules for paths, with its words.
fn check(path: &Path) -> Result<(), Error> {
    let text = || path.display().to_string();
    if path.as_os_str().is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    if path.is_absolute() {
        return Err(Error::Absolute(text()));
    }
    if path.as_os_str().len() > PATH_MAX {
        return Err(Error::LongPath);
    }
    for part in path.components() {
        match part {
            Component::Normal(name) if name.len() > NAME_MAX => return Err(Error::LongName),
            Component::Normal(_) => {}
            _ => return Err(Error::Dots(text())),
        }
    }
    if path.as_os_str().as_encoded_bytes().starts_with(b"..") {
        return Err(Error::LeadingDots(text()));
    }
    Ok(())
}

/// Writes a new version and makes it the current one. Returns its name.
fn publish(
    dir: &Path,
    payload: &Payload,
    own: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<PathBuf, Error> {
    let name = PathBuf::from(version_name());
    let version = dir.join(&name);
    make_dir(&version)?;
    for (path, file) in payload {
        let path = version.join(path);
        for parent in parents(&version, &path) {
            if !parent.exists() {
                make_dir(&parent)?;
            }
        }
        let mut open = OpenOptions::new();
        let open = open.write(true).create_new(true).mode(0o600).open(&path);
        let written = open.and_then(|mut out| {
            out.write_all(&file.data)?;
            out.set_permissions(Permissions::from_mode(file.mode))?;
            std::os::unix::fs::fchown(&out, file.user, None)
        });
        written.map_err(at("write", &path))?;
    }
    own(dir).map_err(at("own", dir))?;
    let link = dir.join(NEW_DATA);
    file::remove_all(&link).map_err(at("remove", &link))?;
    symlink(&name, &link).map_err(at("link", &link))?;
    let data = dir.join(DATA);
    fs::rename(&link, &data).map_err(at("rename", &data))?;
    Ok(name)
}

/// Makes the links that pods see, one per first part of a path.
fn show(dir: &Path, payload: &Payload) -> Result<(), Error> {
    for name in visible(payload) {
        let link = dir.join(&name);
        match symlink(Path::new(DATA).join(&name), &link) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(at("link", &link))?,
        }
    }
    Ok(())
}

/// Takes away links to what is no more, and versions other than the current one: the last, and
/// those of writes that were interrupted.
fn sweep(dir: &Path, payload: &Payload, current: &Path) -> Result<(), Error> {
    let visible = visible(payload);
    for entry in fs::read_dir(dir).map_err(at("list", dir))?.flatten() {
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        let ours = name.as_os_str().as_encoded_bytes().starts_with(b"..");
        let stale = match fs::read_link(&path) {
            Ok(target) if !ours => target.starts_with(DATA) && !visible.contains(&name),
            Ok(_) => name != Path::new(DATA),
            Err(_) => ours && name != current,
        };
        if stale {
            file::remove_all(&path).map_err(at("remove", &path))?;
        }
    }
    Ok(())
}

fn visible(payload: &Payload) -> BTreeSet<PathBuf> {
    let first = |path: &PathBuf| {
        path.components()
            .next()
            .map(|c| PathBuf::from(c.as_os_str()))
    };
    payload.keys().filter_map(first).collect()
}

fn files_in(dir: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let (mut files, mut todo) = (BTreeSet::new(), vec![PathBuf::new()]);
    while let Some(below) = todo.pop() {
        let path = dir.join(&below);
        let entries = match fs::read_dir(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(at("list", &path))?,
        };
        for entry in entries.flatten() {
            let name = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(name),
                _ => drop(files.insert(name)),
            }
        }
    }
    Ok(files)
}

fn is(path: &Path, data: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == data)
}

fn parents(root: &Path, path: &Path) -> Vec<PathBuf> {
    let inside = |p: &&Path| p.starts_with(root) && *p != root;
    let mut parents: Vec<_> = path
        .ancestors()
        .skip(1)
        .filter(inside)
        .map(Path::to_owned)
        .collect();
    parents.reverse();
    parents
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(at("create", path))
}

/// `..` and the time, as people know it from upstream, and a number that is not there yet.
fn version_name() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let serial: u32 = rand::random();
    format!("..{year}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{serial:010}")
}

/// Days since 1970 as a date (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| Projection {
            data: data.into(),
            mode: 0o640,
            user: None,
        };
        files
            .iter()
            .map(|(path, data)| (PathBuf::from(path), file(data)))
            .collect()
    }

    fn put(dir: &Path, files: &[(&str, &str)]) -> bool {
        write(dir, &payload(files), |_| Ok(())).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        names
    }

    #[test]
    fn the_layout_is_upstreams() {
        let dir = tempfile::tempdir().unwrap();
        assert!(put(dir.path(), &[("a", "1"), ("d/e/f", "2")]));
        assert_eq!(names(dir.path()), ["..data", "a", "d"]);
        assert_eq!(
            fs::read_link(dir.path().join("a")).unwrap(),
            Path::new("..data/a")
        );
        assert_eq!(
            fs::read_link(dir.path().join("d")).unwrap(),
            Path::new("..data/d")
        );
        let data = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(data.to_str().unwrap().starts_with("..20"));
        assert_eq!(fs::read_to_string(dir.path().join("d/e/f")).unwrap(), "2");
        let mode = fs::metadata(dir.path().join("a"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
    }

    #[test]
    fn only_a_change_makes_a_new_version_and_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1"), ("b", "1")]);
        let first = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(!put(dir.path(), &[("a", "1"), ("b", "1")]));
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), first);
        assert!(put(dir.path(), &[("a", "2")]));
        assert!(!dir.path().join(first).exists());
        assert_eq!(names(dir.path()), ["..data", "a"]);
        assert!(put(dir.path(), &[]));
        assert_eq!(names(dir.path()), ["..data"]);
    }

    #[test]
    fn what_an_interrupted_write_left_goes_and_what_others_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1")]);
        fs::create_dir(dir.path().join("..2020_01_01_00_00_00.1")).unwrap();
        symlink("..2020_01_01_00_00_00.1", dir.path().join("..data_tmp")).unwrap();
        // A mount point for a volume nested in this one.
        fs::create_dir(dir.path().join("nested")).unwrap();
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(!put(dir.path(), &[("a", "1")]));
        assert_eq!(names(dir.path()), ["..data", "a", "nested"]);
        assert!(!dir.path().join("..2020_01_01_00_00_00.1").exists());
    }

    #[test]
    fn a_failure_to_own_leaves_the_old_version() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &[("a", "1")]);
        let failed = write(dir.path(), &payload(&[("a", "2")]), |_| {
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
        assert!(put(dir.path(), &[("a", "2")]));
    }

    #[test]
    fn paths_that_leave_or_pretend_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(256);
        for bad in ["", "/a", "../a", "a/../b", "..a", "..data/x", long.as_str()] {
            assert!(
                write(dir.path(), &payload(&[(bad, "")]), |_| Ok(())).is_err(),
                "{bad:?}"
            );
        }
        put(dir.path(), &[(".hidden", ""), ("a/..b", "")]);
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_778), (2026, 11, 21));
    }
}
