//! The policy: which requests are recorded, and how much of them. The first rule that fits decides.
//!
//! Upstream: `apiserver/pkg/audit/policy`, `apiserver/pkg/apis/audit/validation`.

use std::path::Path;

use component::config::Versioned;
use proto::meta::names;
use proto::path::{FieldError, Reason, aggregate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::User;
use crate::authz::Attributes;

/// Why a policy file cannot be used.
#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("failed to read file path {path:?}")]
    Read {
        path: std::path::PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{problem}: from file {}", path.display())]
    Refused {
        path: std::path::PathBuf,
        problem: String,
    },
}

/// How much of a request is recorded, in rising order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    const ALL: [(&'static str, Self); 4] = [
        ("None", Self::None),
        ("Metadata", Self::Metadata),
        ("Request", Self::Request),
        ("RequestResponse", Self::RequestResponse),
    ];

    /// As policies name it.
    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// When an event is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) enum Stage {
    RequestReceived,
    /// The head of the answer is sent; for long-running requests alone.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    const ALL: [(&'static str, Self); 4] = [
        ("RequestReceived", Self::RequestReceived),
        ("ResponseStarted", Self::ResponseStarted),
        ("ResponseComplete", Self::ResponseComplete),
        ("Panic", Self::Panic),
    ];

    /// As events name it.
    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// The file.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    /// Allowed as in every object, and without a meaning.
    #[serde(rename = "metadata")]
    _metadata: Value,
    rules: Vec<FileRule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

impl Versioned for File {
    const API_VERSIONS: &'static [&'static str] = &["audit.k8s.io/v1"];
    const KIND: &'static str = "Policy";
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct FileRule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

/// Resources of a group; all of them if none is named.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/log`, `*`.
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// A checked policy.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    verdict: Verdict,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    non_resource_urls: Vec<String>,
}

/// What is recorded of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// If it cannot be read or is refused.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|cause| Error::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::read(&text).map_err(|problem| Error::Refused {
            path: path.to_owned(),
            problem,
        })
    }

    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("failed decoding: {why}");
        let (json, duplicate) = proto::codec::yaml::to_json(text).map_err(|e| failed(&e))?;
        let mut tree: Value = serde_json::from_slice(&json).map_err(|e| failed(&e))?;
        without_nulls(&mut tree);
        let field = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (field("apiVersion"), field("kind"));
        if version.is_empty() || kind.is_empty() {
            let missing = if kind.is_empty() {
                "kind"
            } else {
                "apiVersion"
            };
            return Err(failed(&format!("'{missing}' must be set")));
        }
        if !File::API_VERSIONS.contains(&version) || kind != File::KIND {
            return Err(failed(&format!(
                "no kind \"{kind}\" is registered for version \"{version}\": {} of {} is expected",
                File::KIND,
                File::API_VERSIONS.join(", ")
            )));
        }
        // Fields that nobody knows are forgiven, as upstream forgives them.
        let strict = match &duplicate {
            Some(problem) => Some(problem.clone()),
            None => component::config::read::<File>(tree.to_string().as_bytes())
                .err()
                .map(|e| e.to_string()),
        };
        let file: File = serde_json::from_value(tree).map_err(|e| failed(&e))?;
        if let Some(problem) = strict {
            tracing::warn!(
                problem,
                "the audit policy contains errors, which are passed over"
            );
        }
        let policy = Self::check(file).map_err(|errors| aggregate(&errors))?;
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        Ok(policy)
    }

    /// The policy, or all that is wrong with it.
    fn check(file: File) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let everywhere = stages(&file.omit_stages, "omitStages", &mut errors);
        let mut rules = Vec::new();
        for (i, rule) in file.rules.into_iter().enumerate() {
            let at = format!("rules[{i}]");
            let level = level(&rule.level, &format!("{at}.level"), &mut errors);
            urls(&rule.non_resource_urls, &at, &mut errors);
            resources(&rule.resources, &format!("{at}.resources"), &mut errors);
            let mut omit_stages =
                stages(&rule.omit_stages, &format!("{at}.omitStages"), &mut errors);
            omit_stages.extend(&everywhere);
            let both = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if both && !rule.non_resource_urls.is_empty() {
                errors.push(invalid(
                    format!("{at}.nonResourceURLs"),
                    &rule.non_resource_urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            rules.push(Rule {
                verdict: Verdict {
                    level,
                    omit_stages,
                    omit_managed_fields: rule
                        .omit_managed_fields
                        .unwrap_or(file.omit_managed_fields),
                },
                users: rule.users,
                user_groups: rule.user_groups,
                verbs: rule.verbs,
                resources: rule.resources,
                namespaces: rule.namespaces,
                non_resource_urls: rule.non_resource_urls,
            });
        }
        if errors.is_empty() {
            Ok(Self { rules })
        } else {
            Err(errors)
        }
    }

    /// What is recorded of a request; none if nothing is. Nobody asks if it is not known who does.
    #[must_use]
    pub(super) fn verdict(&self, user: Option<&User>, asked: &Attributes<'_>) -> Option<&Verdict> {
        let rule = self.rules.iter().find(|rule| rule.fits(user, asked))?;
        (rule.verdict.level > Level::None).then_some(&rule.verdict)
    }
}

impl Rule {
    fn fits(&self, user: Option<&User>, asked: &Attributes<'_>) -> bool {
        let names = |list: &[String], value: &str| list.iter().any(|l| l == value);
        if !self.users.is_empty() && !user.is_some_and(|u| names(&self.users, &u.name)) {
            return false;
        }
        let member = |u: &User| u.groups.iter().any(|g| names(&self.user_groups, g));
        if !self.user_groups.is_empty() && !user.is_some_and(member) {
            return false;
        }
        if !self.verbs.is_empty() && !names(&self.verbs, asked.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            // What is in no namespace is in the one without a name.
            return asked.is_resource
                && (self.namespaces.is_empty() || names(&self.namespaces, asked.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.fits(asked)));
        }
        if !self.non_resource_urls.is_empty() {
            let mut urls = self.non_resource_urls.iter();
            return !asked.is_resource && urls.any(|url| path_fits(url, asked.path));
        }
        true
    }
}

impl GroupResources {
    fn fits(&self, asked: &Attributes<'_>) -> bool {
        if self.group != "*" && self.group != asked.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.iter().any(|name| name == asked.name);
        if !self.resource_names.is_empty() && !named {
            return false;
        }
        let (resource, subresource) = (asked.resource, asked.subresource);
        self.resources.iter().any(|given| {
            let whole = match given.split_once('/') {
                None => subresource.is_empty() && given == resource,
                Some((of, sub)) => !subresource.is_empty() && of == resource && sub == subresource,
            };
            given == "*"
                || whole
                || (!subresource.is_empty() && given.strip_prefix("*/") == Some(subresource))
                || given.strip_suffix("/*") == Some(resource)
        })
    }
}

/// A path, or the beginning of one with a star behind it.
fn path_fits(given: &str, path: &str) -> bool {
    given == "*"
        || given == path
        || (given.ends_with('*') && path.starts_with(given.trim_end_matches('*')))
}

/// Go reads a null as if it were not there.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// A list as the value of an error.
fn invalid(field: String, list: &[String], why: &str) -> FieldError {
    let shown = serde_json::to_string(list).unwrap_or_default();
    FieldError::new(Reason::Invalid, field, shown, why)
}

fn level(text: &str, at: &str, errors: &mut Vec<FieldError>) -> Level {
    if let Some((_, level)) = Level::ALL.iter().find(|(name, _)| *name == text) {
        return *level;
    }
    errors.push(if text.is_empty() {
        FieldError::required(at, "")
    } else {
        FieldError::not_supported(at, text, &Level::ALL.map(|(name, _)| name))
    });
    Level::None
}

fn stages(given: &[String], at: &str, errors: &mut Vec<FieldError>) -> Vec<Stage> {
    let mut known = Vec::new();
    for (i, text) in given.iter().enumerate() {
        match Stage::ALL.iter().find(|(name, _)| name == text) {
            Some((_, stage)) => known.push(*stage),
            None => errors.push(FieldError::invalid(
                format!("{at}[{i}]"),
                text.as_str(),
                format!(
                    "allowed stages are {}",
                    Stage::ALL.map(|(name, _)| name).join(",")
                ),
            )),
        }
    }
    known
}

fn urls(given: &[String], rule: &str, errors: &mut Vec<FieldError>) {
    for (i, url) in given.iter().enumerate().filter(|(_, url)| *url != "*") {
        let at = format!("{rule}.nonResourceURLs[{i}]");
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.push(FieldError::invalid(at.clone(), url.as_str(), why));
        }
        if url.strip_suffix('*').unwrap_or(url).contains('*') {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(FieldError::invalid(at, url.as_str(), why));
        }
    }
}

fn resources(given: &[GroupResources], at: &str, errors: &mut Vec<FieldError>) {
    for of in given {
        if !of.group.is_empty() && of.group != "*" {
            let problems = names::dns_subdomain_problems(&of.group);
            if !problems.is_empty() {
                let group = of.group.as_str();
                errors.push(FieldError::invalid(
                    format!("{at}.group"),
                    group,
                    problems.join(","),
                ));
            }
        }
        if !of.resource_names.is_empty() && of.resources.is_empty() {
            errors.push(invalid(
                format!("{at}.resourceNames"),
                &of.resource_names,
                "using resourceNames requires at least one resource",
            ));
        }
    }
}

#[cfg(test)]
mod tests;
