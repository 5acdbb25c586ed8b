//! What goes wrong with files, told in one way.

use std::io;
use std::path::{Path, PathBuf};

/// A file or directory that cannot be used.
#[derive(thiserror::Error, Debug)]
#[error("cannot {verb} {path}")]
pub struct Error {
    verb: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// Says what could not be done, and with what.
pub(crate) fn cannot(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |cause| Error {
        verb,
        path: path.to_owned(),
        cause,
    }
}
