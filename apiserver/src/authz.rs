//! Authorization: may this user do this.
//!
//! Authorizers are asked in the order of the configuration ([`chain`]); the first that allows or denies
//! decides, and if none has an opinion the request is refused. Members of `system:masters` pass first.

pub mod abac;
pub mod bootstrap;
pub mod chain;
pub mod conditions;
pub mod config;
pub mod devices;
pub mod escalation;
pub mod node;
pub mod parameters;
pub mod rbac;
mod selectors;
pub mod webhook;

pub use chain::{Authorizers, Outcome};

use resources::request::RequestInfo;

use crate::auth::User;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    /// `get`, `list`, `create`, ...; the lower-case method for a path.
    pub verb: &'a str,
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// For requests that are not about a resource.
    pub path: &'a str,
    /// As given in the request; only lists, watches and deletecollections have them.
    pub field_selector: &'a str,
    pub label_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// About a resource as a whole; the rest is set on what comes back.
    #[must_use]
    pub fn about(
        user: &'a User,
        verb: &'a str,
        group: &'a str,
        version: &'a str,
        resource: &'a str,
    ) -> Self {
        Self {
            user,
            verb,
            is_resource: true,
            group,
            version,
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
            label_selector: "",
        }
    }

    #[must_use]
    pub fn of(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: &info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            field_selector: &info.field_selector,
            label_selector: &info.label_selector,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allow,
    Deny(String),
    NoOpinion(String),
}

/// An authorizer that knows by itself: it reads what is in memory and never waits.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision;

    /// Why it allows what it allows, for reviews; empty if it has nothing to say.
    fn reason(&self, _asked: &Attributes<'_>) -> String {
        String::new()
    }

    /// Everything that it allows to a user in a namespace, for `SelfSubjectRulesReview`.
    fn rules_for(&self, _user: &User, _namespace: &str) -> Rules {
        Rules::default()
    }
}

/// What a user may do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub rules: Vec<rbac::Rule>,
    /// The user may do more than the rules say.
    pub incomplete: bool,
    /// What went wrong while they were looked for.
    pub errors: Vec<String>,
}

/// The refusal as upstream words it: `User "a" cannot list resource "pods" in API group "" ...`.
#[must_use]
pub fn refusal(asked: &Attributes<'_>, reason: &str) -> String {
    use proto::path::quote;
    let mut text = format!("User {} cannot ", quote(&asked.user.name));
    if asked.is_resource {
        let resource = if asked.subresource.is_empty() {
            asked.resource.to_owned()
        } else {
            format!("{}/{}", asked.resource, asked.subresource)
        };
        text += &format!(
            "{} resource {} in API group {}",
            asked.verb,
            quote(&resource),
            quote(asked.group)
        );
        text += &if asked.namespace.is_empty() {
            " at the cluster scope".to_owned()
        } else {
            format!(" in the namespace {}", quote(asked.namespace))
        };
    } else {
        text += &format!("{} path {}", asked.verb, quote(asked.path));
    }
    // What the client chose must not look like a page to its browser.
    for (letter, harmless) in [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")] {
        if text.contains(letter) {
            text = text.replace(letter, harmless);
        }
    }
    if !reason.is_empty() {
        text += ": ";
        text += reason;
    }
    text
}

/// An authorizer that always says the same: `AlwaysAllow`, `AlwaysDeny`.
pub struct Always(pub Decision);

impl Authorizer for Always {
    fn authorize(&self, _asked: &Attributes<'_>) -> Decision {
        self.0.clone()
    }

    fn rules_for(&self, _user: &User, _namespace: &str) -> Rules {
        if self.0 != Decision::Allow {
            return Rules::default();
        }
        let all = || vec![Box::from("*")];
        let resources = rbac::Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..rbac::Rule::default()
        };
        let paths = rbac::Rule {
            verbs: all(),
            paths: all(),
            ..rbac::Rule::default()
        };
        Rules {
            rules: vec![resources, paths],
            ..Rules::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_does_not_look_like_a_page() {
        let user = User {
            name: "<b>&</b>".to_owned(),
            ..User::default()
        };
        let asked = Attributes {
            is_resource: false,
            path: "/<i>",
            ..Attributes::about(&user, "get", "", "", "")
        };
        assert_eq!(
            refusal(&asked, "<why>"),
            "User \"&lt;b&gt;&amp;&lt;/b&gt;\" cannot get path \"/&lt;i&gt;\": <why>"
        );
    }
}
