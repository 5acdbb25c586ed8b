//! The API module's own golden objects, of this release and of all older ones that it keeps; every field of each is set.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workshop::Workshop;
use crate::{command, files};

/// What they are called when they are created.
pub const NEW_NAME: &str = "name-value";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Command(#[from] command::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{0} is not JSON")]
    Malformed(PathBuf),
}

/// A golden object's file: `HEAD/apps.v1.Deployment.pb`.
pub struct Golden {
    pub release: String,
    /// As `apps.v1`.
    pub version: String,
    pub kind: String,
    pub path: PathBuf,
}

impl Golden {
    pub fn group(&self) -> &str {
        match self.version.rsplit_once('.') {
            None | Some(("core", _)) => "",
            Some((group, _)) => group,
        }
    }

    /// As discovery has it: `apps/v1`.
    pub fn group_version(&self) -> String {
        match self.version.rsplit_once('.') {
            Some(("core", version)) => version.to_owned(),
            Some((group, version)) => format!("{group}/{version}"),
            None => self.version.clone(),
        }
    }

    /// The object without what only a server writes, under a name that can be had.
    ///
    /// # Errors
    /// If there is no JSON beside the file.
    pub fn as_new(&self) -> Result<Value, Error> {
        let path = self.path.with_extension("json");
        let text = fs::read(&path).map_err(files::cannot("read", &path))?;
        let mut object: Value =
            serde_json::from_slice(&text).map_err(|_| Error::Malformed(path))?;
        let meta = &object["metadata"];
        let kept = ["labels", "annotations"].map(|field| (field.to_owned(), meta[field].clone()));
        let mut meta: serde_json::Map<String, Value> = kept.into_iter().collect();
        meta.insert("name".to_owned(), NEW_NAME.into());
        object["metadata"] = meta.into();
        Ok(object)
    }
}

/// All golden objects of the API module that `hack/go` pins.
///
/// # Errors
/// If the module is not there.
pub fn all(workshop: &Workshop) -> Result<Vec<Golden>, Error> {
    let module = workshop.root().join("hack/go/kubernetes");
    let args = ["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"];
    let dir = command::run_in(&module, "go", &args)?;
    let testdata = Path::new(dir.trim()).join("testdata");
    let mut all = Vec::new();
    for release in entries(&testdata)?
        .into_iter()
        .filter(|entry| entry.is_dir())
    {
        let files = entries(&release)?.into_iter();
        all.extend(files.filter_map(|path| golden(&release, path)));
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(files::cannot("read", dir))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn golden(release: &Path, path: PathBuf) -> Option<Golden> {
    let (version, kind) = path
        .file_name()?
        .to_str()?
        .strip_suffix(".pb")?
        .rsplit_once('.')?;
    // What an older release's object became on its way through this one.
    if kind.ends_with("after_roundtrip") {
        return None;
    }
    Some(Golden {
        release: release.file_name()?.to_str()?.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        path,
    })
}
