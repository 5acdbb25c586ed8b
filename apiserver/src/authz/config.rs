//! The file: `AuthorizationConfiguration`, checked as upstream checks it
//! (`apiserver/pkg/apis/apiserver/validation`, `pkg/kubeapiserver/authorizer/config.go`), and what the
//! flags say in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use component::config::Versioned;
use proto::meta::names;
use proto::path::{FieldError, Reason};
use serde::Deserialize;

use super::conditions::Conditions;

/// Why a configuration cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("failed to load AuthorizationConfiguration from file: {0}")]
    Unreadable(#[from] component::config::Unplaced),
    #[error("{}", proto::path::aggregate(.0))]
    Invalid(Vec<FieldError>),
    #[error("{}", proto::path::aggregate(.0))]
    Unfit(Vec<String>),
}

/// A kind of authorizer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    AlwaysAllow,
    AlwaysDeny,
    Abac,
    Webhook,
    Rbac,
    Node,
}

/// By name, sorted as upstream's messages have them.
const KINDS: [(&str, Kind); 6] = [
    ("ABAC", Kind::Abac),
    ("AlwaysAllow", Kind::AlwaysAllow),
    ("AlwaysDeny", Kind::AlwaysDeny),
    ("Node", Kind::Node),
    ("RBAC", Kind::Rbac),
    ("Webhook", Kind::Webhook),
];

impl Kind {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, kind)| *kind)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// One authorizer of the list.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub name: String,
    /// Of webhooks only.
    pub webhook: Option<WebhookSettings>,
}

impl Entry {
    /// One that has no settings; it has its kind's name.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            name: kind.name().to_lowercase(),
            webhook: None,
        }
    }
}

/// The version of reviews that a webhook speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V1beta1,
}

impl Version {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }

    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "authorization.k8s.io/v1",
            Self::V1beta1 => "authorization.k8s.io/v1beta1",
        }
    }
}

/// How a webhook is asked, and what becomes of its answers.
#[derive(Clone, PartialEq, Debug)]
pub struct WebhookSettings {
    pub kubeconfig: PathBuf,
    /// For one call.
    pub timeout: Duration,
    /// How long answers are remembered; not at all if it is nothing.
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub version: Version,
    /// Whether no answer means no.
    pub fail_closed: bool,
    /// What it is asked about.
    pub conditions: Conditions,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthorizationConfiguration {
    authorizers: Vec<AuthorizerConfiguration>,
}

impl Versioned for AuthorizationConfiguration {
    const API_VERSIONS: &'static [&'static str] = &[
        "apiserver.config.k8s.io/v1",
        "apiserver.config.k8s.io/v1beta1",
        "apiserver.config.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "AuthorizationConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthorizerConfiguration {
    r#type: String,
    name: String,
    webhook: Option<WebhookConfiguration>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WebhookConfiguration {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: component::config::Duration,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: component::config::Duration,
    cache_unauthorized_requests: Option<bool>,
    timeout: component::config::Duration,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    match_conditions: Vec<MatchCondition>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ConnectionInfo {
    r#type: String,
    kube_config_file: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MatchCondition {
    expression: String,
}

/// The authorizers that a file names; those of `required` kinds must be among them.
///
/// # Errors
/// All that is wrong with it.
pub fn read(text: &str, required: &[Kind]) -> Result<Vec<Entry>, Error> {
    let file: AuthorizationConfiguration = component::config::read(text.as_bytes())?;
    let entries = entries(&file).map_err(Error::Invalid)?;
    let problems = unfit(&entries, required);
    if problems.is_empty() {
        Ok(entries)
    } else {
        Err(Error::Unfit(problems))
    }
}

/// Authorizers without settings have the names that flags would give them, and none goes away while
/// the server runs.
fn unfit(entries: &[Entry], required: &[Kind]) -> Vec<String> {
    let mut problems: Vec<String> = { entries.iter().filter(|e| e.kind != Kind::Webhook) }
        .filter(|e| e.name != Entry::of(e.kind).name)
        .map(|e| {
            let (wanted, kind) = (Entry::of(e.kind).name, e.kind.name());
            format!(
                "expected name {wanted} for authorizer {kind} instead of {}",
                e.name
            )
        })
        .collect();
    let mut missing: Vec<&str> = { required.iter() }
        .filter(|kind| !entries.iter().any(|e| e.kind == **kind))
        .map(|kind| kind.name())
        .collect();
    missing.sort_unstable();
    if !missing.is_empty() {
        problems.push(format!("missing required types: [{}]", missing.join(" ")));
    }
    problems
}

fn entries(file: &AuthorizationConfiguration) -> Result<Vec<Entry>, Vec<FieldError>> {
    let (mut errors, mut entries) = (Vec::new(), Vec::<Entry>::new());
    if file.authorizers.is_empty() {
        let why = "at least one authorization mode must be defined";
        errors.push(FieldError::required("authorizers", why));
    }
    for (i, of) in file.authorizers.iter().enumerate() {
        let at = format!("authorizers[{i}]");
        match entry(of, &at, &entries, &mut errors) {
            Ok(entry) => entries.push(entry),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(entries)
    } else {
        Err(errors)
    }
}

/// An element of the list; the error is one that hides the others of the element.
fn entry(
    of: &AuthorizerConfiguration,
    at: &str,
    before: &[Entry],
    errors: &mut Vec<FieldError>,
) -> Result<Entry, FieldError> {
    let at_type = format!("{at}.type");
    if of.r#type.is_empty() {
        return Err(FieldError::required(at_type, ""));
    }
    let Some(kind) = Kind::named(&of.r#type) else {
        let known = KINDS.map(|(name, _)| name);
        return Err(FieldError::not_supported(
            at_type,
            of.r#type.as_str(),
            &known,
        ));
    };
    if kind != Kind::Webhook && before.iter().any(|e| e.kind == kind) {
        return Err(duplicate(at_type, &of.r#type));
    }
    let at_name = format!("{at}.name");
    let problems = names::dns_subdomain_problems(&of.name);
    if of.name.is_empty() {
        errors.push(FieldError::required(at_name, ""));
    } else if before.iter().any(|e| e.name == of.name) {
        errors.push(duplicate(at_name, &of.name));
    } else if !problems.is_empty() {
        let why = format!("authorizer name is invalid: {}", problems.join(", "));
        errors.push(FieldError::invalid(at_name, of.name.as_str(), why));
    }
    let webhook = match (kind, &of.webhook) {
        (Kind::Webhook, None) => {
            let why = "required when type=Webhook";
            return Err(FieldError::required(format!("{at}.webhook"), why));
        }
        (Kind::Webhook, Some(webhook)) => Some(settings(webhook, at, errors)),
        (_, Some(_)) => {
            let why = "may only be specified when type=Webhook";
            errors.push(FieldError::invalid(
                format!("{at}.webhook"),
                "non-null",
                why,
            ));
            None
        }
        (_, None) => None,
    };
    Ok(Entry {
        kind,
        name: of.name.clone(),
        webhook,
    })
}

fn duplicate(at: String, value: &str) -> FieldError {
    FieldError::new(Reason::Duplicate, at, proto::path::quote(value), "")
}

/// The settings; what is wrong is noted, and whatever stands in its place is never used.
fn settings(of: &WebhookConfiguration, at: &str, errors: &mut Vec<FieldError>) -> WebhookSettings {
    const MOST: Duration = Duration::from_secs(30);
    let field = |name: &str| format!("{at}.{name}");
    let timeout = of.timeout.0;
    if timeout.is_zero() {
        errors.push(FieldError::required(field("timeout"), ""));
    } else if timeout > MOST {
        let shown = proto::time::Duration(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
        let why = "must be > 0s and <= 30s";
        errors.push(FieldError::invalid(
            field("timeout"),
            shown.to_string().as_str(),
            why,
        ));
    }
    let version = Version::named(&of.subject_access_review_version);
    let at_version = field("subjectAccessReviewVersion");
    match (of.subject_access_review_version.as_str(), version) {
        (_, Some(_)) => {}
        ("", _) => errors.push(FieldError::required(at_version, "")),
        (other, _) => {
            errors.push(FieldError::not_supported(
                at_version,
                other,
                &["v1", "v1beta1"],
            ));
        }
    }
    condition_version(
        of,
        field("matchConditionSubjectAccessReviewVersion"),
        errors,
    );
    let at_policy = field("failurePolicy");
    match of.failure_policy.as_str() {
        "NoOpinion" | "Deny" => {}
        "" => errors.push(FieldError::required(at_policy, "")),
        other => errors.push(FieldError::not_supported(
            at_policy,
            other,
            &["NoOpinion", "Deny"],
        )),
    }
    let ttl = |given: Duration, default: u64, cached: Option<bool>| match cached {
        Some(false) => Duration::ZERO,
        _ if given.is_zero() => Duration::from_secs(default),
        _ => given,
    };
    let kubeconfig = connection(&of.connection_info, &field("connectionInfo"), errors);
    let conditions = of.match_conditions.iter().map(|of| of.expression.as_str());
    WebhookSettings {
        kubeconfig,
        timeout,
        authorized_ttl: ttl(of.authorized_ttl.0, 300, of.cache_authorized_requests),
        unauthorized_ttl: ttl(of.unauthorized_ttl.0, 30, of.cache_unauthorized_requests),
        version: version.unwrap_or(Version::V1),
        fail_closed: of.failure_policy == "Deny",
        conditions: Conditions::read(conditions, &field("matchConditions"), errors),
    }
}

fn condition_version(of: &WebhookConfiguration, at: String, errors: &mut Vec<FieldError>) {
    match of.match_condition_subject_access_review_version.as_str() {
        "v1" => {}
        "" if of.match_conditions.is_empty() => {}
        "" => {
            let why = "required if match conditions are specified";
            errors.push(FieldError::required(at, why));
        }
        other => errors.push(FieldError::not_supported(at, other, &["v1"])),
    }
}

fn connection(of: &ConnectionInfo, at: &str, errors: &mut Vec<FieldError>) -> PathBuf {
    let at_file = format!("{at}.kubeConfigFile");
    let file = of.kube_config_file.as_deref().unwrap_or_default();
    let problem = match of.r#type.as_str() {
        "KubeConfigFile" => match refused_file(file) {
            None => return PathBuf::from(file),
            Some(_) if file.is_empty() => FieldError::required(at_file, ""),
            Some(why) => FieldError::invalid(at_file, file, why),
        },
        "" => FieldError::required(format!("{at}.type"), ""),
        "InClusterConfig" if of.kube_config_file.is_some() => {
            FieldError::invalid(at_file, file, "can only be set when type=KubeConfigFile")
        }
        // The API server would ask itself.
        "InClusterConfig" => FieldError::invalid(
            format!("{at}.type"),
            "InClusterConfig",
            "is not for API servers, use KubeConfigFile",
        ),
        other => FieldError::not_supported(
            format!("{at}.type"),
            other,
            &["InClusterConfig", "KubeConfigFile"],
        ),
    };
    errors.push(problem);
    PathBuf::new()
}

/// Why a kubeconfig is none that may be named.
fn refused_file(file: &str) -> Option<String> {
    let path = Path::new(file);
    if !path.is_absolute() {
        return Some("must be an absolute path".to_owned());
    }
    match std::fs::metadata(path) {
        Err(error) => Some(format!("error loading file: {error}")),
        Ok(meta) if !meta.is_file() => Some("must be a regular file".to_owned()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests;
