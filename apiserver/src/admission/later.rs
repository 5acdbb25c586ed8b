//! Webhooks and policies, which do not run yet: their names, so that command lines which name them work,
//! and their configurations, which are checked and kept.
//!
//! Upstream: `apiserver/pkg/admission/plugin/{webhook,policy}`.

use std::path::{Path, PathBuf};

use component::config::Versioned;
use proto::path::FieldError;
use serde::Deserialize;

use super::config::Refused;
use super::{Operation, Plugin};

/// They look at everything but connections that mutating policies cannot change.
const POLICIES: &[Operation] = &[Operation::Create, Operation::Update, Operation::Connect];

pub(super) const MUTATING_POLICIES: Plugin = Plugin {
    name: "MutatingAdmissionPolicy",
    on_by_default: true,
    operations: POLICIES,
    configure: Some(|state, told, _| {
        state.later.mutating_policies = manifests::<MutatingPolicies>(told)?;
        Ok(())
    }),
    ..Plugin::OFF
};

pub(super) const MUTATING_WEBHOOKS: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, _| {
        state.later.mutating_webhooks = webhooks(told)?;
        Ok(())
    }),
    ..Plugin::OFF
};

pub(super) const VALIDATING_POLICIES: Plugin = Plugin {
    name: "ValidatingAdmissionPolicy",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, _| {
        state.later.validating_policies = manifests::<ValidatingPolicies>(told)?;
        Ok(())
    }),
    ..Plugin::OFF
};

pub(super) const VALIDATING_WEBHOOKS: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, _| {
        state.later.validating_webhooks = webhooks(told)?;
        Ok(())
    }),
    ..Plugin::OFF
};

/// What these plugins are told.
#[derive(Default)]
pub(super) struct Later {
    pub(super) mutating_policies: Option<PathBuf>,
    pub(super) validating_policies: Option<PathBuf>,
    pub(super) mutating_webhooks: Webhooks,
    pub(super) validating_webhooks: Webhooks,
}

/// How webhooks are reached, and which there are besides those of objects.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Webhooks {
    /// The API server's credentials for them.
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) manifests: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WebhookAdmission {
    kube_config_file: String,
    static_manifests_dir: String,
}

impl Versioned for WebhookAdmission {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "WebhookAdmissionConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct MutatingPolicies {
    static_manifests_dir: String,
}

impl Versioned for MutatingPolicies {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "MutatingAdmissionPolicyConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ValidatingPolicies {
    static_manifests_dir: String,
}

impl Versioned for ValidatingPolicies {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "ValidatingAdmissionPolicyConfiguration";
}

trait Manifests: Versioned {
    fn folder(&self) -> &str;
}

impl Manifests for MutatingPolicies {
    fn folder(&self) -> &str {
        &self.static_manifests_dir
    }
}

impl Manifests for ValidatingPolicies {
    fn folder(&self) -> &str {
        &self.static_manifests_dir
    }
}

fn webhooks(told: Option<&[u8]>) -> Result<Webhooks, Refused> {
    const NOT_ABSOLUTE: &str = "must be an absolute file path";
    let Some(text) = told else {
        return Ok(Webhooks::default());
    };
    let file: WebhookAdmission = component::config::read(text)?;
    let path = file.kube_config_file.as_str();
    if !path.is_empty() && !Path::new(path).is_absolute() {
        let error = FieldError::invalid("kubeConfigFile", path, NOT_ABSOLUTE);
        return Err(Refused::Invalid(vec![error]));
    }
    Ok(Webhooks {
        kubeconfig: (!path.is_empty()).then(|| path.into()),
        manifests: folder(&file.static_manifests_dir)?,
    })
}

fn manifests<T: Manifests>(told: Option<&[u8]>) -> Result<Option<PathBuf>, Refused> {
    match told {
        Some(text) => folder(component::config::read::<T>(text)?.folder()),
        None => Ok(None),
    }
}

/// Manifests would be enforced from the first request on: a server that cannot do that must not start as
/// if it could.
fn folder(path: &str) -> Result<Option<PathBuf>, Refused> {
    if path.is_empty() {
        return Ok(None);
    }
    let why = if Path::new(path).is_absolute() {
        "static manifests are not supported yet"
    } else {
        "must be an absolute file path"
    };
    let error = FieldError::invalid("staticManifestsDir", path, why);
    Err(Refused::Invalid(vec![error]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_checked() {
        let read = |fields: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: WebhookAdmissionConfiguration\n{fields}"
            );
            webhooks(Some(text.as_bytes())).map_err(|e| e.to_string())
        };
        let kubeconfig = Some(PathBuf::from("/etc/webhooks"));
        let wanted = Webhooks {
            kubeconfig,
            manifests: None,
        };
        assert_eq!(read("kubeConfigFile: /etc/webhooks"), Ok(wanted));
        assert_eq!(webhooks(None).unwrap(), Webhooks::default());
        for wrong in [
            "kubeConfigFile: webhooks",
            "staticManifestsDir: /etc/manifests",
            "kubeconfig: /etc/webhooks",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let policies = b"apiVersion: apiserver.config.k8s.io/v1\nkind: ValidatingAdmissionPolicyConfiguration\n";
        assert_eq!(
            manifests::<ValidatingPolicies>(Some(policies)).unwrap(),
            None
        );
        assert!(manifests::<MutatingPolicies>(Some(policies)).is_err());
    }
}
