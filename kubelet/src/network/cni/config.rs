//! CNI's configuration files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;

/// A chain of plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkList {
    #[serde(default = "first_version")]
    pub(super) cni_version: String,
    pub(super) name: String,
    /// Each plugin's own configuration, passed on as it is.
    pub(crate) plugins: Vec<Value>,
}

/// What a configuration without a version means.
const FIRST_VERSION: &str = "0.1.0";

fn first_version() -> String {
    FIRST_VERSION.into()
}

const SUFFIXES: [&str; 3] = ["conf", "conflist", "json"];

/// The first configuration of the directory, in the order of names, that can be used. Others are
/// logged and passed over.
pub(super) fn load(dir: &Path) -> Option<Arc<NetworkList>> {
    let entries = fs::read_dir(dir).ok()?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|e| SUFFIXES.iter().any(|s| e == *s))
    });
    files.sort();
    files.iter().find_map(|path| match read(path) {
        Ok(list) => Some(Arc::new(list)),
        Err(error) => {
            tracing::warn!(%error, "cannot use a CNI configuration");
            None
        }
    })
}

fn read(path: &Path) -> Result<NetworkList, Error> {
    let bad = |reason: String| Error::BadConfig {
        path: path.to_owned(),
        reason,
    };
    let bytes = fs::read(path).map_err(|err| bad(err.to_string()))?;
    parse(&bytes).map_err(bad)
}

/// Reads a file's text; in words what is wrong with it.
pub(crate) fn parse(text: &[u8]) -> Result<NetworkList, String> {
    let value: Value = serde_json::from_slice(text).map_err(|err| err.to_string())?;
    // A file for one plugin is a chain of one.
    let value = match value.get("plugins") {
        Some(_) => value,
        None => serde_json::json!({
            "cniVersion": value["cniVersion"].as_str().unwrap_or(FIRST_VERSION),
            "name": value["name"],
            "plugins": [value],
        }),
    };
    let list: NetworkList = proto::typed::from_json_value(value).map_err(|err| err.to_string())?;
    if list.plugins.is_empty() {
        return Err("no plugins".into());
    }
    // The name becomes a file's name in `bin_dirs`.
    match list
        .plugins
        .iter()
        .map(kind)
        .find(|kind| kind.is_empty() || kind.contains('/'))
    {
        Some(kind) => Err(format!("{kind:?} is not a plugin's name")),
        None => Ok(list),
    }
}

/// A plugin's program.
pub(crate) fn kind(plugin: &Value) -> &str {
    plugin["type"].as_str().unwrap_or_default()
}
