//! Files and directories of the node: the types of hostPath volumes, with upstream's words.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("hostPath type check failed: {path} is not a {expected}{is}")]
    Type {
        path: String,
        expected: &'static str,
        is: String,
    },
    #[error("{0} is an invalid volume type")]
    Kind(String),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// Checks what is there against the type that the pod wants, making it if the type says so. Without
/// a type a missing path becomes a directory, as container runtimes do.
pub(super) fn check(path: &str, kind: &str) -> Result<(), Error> {
    let at = Path::new(path);
    let made = match (kind, at.exists()) {
        ("DirectoryOrCreate" | "", false) => make_dir(at),
        ("FileOrCreate", false) => make_file(at),
        _ => Ok(()),
    };
    made.map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let (expected, wanted) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" | "Directory" => ("directory", "Directory"),
        "FileOrCreate" | "File" => ("file", "File"),
        "Socket" => ("socket file", "Socket"),
        "CharDevice" => ("character device", "CharDevice"),
        "BlockDevice" => ("block device", "BlockDevice"),
        other => return Err(Error::Kind(other.to_owned())),
    };
    match kind_of(at) {
        Ok(found) if found == wanted => Ok(()),
        found => {
            let is = match found {
                Ok(found) => format!(", it's a {found}"),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    format!(", unable to determine its type: path {path:?} does not exist")
                }
                Err(err) => format!(", unable to determine its type: {err}"),
            };
            Err(Error::Type {
                path: path.to_owned(),
                expected,
                is,
            })
        }
    }
}

fn kind_of(path: &Path) -> io::Result<&'static str> {
    let kind = fs::metadata(path)?.file_type();
    Ok(match () {
        () if kind.is_dir() => "Directory",
        () if kind.is_file() => "File",
        () if kind.is_socket() => "Socket",
        () if kind.is_char_device() => "CharDevice",
        () if kind.is_block_device() => "BlockDevice",
        () => "Unknown",
    })
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn make_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made_as_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        check(&at("a/b"), "DirectoryOrCreate").unwrap();
        check(&at("a/b"), "Directory").unwrap();
        check(&at("f"), "FileOrCreate").unwrap();
        check(&at("none"), "").unwrap();
        assert!(Path::new(&at("none")).is_dir());
        check("/dev/null", "CharDevice").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
        check(&at("s"), "Socket").unwrap();
        let text = |path: String, kind| check(&path, kind).unwrap_err().to_string();
        assert_eq!(
            text(at("f"), "Directory"),
            format!(
                "hostPath type check failed: {} is not a directory, it's a File",
                at("f")
            )
        );
        assert!(text(at("x"), "File").ends_with("does not exist"));
        assert!(text(at("a"), "FileOrCreate").contains("is not a file, it's a Directory"));
        assert_eq!(
            text(at("a"), "Nonsense"),
            "Nonsense is an invalid volume type"
        );
    }
}
