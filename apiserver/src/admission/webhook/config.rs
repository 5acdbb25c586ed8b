//! What the configuration file tells the plugins: `WebhookAdmissionConfiguration`.

use std::path::{Path, PathBuf};

use component::config::Versioned;
use proto::path::FieldError;
use serde::Deserialize;

use super::super::config::Refused;
use super::super::policy::config::no_folder;

/// How webhooks are reached.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Settings {
    /// The API server's credentials for them.
    pub(super) kubeconfig: Option<PathBuf>,
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

pub(super) fn read(told: Option<&[u8]>) -> Result<Settings, Refused> {
    const NOT_ABSOLUTE: &str = "must be an absolute file path";
    let Some(text) = told else {
        return Ok(Settings::default());
    };
    let file: WebhookAdmission = component::config::read(text)?;
    let path = file.kube_config_file.as_str();
    if !path.is_empty() && !Path::new(path).is_absolute() {
        let error = FieldError::invalid("kubeConfigFile", path, NOT_ABSOLUTE);
        return Err(Refused::Invalid(vec![error]));
    }
    no_folder(&file.static_manifests_dir)?;
    Ok(Settings {
        kubeconfig: (!path.is_empty()).then(|| path.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_checked() {
        let given = |fields: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: WebhookAdmissionConfiguration\n{fields}"
            );
            read(Some(text.as_bytes())).map_err(|e| e.to_string())
        };
        let kubeconfig = Some(PathBuf::from("/etc/webhooks"));
        assert_eq!(
            given("kubeConfigFile: /etc/webhooks"),
            Ok(Settings { kubeconfig })
        );
        assert_eq!(read(None).unwrap(), Settings::default());
        for wrong in [
            "kubeConfigFile: webhooks",
            "staticManifestsDir: /etc/manifests",
            "kubeconfig: /etc/webhooks",
        ] {
            assert!(given(wrong).is_err(), "{wrong}");
        }
    }
}
