//! Attribute-based access control: a file of policies, one JSON object a line.
//!
//! The file is read at the start only, as upstream's (`pkg/auth/authorizer/abac`). Lines without a
//! version are of the first form of the file, whose blanks mean "all".

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::rbac::Rule;
use super::{Attributes, Authorizer, Decision, Rules};
use crate::auth::User;

/// Why a file of policies cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read the policy file {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("error reading policy file {path}, line {line}: {problem}")]
    Line {
        path: PathBuf,
        line: usize,
        problem: String,
    },
}

/// What somebody may do.
#[derive(Deserialize, Clone, Default, PartialEq, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    #[serde(rename = "nonResourcePath")]
    path: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    spec: Policy,
}

const VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const READS: [&str; 3] = ["get", "list", "watch"];

/// The authorizer.
pub struct Abac {
    policies: Vec<Policy>,
}

impl Abac {
    /// # Errors
    /// If the file cannot be read, or a line is no policy.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
            path: path.to_owned(),
            cause,
        })?;
        let mut policies = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            policies.push(read(line).map_err(|problem| Error::Line {
                path: path.to_owned(),
                line: number + 1,
                problem,
            })?);
        }
        Ok(Self { policies })
    }
}

pub(crate) fn read(line: &str) -> Result<Policy, String> {
    // A list would be taken for an object whose fields are all blank, and those mean everything.
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let object = Value::Object(object);
    let head: Line = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    let mut policy = match (head.api_version.as_str(), head.kind.as_str()) {
        (VERSION, "Policy") => head.spec,
        ("", "") => first_form(object)?,
        (version, kind) => {
            return Err(format!(
                "no kind {kind:?} is registered for version {version:?}"
            ));
        }
    };
    // "All" means everybody who said who he is.
    if policy.user == "*" || policy.group == "*" {
        policy.user.clear();
        User::AUTHENTICATED.clone_into(&mut policy.group);
    }
    Ok(policy)
}

/// A line of the form that had no version: what is blank is not restricted.
fn first_form(object: Value) -> Result<Policy, String> {
    let mut policy: Policy = serde_json::from_value(object).map_err(|e| e.to_string())?;
    if policy.user.is_empty() && policy.group.is_empty() {
        "*".clone_into(&mut policy.group);
    }
    policy.path.clear();
    if policy.namespace.is_empty() && policy.resource.is_empty() {
        "*".clone_into(&mut policy.path);
    }
    for field in [&mut policy.namespace, &mut policy.resource] {
        if field.is_empty() {
            "*".clone_into(field);
        }
    }
    "*".clone_into(&mut policy.api_group);
    Ok(policy)
}

fn is(pattern: &str, given: &str) -> bool {
    pattern == "*" || pattern == given
}

impl Policy {
    /// Whether it is about a user. One that names nobody is about nobody.
    fn is_for(&self, user: &User) -> bool {
        let named = !self.user.is_empty() || !self.group.is_empty();
        named
            && (self.user.is_empty() || self.user == user.name)
            && (self.group.is_empty() || user.is_in(&self.group))
    }

    fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !self.is_for(asked.user) || (self.readonly && !READS.contains(&asked.verb)) {
            return false;
        }
        if asked.is_resource {
            return is(&self.namespace, asked.namespace)
                && is(&self.resource, asked.resource)
                && is(&self.api_group, asked.group);
        }
        match self.path.strip_suffix('*') {
            Some(prefix) => asked.path.starts_with(prefix.trim_end_matches('*')),
            None => self.path == asked.path,
        }
    }

    fn verbs(&self) -> Vec<Box<str>> {
        if self.readonly {
            READS.map(Into::into).to_vec()
        } else {
            vec!["*".into()]
        }
    }
}

impl Authorizer for Abac {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        if self.policies.iter().any(|policy| policy.allows(asked)) {
            return Decision::Allow;
        }
        Decision::NoOpinion("No policy matched.".to_owned())
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut rules = Vec::new();
        for policy in &self.policies {
            if !policy.is_for(user) || !is(&policy.namespace, namespace) {
                continue;
            }
            if !policy.resource.is_empty() {
                rules.push(Rule {
                    verbs: policy.verbs(),
                    groups: vec![policy.api_group.as_str().into()],
                    resources: vec![policy.resource.as_str().into()],
                    ..Rule::default()
                });
            }
            if !policy.path.is_empty() {
                rules.push(Rule {
                    verbs: policy.verbs(),
                    paths: vec![policy.path.as_str().into()],
                    ..Rule::default()
                });
            }
        }
        Rules {
            rules,
            ..Rules::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abac(lines: &[&str]) -> Abac {
        let policies = lines.iter().map(|line| read(line).unwrap()).collect();
        Abac { policies }
    }

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            ..User::default()
        }
        .authenticated()
    }

    fn allows(abac: &Abac, name: &str, verb: &str, namespace: &str, resource: &str) -> bool {
        let user = user(name);
        let asked = Attributes {
            namespace,
            ..Attributes::about(&user, verb, "", "v1", resource)
        };
        abac.authorize(&asked) == Decision::Allow
    }

    fn allows_path(abac: &Abac, name: &str, verb: &str, path: &str) -> bool {
        let user = user(name);
        let asked = Attributes {
            is_resource: false,
            path,
            ..Attributes::about(&user, verb, "", "", "")
        };
        abac.authorize(&asked) == Decision::Allow
    }

    #[test]
    fn blanks_of_the_first_form_mean_all() {
        let of = abac(&[
            r#"{"user":"admin"}"#,
            r#"{"user":"reader","readonly":true,"resource":"pods"}"#,
            r#"{"readonly":true,"namespace":"open"}"#,
        ]);
        assert!(allows(&of, "admin", "delete", "ns", "secrets"));
        assert!(allows_path(&of, "admin", "get", "/metrics"));
        assert!(allows(&of, "reader", "list", "ns", "pods"));
        assert!(!allows(&of, "reader", "delete", "ns", "pods"));
        assert!(!allows(&of, "reader", "list", "ns", "secrets"));
        assert!(!allows_path(&of, "reader", "get", "/metrics"));
        assert!(allows(&of, "anybody", "get", "open", "secrets"));
        assert!(!allows(&of, "anybody", "get", "ns", "secrets"));
    }

    #[test]
    fn blanks_of_the_versioned_form_mean_nothing() {
        let line = |spec: &str| {
            format!(r#"{{"apiVersion":"{VERSION}","kind":"Policy","spec":{{{spec}}}}}"#)
        };
        let lines = [
            line(r#""user":"ann","namespace":"*","resource":"pods""#),
            line(r#""user":"bob","group":"ops","nonResourcePath":"/logs/*""#),
            line(r#""group":"*","readonly":true,"nonResourcePath":"/version""#),
            line(r#""namespace":"*","resource":"*","apiGroup":"*""#),
        ];
        let of = abac(&lines.each_ref().map(String::as_str));
        assert!(allows(&of, "ann", "create", "ns", "pods"));
        assert!(!allows(&of, "ann", "create", "ns", "services"));
        // Both user and group have to fit.
        assert!(!allows_path(&of, "bob", "get", "/logs/a"));
        assert!(allows_path(&of, "ann", "get", "/version"));
        assert!(!allows_path(&of, "ann", "post", "/version"));
        assert!(!allows_path(&of, "ann", "get", "/version/x"));
        let anonymous = User::anonymous();
        let asked = Attributes {
            is_resource: false,
            path: "/version",
            ..Attributes::about(&anonymous, "get", "", "", "")
        };
        assert_ne!(of.authorize(&asked), Decision::Allow);
    }

    #[test]
    fn a_line_that_is_no_policy_is_refused() {
        for line in [
            "{",
            "[]",
            r#"{"apiVersion":"v9","kind":"Policy"}"#,
            r#"{"user":1}"#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
