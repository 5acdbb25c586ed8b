//! Kubeconfig files: `k8s.io/client-go/tools/clientcmd/api/v1`.
//!
//! Unknown fields are ignored, as clientcmd does: many tools write into these files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};

use super::config::{Bearer, Config, Source};
use super::exec::ExecConfig;
use super::uri::path_escape;

/// A kubeconfig file.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    #[serde(deserialize_with = "null_is_default")]
    pub clusters: Vec<NamedCluster>,
    #[serde(deserialize_with = "null_is_default")]
    pub users: Vec<NamedUser>,
    #[serde(deserialize_with = "null_is_default")]
    pub contexts: Vec<NamedContext>,
    #[serde(deserialize_with = "null_is_default")]
    pub current_context: String,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(default)]
pub struct NamedCluster {
    pub name: String,
    pub cluster: Cluster,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(default)]
pub struct NamedUser {
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub user: User,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(default)]
pub struct NamedContext {
    pub name: String,
    pub context: Context,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    pub server: String,
    pub tls_server_name: String,
    pub insecure_skip_tls_verify: bool,
    pub certificate_authority: String,
    pub certificate_authority_data: String,
    pub proxy_url: String,
}

/// Whose credentials; the fields hold secrets, and are never printed.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    #[serde(rename = "as")]
    act_as: String,
    as_uid: String,
    as_groups: Vec<String>,
    as_user_extra: BTreeMap<String, Vec<String>>,
    username: String,
    exec: Option<ExecConfig>,
    auth_provider: Option<serde_json::Value>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Context {
    pub cluster: String,
    pub user: String,
    pub namespace: String,
}

/// For whom to act, by the `Impersonate-*` headers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Impersonate {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonate {
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        let mut add = |name: &str, value: &str| {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.append(name, value);
            }
        };
        if self.user.is_empty() {
            return;
        }
        add("impersonate-user", &self.user);
        if !self.uid.is_empty() {
            add("impersonate-uid", &self.uid);
        }
        for group in &self.groups {
            add("impersonate-group", group);
        }
        for (key, values) in &self.extra {
            for value in values {
                add(&format!("impersonate-extra-{}", path_escape(key)), value);
            }
        }
    }
}

pub(super) struct Certificate {
    pub(super) cert: Source,
    pub(super) key: Source,
}

impl Kubeconfig {
    /// Reads a file's text.
    ///
    /// # Errors
    /// If it is neither YAML nor JSON of this form.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let tree = crate::config::tree(text)?;
        serde_json::from_value(tree).map_err(|e| e.to_string())
    }

    /// The client of a context, or of the current one. Paths in the file are relative to `dir`.
    ///
    /// # Errors
    /// If the context is not complete, or asks for something that is not supported.
    pub fn client(&self, context: Option<&str>, dir: &Path) -> Result<Config, String> {
        let context = self.context(context)?;
        let cluster = self.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster
            .ok_or_else(|| format!("cluster {:?} does not exist", context.cluster))?
            .cluster;
        if cluster.server.is_empty() {
            return Err(format!("cluster {:?} has no server", context.cluster));
        }
        if !cluster.proxy_url.is_empty() {
            return Err(format!(
                "cluster {:?}: proxy-url is not supported",
                context.cluster
            ));
        }
        let ca = source(
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
            dir,
        )
        .map_err(|e| format!("certificate-authority-data: {e}"))?;
        let mut config = Config {
            ca,
            insecure: cluster.insecure_skip_tls_verify,
            server_name: Some(cluster.tls_server_name.clone()).filter(|n| !n.is_empty()),
            ..Config::new(&cluster.server)
        };
        if !context.user.is_empty() {
            self.credentials(&context.user, &mut config, dir)?;
        }
        Ok(config)
    }

    /// Adds what a user of the file shows to servers. Paths in the file are relative to `dir`.
    ///
    /// # Errors
    /// If there is no such user, or it shows something that is not supported.
    pub fn credentials(&self, user: &str, config: &mut Config, dir: &Path) -> Result<(), String> {
        let named = self.users.iter().find(|u| u.name == user);
        let named = named.ok_or_else(|| format!("user {user:?} does not exist"))?;
        let applied = named.user.apply(config, dir);
        applied.map_err(|e| format!("user {user:?}: {e}"))
    }

    /// The namespace of the current context.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.context(None)
            .ok()
            .map(|c| c.namespace.as_str())
            .filter(|n| !n.is_empty())
    }

    fn context(&self, name: Option<&str>) -> Result<&Context, String> {
        let name = name.unwrap_or(&self.current_context);
        if name.is_empty() {
            return Err("there is no current-context".to_owned());
        }
        let context = self.contexts.iter().find(|c| c.name == name);
        context
            .map(|c| &c.context)
            .ok_or_else(|| format!("context {name:?} does not exist"))
    }
}

impl User {
    fn apply(&self, config: &mut Config, dir: &Path) -> Result<(), String> {
        let cert = source(&self.client_certificate_data, &self.client_certificate, dir)
            .map_err(|e| format!("client-certificate-data: {e}"))?;
        let key = source(&self.client_key_data, &self.client_key, dir)
            .map_err(|e| format!("client-key-data: {e}"))?;
        config.certificate = match (cert, key) {
            (Some(cert), Some(key)) => Some(Certificate { cert, key }.into()),
            (None, None) => None,
            (Some(_), None) => return Err("client certificate without client key".to_owned()),
            (None, Some(_)) => return Err("client key without client certificate".to_owned()),
        };
        // As in clientcmd, a file wins over the token beside it, and both over a plugin.
        config.bearer = match (&self.token_file, &self.token, &self.exec) {
            (file, _, _) if !file.is_empty() => Some(Bearer::TokenFile(dir.join(file))),
            (_, token, _) if !token.is_empty() => Some(Bearer::Token(token.clone())),
            (_, _, Some(exec)) => Some(Bearer::Exec(Box::new(exec.clone().relative_to(dir)?))),
            _ => None,
        };
        if !self.username.is_empty() {
            return Err("user names with passwords are not supported".to_owned());
        }
        if self.auth_provider.is_some() {
            return Err("auth-provider was removed from Kubernetes, use exec".to_owned());
        }
        config.impersonate = Impersonate {
            user: self.act_as.clone(),
            uid: self.as_uid.clone(),
            groups: self.as_groups.clone(),
            extra: self.as_user_extra.clone(),
        };
        Ok(())
    }
}

/// Inline data wins over a file.
fn source(data: &str, file: &str, dir: &Path) -> Result<Option<Source>, base64::DecodeError> {
    if !data.is_empty() {
        let compact: String = data.split_whitespace().collect();
        return Ok(Some(Source::Inline(
            base64::engine::general_purpose::STANDARD.decode(compact)?,
        )));
    }
    Ok((!file.is_empty()).then(|| Source::File(dir.join(PathBuf::from(file)))))
}

/// Tools write `users: null`.
fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}
