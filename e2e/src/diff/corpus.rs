//! Which cases there are: enumerated from upstream's discovery and schemas, from objects that are known to be valid, and from
//! files of requests written by hand (`e2e/diff/*.http`).

mod each;
mod fields;
mod lists;
mod lives;
mod matrix;
mod reads;
mod source;
mod target;
mod verbs;

use std::fs;
use std::path::{Path, PathBuf};

pub use source::{Seed, Source};

use super::case::Case;
use super::{golden, samples, script};
use crate::files;

/// Below the clone: files of requests.
const SCRIPTS: &str = "e2e/diff";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path}")]
    Script {
        path: PathBuf,
        #[source]
        cause: script::Error,
    },
    #[error(transparent)]
    Samples(#[from] samples::Error),
    #[error(transparent)]
    Golden(#[from] golden::Error),
    #[error(transparent)]
    Source(#[from] source::Error),
}

/// All cases.
///
/// # Errors
/// If a file of requests cannot be read.
pub fn all(source: &Source, root: &Path) -> Result<Vec<Case>, Error> {
    let mut all = reads::cases(source);
    all.extend(verbs::cases(source));
    all.extend(each::cases(source, &root.join(SCRIPTS))?);
    all.extend(lives::cases(source));
    all.extend(lists::cases());
    all.extend(fields::cases(source));
    all.extend(matrix::cases());
    all.extend(scripts(&root.join(SCRIPTS))?);
    Ok(all)
}

fn scripts(dir: &Path) -> Result<Vec<Case>, Error> {
    let entries = fs::read_dir(dir).map_err(files::cannot("read", dir))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|of| of == "http"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(files::cannot("read", &path))?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let cases = script::parse(&name, &text);
        all.extend(cases.map_err(|cause| Error::Script { path, cause })?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_requests_can_be_read_and_name_each_case_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut all = scripts(&root.join(SCRIPTS)).unwrap();
        all.extend(scripts(&root.join(SCRIPTS).join("each")).unwrap());
        let mut names: Vec<&str> = all.iter().map(|case| &*case.name).collect();
        assert!(names.len() > 50, "{} cases", names.len());
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
