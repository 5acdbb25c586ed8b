//! Kubeconfigs that are read, written and redirected because of certificates.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use component::client::{Config, Kubeconfig};
use serde_json::{Value, json};

use super::Error;
use super::store::{Current, Store};
use crate::sys::file::{self, Durability};

fn read(path: &Path) -> Result<Value, Error> {
    let text = fs::read(path).map_err(|cause| Error::File {
        path: path.to_owned(),
        cause,
    })?;
    let content = |problem: String| Error::Content {
        path: path.to_owned(),
        problem,
    };
    let (json, _) = proto::codec::yaml::to_json(&text).map_err(|e| content(e.to_string()))?;
    serde_json::from_slice(&json).map_err(|e| content(e.to_string()))
}

/// The entry of a list that has this name, and in it the named part.
fn named<'a>(tree: &'a Value, list: &str, name: &Value, part: &str) -> Option<&'a Value> {
    let entries = tree.get(list)?.as_array()?;
    entries
        .iter()
        .find(|e| e.get("name") == Some(name))?
        .get(part)
}

fn context(tree: &Value) -> Option<&Value> {
    named(tree, "contexts", tree.get("current-context")?, "context")
}

fn user(tree: &Value) -> Option<&Value> {
    named(tree, "users", context(tree)?.get("user")?, "user")
}

/// PEM that is written in a field, or in the file that another field names.
fn pem(user: &Value, field: &str, dir: &Path) -> Option<Vec<u8>> {
    let text = |name: &str| {
        user.get(name)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    if let Some(data) = text(&format!("{field}-data")) {
        return base64::engine::general_purpose::STANDARD.decode(data).ok();
    }
    fs::read(dir.join(text(field)?)).ok()
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Whether a kubeconfig can be used now: it is there, and its certificate has not expired.
pub(super) fn is_valid(path: &Path) -> bool {
    if Config::from_kubeconfig(path).is_err() {
        return false;
    }
    let Ok(tree) = read(path) else { return false };
    let Some(user) = user(&tree) else {
        return false;
    };
    let has = |field: &str| user.get(field).is_some();
    if !has("client-certificate") && !has("client-certificate-data") {
        // A token or a plugin: whether it is good shows when it is used.
        return true;
    }
    let cert = pem(user, "client-certificate", dir_of(path));
    cert.and_then(|pem| Current::of(&pem))
        .is_some_and(|c| !c.has_expired())
}

/// Writes a kubeconfig for the server of `bootstrap` with the pair in `pair`.
pub(super) fn write(bootstrap: &Path, kubeconfig: &Path, pair: &Path) -> Result<(), Error> {
    let tree = read(bootstrap)?;
    let cluster = context(&tree)
        .and_then(|context| context.get("cluster"))
        .and_then(|name| named(&tree, "clusters", name, "cluster"));
    let mut cluster = cluster.cloned().ok_or_else(|| Error::Content {
        path: bootstrap.to_owned(),
        problem: "the current context has no cluster".to_owned(),
    })?;
    // A path in the file is relative to the file that it is in.
    if let Some(ca) = cluster.get("certificate-authority").and_then(Value::as_str) {
        let absolute: PathBuf = dir_of(bootstrap).join(ca);
        cluster["certificate-authority"] = absolute.display().to_string().into();
    }
    let pair = pair.display().to_string();
    // JSON is YAML, which is what everybody reads it as.
    let written = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{
            "name": "default-auth",
            "user": {"client-certificate": pair, "client-key": pair},
        }],
        "contexts": [{
            "name": "default-context",
            "context": {
                "cluster": "default-cluster",
                "namespace": "default",
                "user": "default-auth",
            },
        }],
        "current-context": "default-context",
    });
    let text = format!("{written:#}\n");
    let failed = |cause| Error::File {
        path: kubeconfig.to_owned(),
        cause,
    };
    fs::create_dir_all(dir_of(kubeconfig)).map_err(failed)?;
    file::write_atomic(kubeconfig, text.as_bytes(), 0o600, Durability::Disk).map_err(failed)
}

/// The way to the API server with the certificate of `store`, which starts with the kubeconfig's own.
pub(super) fn rotated(path: &Path, store: &Store) -> Result<Config, Error> {
    let mut tree = read(path)?;
    let dir = dir_of(path);
    let Some(user) = user(&tree) else {
        return Ok(Config::from_kubeconfig(path)?);
    };
    if store.current().is_none_or(|c| c.has_expired()) {
        let pair = (
            pem(user, "client-certificate", dir),
            pem(user, "client-key", dir),
        );
        let (Some(cert), Some(key)) = pair else {
            // There is nothing to rotate.
            return Ok(Config::from_kubeconfig(path)?);
        };
        let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
        store.update(&text(cert), &text(key))?;
    }
    let current = store.current_path().display().to_string();
    let name = context(&tree).and_then(|c| c.get("user")).cloned();
    let users = tree.get_mut("users").and_then(Value::as_array_mut);
    for entry in users.into_iter().flatten() {
        if entry.get("name") == name.as_ref() {
            entry["user"] = json!({"client-certificate": current, "client-key": current});
        }
    }
    let text = tree.to_string();
    let content = |problem| Error::Content {
        path: path.to_owned(),
        problem,
    };
    let file = Kubeconfig::read(text.as_bytes()).map_err(content)?;
    file.client(None, dir).map_err(content)
}
