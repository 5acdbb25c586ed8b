//! Credentials for registries: upstream's `pkg/credentialprovider`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

/// Who a pull is made as. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credential {
    pub username: String,
    pub password: String,
    pub source: Source,
}

/// Where a credential is from: who else may use what was pulled with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The node's own configuration: every pod's.
    Node,
    Secret {
        uid: String,
        namespace: String,
        name: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Tells two credentials apart without telling what they are.
    pub fn hash(&self) -> String {
        let json = serde_json::json!({ "username": self.username, "password": self.password });
        super::reference::Digest::of(json.to_string().as_bytes())
            .hex()
            .to_owned()
    }
}

/// Why a configuration cannot be read. Says nothing of its contents.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("error occurred while trying to unmarshal json")]
    Json,
    #[error("unable to parse auth field, must be formatted as base64(username:password)")]
    Auth,
}

/// The two formats that there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.dockerconfigjson`: `{"auths": {...}}`
    DockerConfigJson,
    /// `.dockercfg`: the inner map alone.
    DockerCfg,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

const DEFAULT_REGISTRY: &str = "index.docker.io";

/// Credentials by the registries and repositories that they are for.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// By host and path, without scheme.
    entries: BTreeMap<String, Vec<Credential>>,
}

impl Keyring {
    /// Adds what a secret or a file holds.
    pub fn add(&mut self, source: &Source, format: Format, bytes: &[u8]) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Json {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        let entries: BTreeMap<String, Entry> = match format {
            Format::DockerConfigJson => {
                serde_json::from_slice::<Json>(bytes)
                    .map_err(|_| Error::Json)?
                    .auths
            }
            Format::DockerCfg => serde_json::from_slice(bytes).map_err(|_| Error::Json)?,
        };
        for (registry, entry) in entries {
            let (username, password) = match entry.auth.trim() {
                "" => (entry.username, entry.password),
                auth => decode(auth)?,
            };
            let credential = Credential {
                username,
                password,
                source: source.clone(),
            };
            self.entries
                .entry(key(&registry))
                .or_default()
                .push(credential);
        }
        Ok(())
    }

    /// Credentials for `domain/path`, the most specific first. Several can fit, as while one is
    /// being replaced: they are tried in turn.
    pub fn lookup(&self, repository: &str) -> Vec<Credential> {
        let fitting = self
            .entries
            .iter()
            .rev()
            .filter(|(key, _)| matches(key, repository));
        let found: Vec<_> = fitting
            .flat_map(|(_, credentials)| credentials.clone())
            .collect();
        if !found.is_empty() {
            return found;
        }
        let hub = ["docker.io/", "index.docker.io/"];
        match hub.iter().any(|domain| repository.starts_with(domain)) {
            true => self
                .entries
                .get(DEFAULT_REGISTRY)
                .cloned()
                .unwrap_or_default(),
            false => Vec::new(),
        }
    }
}

/// Host and path of a registry's URL. The API's version in it means the host alone.
fn key(registry: &str) -> String {
    let rest = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"));
    let rest = rest.unwrap_or(registry);
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let version = path.starts_with("/v1/") || path.starts_with("/v2/");
    let path = if version { &path[3..] } else { path };
    if path == "/" {
        host.to_owned()
    } else {
        format!("{host}{path}")
    }
}

fn decode(auth: &str) -> Result<(String, String), Error> {
    let engine: &GeneralPurpose = if auth.ends_with('=') {
        &STANDARD
    } else {
        &STANDARD_NO_PAD
    };
    let bytes = engine.decode(auth).map_err(|_| Error::Auth)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Auth)?;
    let (username, password) = text.split_once(':').ok_or(Error::Auth)?;
    Ok((username.to_owned(), password.to_owned()))
}

/// Whether a key, with `*` and `?` in the parts of its host, is for the repository.
fn matches(key: &str, repository: &str) -> bool {
    let split = |s: &'_ str| -> (String, String) {
        let (host, path) = s.split_at(s.find('/').unwrap_or(s.len()));
        (host.to_owned(), path.to_owned())
    };
    let ((glob, prefix), (host, path)) = (split(key), split(repository));
    let port = |host: &'_ str| host.rsplit_once(':').map(|(_, port)| port.to_owned());
    let name = |host: &'_ str| {
        host.rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .to_owned()
    };
    let (glob_name, host_name) = (name(&glob), name(&host));
    let (globs, parts) = (glob_name.split('.'), host_name.split('.'));
    port(&glob) == port(&host)
        && path.starts_with(&prefix)
        && globs.clone().count() == parts.clone().count()
        && globs
            .zip(parts)
            .all(|(glob, part)| fits(glob.as_bytes(), part.as_bytes()))
}

fn fits(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| fits(rest, &text[skip..])),
        ([b'?', glob @ ..], [_, text @ ..]) => fits(glob, text),
        ([a, glob @ ..], [b, text @ ..]) => a == b && fits(glob, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(json: &str) -> Keyring {
        let mut keyring = Keyring::default();
        keyring
            .add(&Source::Node, Format::DockerConfigJson, json.as_bytes())
            .unwrap();
        keyring
    }

    fn users(keyring: &Keyring, repository: &str) -> Vec<String> {
        keyring
            .lookup(repository)
            .into_iter()
            .map(|c| c.username)
            .collect()
    }

    #[test]
    fn the_most_specific_credential_comes_first() {
        let keyring = keyring(
            r#"{"auths": {
                "quay.io": {"username": "host", "password": "p"},
                "https://quay.io/team": {"username": "team", "password": "p"},
                "*.corp.example:5000": {"auth": "dTpwOnE="},
                "https://index.docker.io/v1/": {"username": "hub", "password": "p"}
            }}"#,
        );
        assert_eq!(users(&keyring, "quay.io/team/app"), ["team", "host"]);
        assert_eq!(users(&keyring, "quay.io/other/app"), ["host"]);
        assert_eq!(users(&keyring, "a.corp.example:5000/x"), ["u"]);
        assert_eq!(keyring.lookup("a.corp.example:5000/x")[0].password, "p:q");
        for none in [
            "a.corp.example/x",
            "a.b.corp.example:5000/x",
            "evilquay.io/x",
        ] {
            assert!(users(&keyring, none).is_empty(), "{none}");
        }
        assert_eq!(users(&keyring, "docker.io/library/busybox"), ["hub"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_telling_it() {
        let mut keyring = Keyring::default();
        let mut add = |text: &str| {
            keyring
                .add(&Source::Node, Format::DockerCfg, text.as_bytes())
                .unwrap_err()
        };
        assert_eq!(add("secret"), Error::Json);
        assert_eq!(add(r#"{"h": {"auth": "!"}}"#), Error::Auth);
        assert_eq!(add(r#"{"h": {"auth": "c2VjcmV0"}}"#), Error::Auth);
    }

    #[test]
    fn credentials_do_not_print_their_password() {
        let keyring = keyring(r#"{"auths": {"h.io": {"username": "u", "password": "hidden"}}}"#);
        assert!(!format!("{keyring:?}").contains("hidden"));
    }
}
