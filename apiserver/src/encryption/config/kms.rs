//! A key management service as the file names it.

use std::time::Duration;

use proto::path::FieldError;
use serde::Deserialize;

use super::super::kms::Settings;
use crate::plugin;

const TIMEOUT: Duration = Duration::from_secs(3);
const V1: &str = "v1";
const V2: &str = "v2";

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct KmsConfiguration {
    api_version: String,
    name: String,
    cachesize: Option<i32>,
    endpoint: String,
    timeout: Option<proto::time::Duration>,
}

/// Why a service that is configured well is not used.
const V1_IS_OFF: &str = "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  \
                         Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.";
/// Keys that are remembered of the first version, if the file does not say.
const CACHE: i32 = 1000;

impl KmsConfiguration {
    /// The first version is what upstream takes a service for that does not say.
    fn version(&self) -> &str {
        if self.api_version.is_empty() {
            V1
        } else {
            &self.api_version
        }
    }

    /// Why it is not used all the same; `v1` says whether the gate of the first version is open.
    pub(super) fn unused(&self, v1: bool) -> Option<&'static str> {
        (self.is_v1() && !v1).then_some(V1_IS_OFF)
    }

    pub(super) fn is_v1(&self) -> bool {
        self.version() == V1
    }

    /// What the file says; none if something is wrong with it. `names` are those of the services before.
    pub(super) fn settings(
        &self,
        at: &str,
        names: &mut Vec<String>,
        errors: &mut Vec<FieldError>,
    ) -> Option<Settings> {
        let before = errors.len();
        let timeout = self
            .timeout
            .map_or(Some(TIMEOUT), proto::time::Duration::to_std);
        let timeout = timeout.filter(|t| !t.is_zero());
        self.check_name(&format!("{at}.name"), names, errors);
        names.push(self.name.clone());
        if let (None, Some(given)) = (timeout, self.timeout) {
            let why = "timeout should be a positive value";
            errors.push(FieldError::invalid(
                format!("{at}.timeout"),
                given.to_string(),
                why,
            ));
        }
        let socket = self.socket(&format!("{at}.endpoint"), errors);
        let cache = format!("{at}.cachesize");
        match (self.version(), self.cachesize) {
            (V1, Some(0)) => {
                let why = "cachesize should be a positive value, or negative to disable";
                errors.push(FieldError::invalid(cache, 0_i64, why));
            }
            (V1, _) | (_, None) => {}
            (_, Some(given)) => {
                let why = "cachesize is not supported in v2";
                errors.push(FieldError::invalid(cache, i64::from(given), why));
            }
        }
        let refused = match self.version() {
            V1 | V2 => None,
            _ => Some(
                "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported",
            ),
        };
        if let Some(why) = refused {
            errors.push(FieldError::invalid(
                format!("{at}.apiVersion"),
                self.version(),
                why,
            ));
        }
        (errors.len() == before).then_some(())?;
        Some(Settings {
            name: self.name.clone(),
            socket: socket?,
            timeout: timeout?,
            cache: usize::try_from(self.cachesize.unwrap_or(CACHE)).ok(),
        })
    }

    fn check_name(&self, at: &str, names: &[String], errors: &mut Vec<FieldError>) {
        let name = &self.name;
        if name.is_empty() {
            errors.push(FieldError::required(
                at,
                "name is a mandatory field for a provider",
            ));
        }
        if self.version() == V1 {
            return;
        }
        if name.contains(':') {
            let why = format!("invalid KMS provider name {name}, must not contain ':'");
            errors.push(FieldError::invalid(at, name.as_str(), why));
        }
        if names.contains(name) {
            let why = format!("duplicate KMS provider name {name}, names must be unique");
            errors.push(FieldError::invalid(at, name.as_str(), why));
        }
    }

    fn socket(&self, at: &str, errors: &mut Vec<FieldError>) -> Option<String> {
        if self.endpoint.is_empty() {
            errors.push(FieldError::invalid(
                at,
                "",
                "endpoint is a mandatory field for a kms",
            ));
            return None;
        }
        match plugin::socket_of(&self.endpoint) {
            Ok(socket) => Some(socket),
            Err(unknown) => {
                errors.push(FieldError::invalid(
                    at,
                    self.endpoint.as_str(),
                    unknown.to_string(),
                ));
                None
            }
        }
    }
}
