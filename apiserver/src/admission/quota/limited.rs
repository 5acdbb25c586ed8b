//! What nobody may consume where no quota covers it: the configuration of the plugin.
//!
//! Upstream: `apiserver/pkg/admission/plugin/resourcequota/{config,controller}.go`.

use std::collections::BTreeSet;

use component::config::Versioned;
use proto::path::FieldError;
use proto::{Value, catalogue::Resource};
use resources::status::Failure;
use serde::Deserialize;

use super::super::Attributes;
use super::super::amounts::Amounts;
use super::super::config::{Refused, kind};
use super::scope::{self, Requirement};
use super::usage::Measure;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    limited_resources: Vec<LimitedResource>,
}

/// The kind has two names.
#[derive(Deserialize)]
#[serde(transparent)]
struct Older(Configuration);

impl Versioned for Configuration {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "ResourceQuotaConfiguration";
}

impl Versioned for Older {
    const API_VERSIONS: &'static [&'static str] = &[
        "resourcequota.admission.k8s.io/v1beta1",
        "resourcequota.admission.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "Configuration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct LimitedResource {
    api_group: String,
    resource: String,
    match_contains: Vec<String>,
    match_scopes: Vec<MatchScope>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct MatchScope {
    scope_name: String,
    operator: String,
    values: Vec<String>,
}

/// One rule.
struct Limit {
    group: String,
    resource: String,
    /// Parts of names of amounts.
    names: Vec<String>,
    scopes: Vec<Scope>,
}

struct Scope {
    name: String,
    operator: String,
    values: Vec<Value>,
}

/// The rules.
#[derive(Default)]
pub(in super::super) struct Limited(Vec<Limit>);

impl Limited {
    pub(super) fn read(told: Option<&[u8]>) -> Result<Self, Refused> {
        let file = match told {
            None => Configuration::default(),
            Some(text) if kind(text) == Older::KIND => component::config::read::<Older>(text)?.0,
            Some(text) => component::config::read(text)?,
        };
        let nameless = |(i, of): (usize, &LimitedResource)| {
            let at = format!("limitedResources[{i}].resource");
            of.resource.is_empty().then(|| FieldError::required(at, ""))
        };
        let limits = file.limited_resources;
        let errors: Vec<FieldError> = limits.iter().enumerate().filter_map(nameless).collect();
        if errors.is_empty() {
            Ok(Self(limits.into_iter().map(Limit::of).collect()))
        } else {
            Err(Refused::Invalid(errors))
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an object of a resource must be covered for. Scopes count whatever resource their rule is for,
    /// as upstream has it.
    pub(super) fn asked<'a>(
        &'a self,
        resource: &Resource,
        measure: &Measure,
        object: &Value,
        usage: &Amounts,
    ) -> Uncovered<'a> {
        let about =
            |limit: &&Limit| limit.group == resource.group && limit.resource == resource.name;
        let rules = self.0.iter().filter(about);
        let parts: Vec<&String> = rules.flat_map(|limit| &limit.names).collect();
        let limited = |name: &String| parts.iter().any(|part| name.contains(part.as_str()));
        let consumed = usage.iter().filter(|(_, amount)| amount.signum() > 0);
        let names = consumed.map(|(name, _)| name.clone()).filter(limited);
        let scopes = self.0.iter().flat_map(|limit| &limit.scopes);
        Uncovered {
            names: names.collect(),
            scopes: scopes
                .filter(|of| scope::holds(of.requirement(), measure, object))
                .collect(),
        }
    }
}

/// Names of amounts, and scopes, that a quota must be there for.
pub(super) struct Uncovered<'a> {
    names: BTreeSet<String>,
    scopes: Vec<&'a Scope>,
}

impl Uncovered<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.scopes.is_empty()
    }

    /// Crosses out what a quota limits.
    pub(super) fn cover_names(&mut self, names: &[String]) {
        self.names.retain(|name| !names.contains(name));
    }

    /// Crosses out the scope of a quota that an object is in.
    pub(super) fn cover_scope(&mut self, name: &str) {
        self.scopes.retain(|scope| scope.name != name);
    }

    /// # Errors
    /// What is left.
    pub(super) fn refuse(&self, write: &Attributes<'_>) -> Result<(), Failure> {
        if !self.names.is_empty() {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let why = format!("insufficient quota to consume: {}", names.join(","));
            return Err(write.forbid(&why));
        }
        if self.scopes.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = self.scopes.iter().map(|scope| scope.shown()).collect();
        let why = format!(
            "insufficient quota to match these scopes: [{}]",
            shown.join(" ")
        );
        Err(Failure::new(500, "", why))
    }
}

impl Limit {
    fn of(given: LimitedResource) -> Self {
        let scope = |of: MatchScope| Scope {
            name: of.scope_name,
            operator: of.operator,
            values: of.values.into_iter().map(Value::from).collect(),
        };
        Self {
            group: given.api_group,
            resource: given.resource,
            names: given.match_contains,
            scopes: given.match_scopes.into_iter().map(scope).collect(),
        }
    }
}

impl Scope {
    fn requirement(&self) -> Requirement<'_> {
        (&self.name, &self.operator, &self.values)
    }

    /// As Go prints it.
    fn shown(&self) -> String {
        let values: Vec<&str> = self.values.iter().filter_map(Value::as_str).collect();
        format!("{{{} {} [{}]}}", self.name, self.operator, values.join(" "))
    }
}
