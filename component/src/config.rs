//! Versioned configuration files, and the fragments that upstream's kinds share.
//!
//! A daemon has three types, in one direction: its flags ([`crate::args::Args`]), its file (a struct
//! that implements [`Versioned`], with upstream's field names), and what it runs with (complete, with
//! all defaults). This module owns the reading of files: YAML or JSON, `apiVersion` and `kind`
//! checked, unknown fields refused by path, and everything that is wrong reported at once.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

mod duration;
mod fragments;
mod tracing;

pub(crate) use self::tracing::ONE as EVERY_TRACE;
pub use self::tracing::TracingConfiguration;
pub use duration::Duration;
pub use fragments::{ClientConnection, Debugging, LeaderElection, Logging};

/// A kind of configuration file.
pub trait Versioned: DeserializeOwned {
    /// The versions that are read; the fields must be the same in all of them.
    const API_VERSIONS: &'static [&'static str];
    const KIND: &'static str;
}

/// Why a file cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} is neither YAML nor JSON: {problem}")]
    Syntax { path: PathBuf, problem: String },
    #[error("{path}: {problems}")]
    Invalid { path: PathBuf, problems: Problems },
}

/// All that is wrong with a configuration, each with the path of its field.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Problems(Vec<String>);

impl Problems {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that something is wrong with the field at `path`, such as `leaderElection.leaseDuration`.
    pub fn add(&mut self, path: &str, problem: impl Display) {
        self.0.push(format!("{path}: {problem}"));
    }

    /// Notes it unless it is right.
    pub fn check(&mut self, right: bool, path: &str, problem: impl Display) {
        if !right {
            self.add(path, problem);
        }
    }

    /// `value` if nothing is wrong.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Problems {}

/// Reads a configuration file.
///
/// # Errors
/// If it cannot be read, is of another kind, or does not fit its kind.
pub fn load<T: Versioned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    read(&text).map_err(|e| e.at(path))
}

/// Reads a configuration that is not in a file of its own.
///
/// # Errors
/// As [`load`].
pub fn read<T: Versioned>(text: &[u8]) -> Result<T, Unplaced> {
    let tree = tree(text).map_err(Unplaced::Syntax)?;
    let field = |name| {
        tree.get(name)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    let mut problems = Problems::new();
    let known = format!("must be one of {}", T::API_VERSIONS.join(", "));
    problems.check(
        T::API_VERSIONS.contains(&field("apiVersion")),
        "apiVersion",
        known,
    );
    problems.check(
        field("kind") == T::KIND,
        "kind",
        format!("must be {}", T::KIND),
    );
    strict(tree, &mut problems)
        .and_then(|value| problems.clone().or(value).ok())
        .ok_or(Unplaced::Invalid(problems))
}

/// Deserializes, noting every unknown field and the first that is of a wrong type. `apiVersion` and
/// `kind` at the top are known.
fn strict<T: DeserializeOwned>(mut tree: serde_json::Value, problems: &mut Problems) -> Option<T> {
    if let Some(top) = tree.as_object_mut() {
        top.remove("apiVersion");
        top.remove("kind");
    }
    let mut track = serde_path_to_error::Track::new();
    let reader = serde_path_to_error::Deserializer::new(tree, &mut track);
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(reader, |path| unknown.push(path.to_string()));
    for path in unknown {
        problems.add(&path, "unknown field");
    }
    match value {
        Ok(value) => Some(value),
        Err(e) => {
            problems.add(&track.path().to_string(), e);
            None
        }
    }
}

/// YAML or JSON as a tree; YAML's first document.
pub(crate) fn tree(text: &[u8]) -> Result<serde_json::Value, String> {
    let (json, duplicate) = proto::codec::yaml::to_json(text).map_err(|e| e.to_string())?;
    match duplicate {
        Some(problem) => Err(problem),
        None => serde_json::from_slice(&json).map_err(|e| e.to_string()),
    }
}

/// An [`Error`] that does not know its file yet.
#[derive(thiserror::Error, Debug)]
pub enum Unplaced {
    #[error("neither YAML nor JSON: {0}")]
    Syntax(String),
    #[error("{0}")]
    Invalid(Problems),
}

impl Unplaced {
    fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Syntax(problem) => Error::Syntax { path, problem },
            Self::Invalid(problems) => Error::Invalid { path, problems },
        }
    }
}

#[cfg(test)]
mod tests;
