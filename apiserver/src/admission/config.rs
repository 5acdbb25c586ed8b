//! The configuration file of admission: `AdmissionConfiguration`, which tells plugins by name what they
//! cannot know otherwise, in the file itself or in a file that it names.
//!
//! Two plugins had files before there was this kind; such a file still works in its place. Upstream:
//! `apiserver/pkg/admission/config.go`.

use std::path::{Path, PathBuf};

use component::client::ConfigError;
use component::config::{Unplaced, Versioned};
use proto::path::FieldError;
use serde::Deserialize;
use serde_json::Value;

/// Why admission cannot work as it is configured.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("unable to read admission control configuration from {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("failed to read plugin config: {path}: {problem}")]
    Unusable { path: PathBuf, problem: Unplaced },
    #[error("couldn't open admission plugin configuration {path}")]
    Open {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("couldn't init admission plugin {plugin:?}")]
    Init {
        plugin: &'static str,
        #[source]
        cause: Refused,
    },
}

/// Why a plugin cannot work as it is told.
#[derive(thiserror::Error, Debug)]
pub enum Refused {
    #[error("no config specified")]
    Missing,
    #[error("{0}")]
    Unusable(#[from] Unplaced),
    #[error("{}", proto::path::aggregate(.0))]
    Invalid(Vec<FieldError>),
    #[error("valid value is between {least} and {most}, got {given}")]
    OutOfRange {
        least: proto::time::Duration,
        most: proto::time::Duration,
        given: proto::time::Duration,
    },
    #[error("{0}")]
    Selector(String),
    #[error("its kubeconfig")]
    Webhook(#[from] ConfigError),
}

/// Plugins that may be told by a file of no kind, with the field that begins it.
const BEFORE_KINDS: [(&str, &str); 2] = [
    ("ImagePolicyWebhook", "imagePolicy"),
    ("PodNodeSelector", "podNodeSelectorPluginConfig"),
];

/// The file, read.
#[derive(Default)]
pub(crate) struct File {
    plugins: Vec<(String, Told)>,
}

enum Told {
    Nothing,
    Here(Vec<u8>),
    In(PathBuf),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AdmissionConfiguration {
    plugins: Option<Vec<PluginConfiguration>>,
}

impl Versioned for AdmissionConfiguration {
    const API_VERSIONS: &'static [&'static str] = &[
        "apiserver.config.k8s.io/v1",
        "apiserver.config.k8s.io/v1alpha1",
        "apiserver.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "AdmissionConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginConfiguration {
    name: String,
    path: String,
    configuration: Option<Value>,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|cause| Error::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(&text, path).map_err(|problem| Error::Unusable {
            path: path.to_owned(),
            problem,
        })
    }

    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, Unplaced> {
        if let Some(plugins) = before_kinds(text, path) {
            return Ok(Self { plugins });
        }
        let file: AdmissionConfiguration = component::config::read(text)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let told = |of: PluginConfiguration| {
            let told = match of.configuration.filter(|c| !c.is_null()) {
                Some(here) => Told::Here(here.to_string().into_bytes()),
                None if of.path.is_empty() => Told::Nothing,
                None => Told::In(folder.join(&of.path)),
            };
            (of.name, told)
        };
        let plugins = file.plugins.unwrap_or_default();
        Ok(Self {
            plugins: plugins.into_iter().map(told).collect(),
        })
    }

    /// What a plugin is told: of several entries the first counts.
    pub(super) fn of(&self, plugin: &str) -> Result<Option<Vec<u8>>, Error> {
        let told = self.plugins.iter().find(|(name, _)| name == plugin);
        match told.map(|(_, told)| told) {
            None | Some(Told::Nothing) => Ok(None),
            Some(Told::Here(text)) => Ok(Some(text.clone())),
            Some(Told::In(path)) => match std::fs::read(path) {
                Ok(text) => Ok(Some(text)),
                Err(cause) => Err(Error::Open {
                    path: path.clone(),
                    cause,
                }),
            },
        }
    }
}

/// A file of the time before kinds is the file of every plugin that could have one.
fn before_kinds(text: &[u8], path: &Path) -> Option<Vec<(String, Told)>> {
    let tree = tree(text)?;
    let says = |field| tree.get(field).is_some_and(Value::is_string);
    let old = BEFORE_KINDS
        .iter()
        .any(|(_, field)| tree.get(field).is_some());
    if !old || says("kind") && says("apiVersion") {
        return None;
    }
    let told = |name: &str| (name.to_owned(), Told::In(path.to_owned()));
    Some(BEFORE_KINDS.iter().map(|(name, _)| told(name)).collect())
}

fn tree(text: &[u8]) -> Option<Value> {
    let (json, _) = proto::codec::yaml::to_json(text).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Which kind a text says that it is.
pub(super) fn kind(text: &[u8]) -> String {
    let tree = tree(text).unwrap_or_default();
    tree["kind"].as_str().unwrap_or_default().to_owned()
}

/// Reads a text of a plugin whose configuration has no kind. What it does not know it leaves alone, as
/// upstream does there.
pub(super) fn read_bare<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, Refused> {
    let unusable = |problem: String| Refused::Unusable(Unplaced::Syntax(problem));
    let (json, _) = proto::codec::yaml::to_json(text).map_err(|e| unusable(e.to_string()))?;
    serde_json::from_slice(&json).map_err(|e| unusable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use component::testing::Files;

    use super::*;

    fn of(file: &File, plugin: &str) -> Option<String> {
        let told = file.of(plugin).unwrap();
        told.map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn plugins_are_told_in_the_file_or_in_one_that_it_names() {
        let files = Files::new();
        files.write("events.yaml", "limits: []\n");
        let path = files.write(
            "admission.yaml",
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: EventRateLimit\n  path: events.yaml\n\
             - name: PodSecurity\n  configuration: {kind: K}\n  path: nowhere\n\
             - name: PodSecurity\n  configuration: {kind: L}\n\
             - name: Priority\n- name: Gone\n  path: nowhere\n",
        );
        let file = File::read(&path).unwrap();
        assert_eq!(of(&file, "EventRateLimit").as_deref(), Some("limits: []\n"));
        assert_eq!(of(&file, "PodSecurity").as_deref(), Some(r#"{"kind":"K"}"#));
        assert_eq!(of(&file, "Priority"), None);
        assert_eq!(of(&file, "LimitRanger"), None);
        let gone = file.of("Gone").unwrap_err().to_string();
        assert!(gone.starts_with("couldn't open admission plugin configuration"));
    }

    #[test]
    fn a_file_of_another_kind_or_with_unknown_fields_is_refused() {
        let parse = |text: &str| File::parse(text.as_bytes(), Path::new("/x")).is_ok();
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
        assert!(parse(head));
        assert!(parse(&format!("{head}plugins: null\n")));
        assert!(!parse(&format!("{head}plugin: []\n")));
        assert!(!parse(&format!("{head}imagePolicy: {{}}\n")));
        assert!(!parse("apiVersion: v1\nkind: Pod\n"));
        assert!(!parse("plugins: []\n"));
        assert!(!parse("{"));
    }

    #[test]
    fn a_file_from_before_kinds_is_the_plugins_own() {
        let files = Files::new();
        let text = "podNodeSelectorPluginConfig:\n  clusterDefaultNodeSelector: a=b\n";
        let file = File::read(&files.write("selectors.yaml", text)).unwrap();
        assert_eq!(of(&file, "PodNodeSelector").as_deref(), Some(text));
        assert_eq!(of(&file, "EventRateLimit"), None);
    }
}
