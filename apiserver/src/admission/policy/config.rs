//! What the configuration file tells the plugins: `{Validating,Mutating}AdmissionPolicyConfiguration`.

use std::path::Path;

use component::config::Versioned;
use proto::path::FieldError;
use serde::Deserialize;

use super::super::config::Refused;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MutatingPolicies {
    static_manifests_dir: String,
}

impl Versioned for MutatingPolicies {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "MutatingAdmissionPolicyConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ValidatingPolicies {
    static_manifests_dir: String,
}

impl Versioned for ValidatingPolicies {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "ValidatingAdmissionPolicyConfiguration";
}

pub(super) trait Manifests: Versioned {
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

/// Reads what a plugin is told, which is nothing that this server could do.
pub(super) fn read<T: Manifests>(told: Option<&[u8]>) -> Result<(), Refused> {
    match told {
        Some(text) => no_folder(component::config::read::<T>(text)?.folder()),
        None => Ok(()),
    }
}

/// Manifests would be enforced from the first request on: a server that cannot do that must not start as
/// if it could.
pub(in super::super) fn no_folder(path: &str) -> Result<(), Refused> {
    if path.is_empty() {
        return Ok(());
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
        let policies = b"apiVersion: apiserver.config.k8s.io/v1\nkind: ValidatingAdmissionPolicyConfiguration\n";
        assert!(read::<ValidatingPolicies>(Some(policies)).is_ok());
        assert!(read::<MutatingPolicies>(Some(policies)).is_err());
        let refused = |path| no_folder(path).unwrap_err().to_string();
        assert!(refused("/etc/manifests").contains("not supported yet"));
        assert!(refused("manifests").contains("must be an absolute file path"));
    }
}
