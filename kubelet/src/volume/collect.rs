//! Reads the sources of a volume's files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection};

use super::atomic::{Payload, Projection};
use super::plan::{FileSource, Files, Keys};
use super::{
    Allocatable, CertificateRequest, Credentials, ObjectError, Objects, TokenRequest, downward,
};

/// Why a source gave no files.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("configmap references non-existent config key: {0}")]
    ConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    #[error(transparent)]
    Downward(#[from] downward::Error),
}

/// The pod whose volumes are filled, and what for.
pub(super) struct Collector<'a> {
    pub(super) pod: &'a Pod,
    pub(super) objects: &'a dyn Objects,
    pub(super) allocatable: &'a Allocatable,
    /// The one user that all containers run as, if there is one.
    pub(super) fs_user: Option<u32>,
    pub(super) fs_group: Option<u32>,
}

impl Collector<'_> {
    /// All files of a volume, or everything that is wrong with it, in one line.
    pub(super) async fn collect(&self, volume: &str, files: &Files) -> Result<Payload, String> {
        let mode = files.default_mode;
        let sources = files.sources.iter();
        let sources = join_all(sources.map(|source| self.source(volume, source, mode))).await;
        let mut payload = Payload::new();
        let mut errors: Vec<String> = Vec::new();
        for source in sources {
            match source {
                Ok(files) => payload.extend(files),
                Err(err) => errors.push(err.to_string()),
            }
        }
        if errors.is_empty() {
            return Ok(payload);
        }
        Err(proto::path::aggregate(errors))
    }

    async fn source(&self, volume: &str, source: &FileSource, mode: u32) -> Result<Payload, Error> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        match source {
            FileSource::ConfigMap(keys) => {
                let found = self.objects.config_map(namespace, &keys.name).await;
                let map = optional(found, keys.optional)?.unwrap_or_default();
                let mut data: BTreeMap<&str, &[u8]> = BTreeMap::new();
                let text = map.data.iter().flatten();
                data.extend(text.map(|(key, text)| (key.as_str(), text.as_bytes())));
                for (key, bytes) in map.binary_data.iter().flatten() {
                    data.entry(key).or_insert(&bytes.0);
                }
                pick(&data, keys, mode, Error::ConfigKey)
            }
            FileSource::Secret(keys) => {
                let found = self.objects.secret(namespace, &keys.name).await;
                let secret = optional(found, keys.optional)?.unwrap_or_default();
                let data = secret.data.iter().flatten();
                let data = data
                    .map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))
                    .collect();
                pick(&data, keys, mode, Error::SecretKey)
            }
            FileSource::DownwardApi(items) => {
                items.iter().map(|item| self.downward(item, mode)).collect()
            }
            FileSource::Token {
                audience,
                expiration_seconds,
                path,
            } => {
                let request = self.token_request(namespace, audience, *expiration_seconds);
                let token = self.objects.token(request).await?;
                Ok(self.private(path, token.into_bytes(), mode))
            }
            FileSource::Trust {
                bundles,
                allow_empty,
                path,
            } => {
                let anchors = self
                    .objects
                    .trust_anchors(bundles.clone(), *allow_empty)
                    .await?;
                Ok(self.private(path, anchors, mode))
            }
            FileSource::Certificate { source, projection } => {
                let request = self.certificate_request(volume, *source, projection);
                let credentials = self.objects.certificate(request).await?;
                Ok(self.certificate(projection, &credentials, mode))
            }
        }
    }

    fn certificate_request(
        &self,
        volume: &str,
        source: usize,
        projection: &PodCertificateProjection,
    ) -> CertificateRequest {
        let meta = &self.pod.metadata;
        CertificateRequest {
            namespace: meta.namespace.clone().unwrap_or_default(),
            service_account: self.service_account(),
            pod: meta.name.clone().unwrap_or_default(),
            pod_uid: meta.uid.clone().unwrap_or_default(),
            volume: volume.to_owned(),
            source,
            signer: projection.signer_name.clone(),
            key_type: projection.key_type.clone(),
            max_expiration_seconds: projection.max_expiration_seconds,
            annotations: projection.user_annotations.clone().unwrap_or_default(),
        }
    }

    fn certificate(
        &self,
        projection: &PodCertificateProjection,
        Credentials { key, chain }: &Credentials,
        mode: u32,
    ) -> Payload {
        let files = [
            (
                &projection.credential_bundle_path,
                [key.as_slice(), chain].concat(),
            ),
            (&projection.key_path, key.clone()),
            (&projection.certificate_chain_path, chain.clone()),
        ];
        let named = files.into_iter().filter_map(|(path, data)| {
            let path = path.as_deref().filter(|path| !path.is_empty())?;
            Some(self.private(path, data, mode))
        });
        named.flatten().collect()
    }

    fn service_account(&self) -> String {
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.clone());
        account.unwrap_or_else(|| "default".into())
    }

    fn downward(
        &self,
        item: &DownwardAPIVolumeFile,
        mode: u32,
    ) -> Result<(PathBuf, Projection), Error> {
        let text = if let Some(field) = &item.field_ref {
            downward::field(self.pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(self.pod, resource, self.allocatable)?
        } else {
            String::new()
        };
        let mode = item.mode.map_or(mode, |mode| mode as u32 & 0o7777);
        Ok((
            item.path.clone().into(),
            Projection {
                data: text.into_bytes(),
                mode,
                user: None,
            },
        ))
    }

    fn token_request(
        &self,
        namespace: &str,
        audience: &str,
        expiration_seconds: Option<i64>,
    ) -> TokenRequest {
        TokenRequest {
            namespace: namespace.to_owned(),
            service_account: self.service_account(),
            pod: self.pod.metadata.name.clone().unwrap_or_default(),
            pod_uid: self.pod.metadata.uid.clone().unwrap_or_default(),
            audience: audience.to_owned(),
            expiration_seconds,
        }
    }

    /// One file that only the pod's user reads, if the pod has one. With a group, its mode opens it
    /// to the group later.
    fn private(&self, path: &str, data: Vec<u8>, mode: u32) -> Payload {
        let private = self.fs_user.is_some() || self.fs_group.is_some();
        let mode = if private { 0o600 } else { mode };
        [(
            PathBuf::from(path),
            Projection {
                data,
                mode,
                user: self.fs_user,
            },
        )]
        .into()
    }
}

fn optional<T>(found: Result<T, ObjectError>, optional: bool) -> Result<Option<T>, ObjectError> {
    match found {
        Err(ObjectError::NotFound { .. }) if optional => Ok(None),
        other => other.map(Some),
    }
}

fn pick(
    data: &BTreeMap<&str, &[u8]>,
    keys: &Keys,
    default_mode: u32,
    missing: impl Fn(String) -> Error,
) -> Result<Payload, Error> {
    let file = |data: &[u8], mode| Projection {
        data: data.to_vec(),
        mode,
        user: None,
    };
    if keys.items.is_empty() {
        let all = data
            .iter()
            .map(|(key, data)| (PathBuf::from(key), file(data, default_mode)));
        return Ok(all.collect());
    }
    let mut payload = Payload::new();
    for KeyToPath {
        key, path, mode, ..
    } in &keys.items
    {
        match data.get(key.as_str()) {
            Some(data) => {
                let mode = mode.map_or(default_mode, |mode| mode as u32 & 0o7777);
                payload.insert(path.into(), file(data, mode));
            }
            None if keys.optional => {}
            None => return Err(missing(key.clone())),
        }
    }
    Ok(payload)
}
