//! The documents of an image: index, manifest, configuration. Only the fields that a node needs,
//! read leniently: registries hold what fifteen years of builders wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::reference::Digest;

/// Where content is and how large it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's, in the words of image indexes.
    pub fn of_this_machine() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        let variant = variant.map(str::to_owned);
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            variant,
        }
    }

    /// How well an image for `other` runs here; 0 does not run. An absent variant is the baseline.
    fn suits(&self, other: &Self) -> u32 {
        if self.os != other.os || self.architecture != other.architecture {
            return 0;
        }
        let level = |p: &Self| {
            let given = p
                .variant
                .as_deref()
                .and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok());
            given.unwrap_or(match p.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            })
        };
        match (level(self), level(other)) {
            (here, theirs) if theirs <= here => theirs + 1,
            _ => 0,
        }
    }
}

/// A manifest or an index of manifests, told apart by what they hold: media types are often absent.
#[derive(Clone, Debug)]
pub enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// One image for one platform.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
}

/// Why a document cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("not an image manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("unsupported manifest of schema version {0}")]
    Schema(u64),
    #[error("neither a manifest nor an index")]
    Unknown,
    #[error("no image for platform {os}/{architecture}")]
    NoPlatform { os: String, architecture: String },
    #[error("not a container image: its configuration is of type {0:?}")]
    NotAnImage(String),
    #[error("the manifest lists {layers} layers, the configuration {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("layer {0} is encrypted")]
    Encrypted(Digest),
}

impl Document {
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            schema_version: u64,
            config: Option<serde::de::IgnoredAny>,
            manifests: Option<Vec<Descriptor>>,
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        match shape {
            Shape { schema_version, .. } if schema_version != 2 => {
                Err(Error::Schema(schema_version))
            }
            Shape {
                manifests: Some(manifests),
                ..
            } => Ok(Self::Index(manifests)),
            Shape {
                config: Some(_), ..
            } => Ok(Self::Manifest(serde_json::from_slice(bytes)?)),
            _ => Err(Error::Unknown),
        }
    }
}

/// The entry of an index that suits this platform best.
pub fn choose<'a>(index: &'a [Descriptor], here: &Platform) -> Result<&'a Descriptor, Error> {
    // An entry without a platform is taken if nothing names ours. Attestations name "unknown".
    let rank = |d: &Descriptor| d.platform.as_ref().map_or(1, |p| here.suits(p) * 2);
    let best = index
        .iter()
        .rev()
        .max_by_key(|d| rank(d))
        .filter(|d| rank(d) > 0);
    best.ok_or_else(|| Error::NoPlatform {
        os: here.os.clone(),
        architecture: here.architecture.clone(),
    })
}

/// What an image says about itself: how to run it and what its layers are.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, deserialize_with = "nullable")]
    pub config: RunConfig,
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
}

/// How to run it, if the container does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the image's own files.
    #[serde(default, deserialize_with = "nullable")]
    pub user: String,
    #[serde(default, deserialize_with = "nullable")]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub working_dir: String,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// A signal's name or number; SIGTERM if empty.
    #[serde(default, deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Paths that the image wants to be volumes of their own.
    #[serde(default, deserialize_with = "paths")]
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads it and checks it against its manifest.
    pub fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Self, Error> {
        let kind = &manifest.config.media_type;
        let container = kind.is_empty()
            || kind.starts_with("application/vnd.oci.image.config.")
            || kind.starts_with("application/vnd.docker.container.image.");
        if !container {
            return Err(Error::NotAnImage(kind.clone()));
        }
        if let Some(layer) = manifest
            .layers
            .iter()
            .find(|l| l.media_type.ends_with("+encrypted"))
        {
            return Err(Error::Encrypted(layer.digest.clone()));
        }
        let config: Self = serde_json::from_slice(bytes)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::LayerCount { layers, diff_ids });
        }
        Ok(config)
    }
}

/// Go writes an empty list or map as null.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// A set of paths: the keys of a map of empty objects, or a list, as we write it ourselves.
fn paths<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Map(BTreeMap<String, serde_json::Value>),
        List(Vec<String>),
    }
    Ok(match Option::deserialize(d)? {
        Some(Either::Map(map)) => map.into_keys().collect(),
        Some(Either::List(list)) => list,
        None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8, os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(&[n]),
            size: 0,
            platform: Some(Platform {
                architecture: architecture.into(),
                os: os.into(),
                variant: variant.map(Into::into),
            }),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_best_variant_that_still_runs_is_chosen() {
        let here = Platform {
            architecture: "arm".into(),
            os: "linux".into(),
            variant: Some("v7".into()),
        };
        let index = [
            entry(0, "unknown", "unknown", None),
            entry(1, "linux", "arm", Some("v6")),
            entry(2, "linux", "arm", Some("v7")),
            entry(3, "linux", "arm", Some("v8")),
        ];
        assert_eq!(choose(&index, &here).unwrap().digest, Digest::of(&[2]));
        assert_eq!(choose(&index[..2], &here).unwrap().digest, Digest::of(&[1]));
        assert!(choose(&index[3..], &here).is_err());
        assert!(choose(&index[..1], &here).is_err());
    }

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let json = br#"{"os":"linux","config":{"Env":null,"Cmd":["sh"],"Labels":null,
            "Volumes":{"/data":{}}},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config: ImageConfig = serde_json::from_slice(json).unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert_eq!(config.config.volumes, ["/data"]);
        let again: ImageConfig =
            serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again.config, config.config);
    }

    #[test]
    fn documents_are_told_apart_without_media_types() {
        let digest = Digest::of(b"x");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}"}}]}}"#);
        assert!(matches!(
            Document::parse(index.as_bytes()),
            Ok(Document::Index(_))
        ));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}"}}}}"#);
        assert!(matches!(
            Document::parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        assert!(matches!(
            Document::parse(br#"{"schemaVersion":1}"#),
            Err(Error::Schema(1))
        ));
        assert!(Document::parse(b"<html>").is_err());
    }
}
