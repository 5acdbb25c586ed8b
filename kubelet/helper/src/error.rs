//! Why a helper could not do its work. The text goes to the pod's events.

use std::io;
use std::path::PathBuf;

/// The text contains the cause: it travels as one line.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("usage: {0}")]
    Usage(&'static str),
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("{doing}: {cause}")]
    System {
        doing: &'static str,
        cause: io::Error,
    },
    #[error("{0}")]
    Spec(String),
    #[error("seccomp profile: {0}")]
    Seccomp(String),
    #[error("create container: {0}")]
    Container(String),
    /// What runtimes say when a program cannot be run.
    #[error("exec: {program:?}: {why}")]
    Program { program: String, why: String },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }

    /// For `map_err`.
    pub(crate) const fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::System { doing, cause }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
