//! Variables out of a file in a volume (`fileKeyRef`): upstream's `pkg/kubelet/util/env`.
//!
//! The file was written by the pod. It is opened inside its volume, must be a regular one, and no
//! more of it is read than can be of use.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::FileKeySelector;
use nix::fcntl::OFlag;

use crate::sys::open::{self, Bounds};
use crate::volume::PodVolumes;

/// Bytes of a file that are looked at. The kernel takes no variable longer than an eighth of it.
const MAX_FILE: u64 = 1 << 20;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    Volume(String),
    /// What it was goes to the log: the file is not for everybody who can read a status.
    #[error("couldn't parse env file")]
    File,
    #[error("environment variable key {key:?} not found in file {path:?}")]
    Key { key: String, path: PathBuf },
}

/// The value, or nothing if it may be missing and is.
pub(super) async fn value(
    of: &FileKeySelector,
    volumes: &PodVolumes,
) -> Result<Option<String>, Error> {
    let volume = volumes.volumes.get(&of.volume_name);
    let volume = volume.ok_or_else(|| Error::Volume(of.volume_name.clone()))?;
    let (root, path, key) = (volume.path.clone(), of.path.clone(), of.key.clone());
    let read = tokio::task::spawn_blocking(move || read(&root, &path, &key)).await;
    let value = match read {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            let volume = volume.path.display();
            tracing::warn!(%volume, path = of.path, %error, "Failed to parse env file");
            return Err(Error::File);
        }
        Err(_) => return Err(Error::File),
    };
    if !value.is_empty() {
        Ok(Some(value))
    } else if of.optional == Some(true) {
        Ok(None)
    } else {
        Err(Error::Key {
            key: of.key.clone(),
            path: volume.path.join(of.path.trim_start_matches('/')),
        })
    }
}

/// What is wrong with a file.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Problem {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no regular file")]
    NotAFile,
    #[error("it is longer than {MAX_FILE} bytes")]
    Long,
    #[error("invalid environment variable format at line {line}: {what}")]
    Line { line: usize, what: &'static str },
    #[error("invalid environment variable format starting at line {0}: unclosed single quote")]
    Unclosed(usize),
}

fn read(root: &Path, path: &str, key: &str) -> Result<String, Problem> {
    let root = open::root(root)?;
    // A pipe must not make anybody wait.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open::within(&root, Path::new(path), Bounds::Root, flags)?);
    if !file.metadata()?.is_file() {
        return Err(Problem::NotAFile);
    }
    let mut limited = BufReader::new(file.take(MAX_FILE));
    let found = find(&mut limited, key);
    if limited.get_ref().limit() == 0 && !matches!(&found, Ok(value) if !value.is_empty()) {
        return Err(Problem::Long);
    }
    found
}

/// Lines `NAME='value'`, with comments. A value may go over lines. Empty if there is none.
pub(crate) fn find(text: &mut impl BufRead, key: &str) -> Result<String, Problem> {
    let mut lines = Lines { text, number: 0 };
    while let Some(line) = lines.next()? {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = lines.number;
        let wrong = |what| Err(Problem::Line { line: at, what });
        let Some((name, value)) = line.split_once('=') else {
            return wrong("missing '='");
        };
        match name.trim_end_matches(BLANK) {
            "" => return wrong("empty variable name"),
            trimmed if trimmed != name => return wrong("whitespace before '=' is not allowed"),
            _ => {}
        }
        if value.starts_with(BLANK) {
            // A shell sees an empty value, and then a command.
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let Some(quoted) = value.strip_prefix('\'') else {
            return wrong("value must be enclosed in single quotes");
        };
        let value = lines.quoted(quoted.to_owned())?;
        if name == key {
            return Ok(value);
        }
    }
    Ok(String::new())
}

const BLANK: [char; 2] = [' ', '\t'];

struct Lines<'a, T> {
    text: &'a mut T,
    /// Of the line read last, from 1.
    number: usize,
}

impl<T: BufRead> Lines<'_, T> {
    fn next(&mut self) -> Result<Option<String>, Problem> {
        let mut bytes = Vec::new();
        if self.text.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What stands before the next quote, on this line or those that follow.
    fn quoted(&mut self, mut rest: String) -> Result<String, Problem> {
        let began = self.number;
        let mut value = String::new();
        loop {
            if let Some((last, after)) = rest.split_once('\'') {
                value.push_str(last);
                let after = after.trim_start_matches(BLANK);
                if !after.is_empty() && !after.starts_with('#') {
                    return Err(Problem::Line {
                        line: self.number,
                        what: "unexpected content after closing quote",
                    });
                }
                return Ok(value);
            }
            value.push_str(&rest);
            value.push('\n');
            rest = self.next()?.ok_or(Problem::Unclosed(began))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const FILE: &str = "\
# comment
   KEY1='val1'
\tKEY2='  foo # bar  ' # inline

MULTI='one
  two
'
EMPTY=''
SPACED= 'val'
LAST='$(x) \"y\" \\n'";

    fn get(text: &str, key: &str) -> Result<String, String> {
        find(&mut text.as_bytes(), key).map_err(|problem| problem.to_string())
    }

    #[test]
    fn values_are_what_a_shell_would_see() {
        for (key, value) in [
            ("KEY1", "val1"),
            ("KEY2", "  foo # bar  "),
            ("MULTI", "one\n  two\n"),
            ("EMPTY", ""),
            ("SPACED", ""),
            ("LAST", "$(x) \"y\" \\n"),
            ("NONE", ""),
        ] {
            assert_eq!(get(FILE, key).as_deref(), Ok(value), "{key}");
        }
        assert_eq!(get("A='x'\r\n", "A").as_deref(), Ok("x"));
    }

    #[test]
    fn anything_but_the_strict_form_is_refused() {
        let at = |line, what: &str| {
            format!("invalid environment variable format at line {line}: {what}")
        };
        for (text, expected) in [
            ("# a\nKEY", at(2, "missing '='")),
            ("='x'", at(1, "empty variable name")),
            ("A ='x'", at(1, "whitespace before '=' is not allowed")),
            ("A=x", at(1, "value must be enclosed in single quotes")),
            ("A=\"x\"", at(1, "value must be enclosed in single quotes")),
            ("B='x'y", at(1, "unexpected content after closing quote")),
            (
                "A='x'\nB='y\nz",
                "invalid environment variable format starting at line 2: unclosed single quote"
                    .into(),
            ),
        ] {
            assert_eq!(get(text, "KEY"), Err(expected), "{text:?}");
        }
        // What stands after the key is not looked at.
        assert_eq!(get("KEY='v'\nbroken", "KEY").as_deref(), Ok("v"));
    }

    #[test]
    fn links_stay_inside_the_volume_and_pipes_block_nobody() {
        let volume = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "KEY='stolen'").unwrap();
        symlink(&secret, volume.path().join("link")).unwrap();
        std::fs::write(volume.path().join("real"), "KEY='mine'").unwrap();
        symlink("/real", volume.path().join("inner")).unwrap();
        let pipe = volume.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let get = |path| read(volume.path(), path, "KEY");
        assert!(matches!(get("link"), Err(Problem::Io(_))));
        assert_eq!(get("inner").unwrap(), "mine");
        assert_eq!(get("../../real").unwrap(), "mine");
        assert!(matches!(get("pipe"), Err(Problem::NotAFile)));
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let volume = tempfile::tempdir().unwrap();
        let mut text = b"KEY='v'\nOTHER='".to_vec();
        text.resize(3 << 20, b'x');
        std::fs::write(volume.path().join("big"), text).unwrap();
        assert_eq!(read(volume.path(), "big", "KEY").unwrap(), "v");
        assert!(matches!(
            read(volume.path(), "big", "NONE"),
            Err(Problem::Long)
        ));
    }
}
