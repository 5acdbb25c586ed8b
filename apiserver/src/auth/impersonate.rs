//! Impersonation: a user asks as somebody else (`Impersonate-User` and its companions).
//!
//! Ways are tried in upstream's order: the constrained ones (KEP-5284), which allow some verbs on some resources as
//! some users, then the old one, which allows everything as a user. A way that does not fit is passed over; the first
//! refusal is told if none allows. Whoever asks as somebody else leaves no trace of it to what comes after.
//!
//! Upstream: `apiserver/pkg/endpoints/filters/impersonation`.

use std::collections::BTreeMap;

use component::client::path_decode;
use futures::future::BoxFuture;
use http::HeaderMap;
use proto::meta::names;
use proto::path::quote;
use resources::status::Failure;

use super::User;
use super::service_account::{self, NODE_NAME};
use crate::authz::{Attributes, Decision, node, refusal};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Stands for a requestor's extras where only their names count.
const NODE_KEYS: &str = "authentication.kubernetes.io/associated-node-keys";
const GROUP_OF_API: &str = "authentication.k8s.io";
/// So many questions are worth to ask first for all at once.
const MANY: usize = 4;

/// Who answers whether something may be done.
pub type Decide<'d> = dyn for<'a> Fn(&'a Attributes<'a>) -> BoxFuture<'a, Decision> + Sync + 'd;

/// How somebody may be impersonated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// A service account as the node that its pod is on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Anybody else, with groups, uid and extras.
    UserInfo,
    /// As it was before there were constraints.
    Legacy,
}

const WAYS: [Way; 5] = [
    Way::AssociatedNode,
    Way::ArbitraryNode,
    Way::ServiceAccount,
    Way::UserInfo,
    Way::Legacy,
];

/// Takes the headers away and reads who is wanted; none if nobody is.
///
/// # Errors
/// 400 for groups, uid or extras without a name.
pub fn wanted(headers: &mut HeaderMap) -> Result<Option<User>, Failure> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let first = |headers: &HeaderMap, name| headers.get(name).map(text).unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers.iter() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = path_decode(key);
            extra.entry(key).or_default().push(text(value));
        }
    }
    let user = User {
        name: first(headers, USER),
        uid: first(headers, UID),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra,
    };
    if user.name.is_empty() {
        let others = !user.uid.is_empty() || !user.groups.is_empty() || !user.extra.is_empty();
        return if others {
            let who = in_go(&user);
            let why = format!("requested {who} without impersonating a user name");
            Err(Failure::bad_request(why))
        } else {
            Ok(None)
        };
    }
    let ours: Vec<_> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            [USER, GROUP, UID].contains(&name) || name.starts_with(EXTRA)
        })
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
    Ok(Some(user))
}

/// Somebody without a name as Go prints him, which clients are told.
fn in_go(user: &User) -> String {
    let list = |texts: &[String]| {
        let all: Vec<String> = texts.iter().map(|text| quote(text)).collect();
        format!("[]string{{{}}}", all.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_owned(),
        groups => list(groups),
    };
    let keys = user.extra.iter();
    let keys = keys.map(|(key, values)| format!("{}:{}", quote(key), list(values)));
    let extra = match keys.collect::<Vec<_>>().as_slice() {
        [] => "map[string][]string(nil)".to_owned(),
        keys => format!("map[string][]string{{{}}}", keys.join(", ")),
    };
    let uid = quote(&user.uid);
    format!("&user.DefaultInfo{{Name:\"\", UID:{uid}, Groups:{groups}, Extra:{extra}}}")
}

/// Who asks from now on, and under which constraint: the verb that allowed it, empty in the old way.
///
/// # Errors
/// 403, if the one who asks may not be who he wants to be.
pub async fn impersonated(
    wanted: &User,
    asked: &Attributes<'_>,
    constrained: bool,
    decide: &Decide<'_>,
) -> Result<(User, String), Failure> {
    let mut refused = None;
    for way in WAYS {
        if (way != Way::Legacy && !constrained) || !way.fits(wanted, asked.user) {
            continue;
        }
        match way.check(wanted, asked, decide).await {
            Ok(user) => return Ok((user, way.constraint())),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    Err(refused.expect("the old way fits everybody"))
}

fn node_of(name: &str) -> Option<&str> {
    let node = name.strip_prefix(node::PREFIX)?;
    names::dns_subdomain_problems(node)
        .is_empty()
        .then_some(node)
}

/// Namespace and name.
fn account_of(name: &str) -> Option<(&str, &str)> {
    let (namespace, account) = service_account::named(name)?;
    let good = names::dns_label_problems(namespace).is_empty()
        && names::dns_subdomain_problems(account).is_empty();
    good.then_some((namespace, account))
}

/// Asks one question.
async fn may(asked: &Attributes<'_>, decide: &Decide<'_>) -> Result<(), Failure> {
    match decide(asked).await {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(refuse(asked, &reason)),
    }
}

fn refuse(asked: &Attributes<'_>, reason: &str) -> Failure {
    let why = refusal(asked, reason);
    Failure::forbidden(asked.group, asked.resource, asked.name, &why)
}

impl Way {
    /// As it is called in verbs.
    const fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// The verb that allows it; empty in the old way, which has none of its own.
    fn constraint(self) -> String {
        match self {
            Self::Legacy => String::new(),
            _ => format!("impersonate:{}", self.name()),
        }
    }

    /// Whether this way is for such a user at all.
    fn fits(self, wanted: &User, requestor: &User) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node_of(&wanted.name), account_of(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let at = requestor.extra.get(NODE_NAME).map(Vec::as_slice);
                let at = at.and_then(|values| match values {
                    [one] => Some(one.as_str()),
                    _ => None,
                });
                bare && node.is_some() && at == node && account_of(&requestor.name).is_some()
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }

    async fn check(
        self,
        wanted: &User,
        asked: &Attributes<'_>,
        decide: &Decide<'_>,
    ) -> Result<User, Failure> {
        // Of a service account that asks as its own node only the names of the extras count.
        let mut requestor = asked.user.clone();
        if self == Self::AssociatedNode {
            let keys = requestor.extra.keys().cloned().collect();
            requestor.extra = BTreeMap::from([(NODE_KEYS.to_owned(), keys)]);
        }
        let constrained = self != Self::Legacy;
        if constrained {
            let verb = format!("impersonate-on:{}:{}", self.name(), asked.verb);
            let on = Attributes {
                user: &requestor,
                verb: &verb,
                ..*asked
            };
            may(&on, decide).await?;
        }
        let verb = match self {
            Self::Legacy => "impersonate".to_owned(),
            _ => self.constraint(),
        };
        let questions = Questions {
            way: self,
            requestor: &requestor,
            verb: &verb,
            decide,
        };
        let mut user = wanted.clone();
        questions.name(wanted, &mut user).await?;
        if !wanted.uid.is_empty() {
            let uid = questions.ask(GROUP_OF_API, "v1", "uids", "", &wanted.uid);
            uid.await?;
        }
        questions.groups(&wanted.groups).await?;
        questions.extra(&wanted.extra).await?;
        let with = |user: &mut User, group: &str| {
            if !user.groups.iter().any(|g| g == group) {
                user.groups.push(group.to_owned());
            }
        };
        if user.is_anonymous() {
            with(&mut user, User::UNAUTHENTICATED);
        } else if !user.groups.iter().any(|g| g == User::UNAUTHENTICATED) {
            with(&mut user, User::AUTHENTICATED);
        }
        Ok(user)
    }
}

/// What is asked about each part of a user.
struct Questions<'a> {
    way: Way,
    requestor: &'a User,
    verb: &'a str,
    decide: &'a Decide<'a>,
}

impl Questions<'_> {
    fn about<'q>(&'q self, group: &'q str, version: &'q str, resource: &'q str) -> Attributes<'q> {
        Attributes::about(self.requestor, self.verb, group, version, resource)
    }

    async fn ask(
        &self,
        group: &str,
        version: &str,
        resource: &str,
        subresource: &str,
        name: &str,
    ) -> Result<(), Failure> {
        let asked = Attributes {
            subresource,
            name,
            ..self.about(group, version, resource)
        };
        may(&asked, self.decide).await
    }

    fn constrained(&self) -> bool {
        self.way != Way::Legacy
    }

    /// Users and groups are of the core group in the old way.
    fn api(&self) -> &'static str {
        if self.constrained() { GROUP_OF_API } else { "" }
    }

    async fn name(&self, wanted: &User, user: &mut User) -> Result<(), Failure> {
        let about = self.about(self.api(), "v1", "users");
        if let Some(node) = node_of(&wanted.name).filter(|_| self.constrained()) {
            user.groups = vec![node::GROUP.to_owned()];
            let name = if self.way == Way::AssociatedNode {
                "*"
            } else {
                node
            };
            let asked = Attributes {
                resource: "nodes",
                name,
                ..about
            };
            return may(&asked, self.decide).await;
        }
        if let Some((namespace, account)) = account_of(&wanted.name) {
            if wanted.groups.is_empty() {
                user.groups = service_account::groups(namespace);
            }
            let asked = Attributes {
                resource: "serviceaccounts",
                namespace,
                name: account,
                ..about
            };
            return may(&asked, self.decide).await;
        }
        let asked = Attributes {
            name: &wanted.name,
            ..about
        };
        may(&asked, self.decide).await
    }

    async fn groups(&self, groups: &[String]) -> Result<(), Failure> {
        let about = self.about(self.api(), "v1", "groups");
        if self.constrained() {
            if groups.iter().any(String::is_empty) {
                let why = "impersonating the empty string group is not allowed";
                return Err(refuse(&about, why));
            }
            if groups.iter().any(|g| g == User::MASTERS) {
                let named = Attributes {
                    name: User::MASTERS,
                    ..about
                };
                let why = "impersonating the system:masters group is not allowed";
                return Err(refuse(&named, why));
            }
            let all = Attributes { name: "*", ..about };
            if groups.len() >= MANY && may(&all, self.decide).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.ask(self.api(), "v1", "groups", "", group).await?;
        }
        Ok(())
    }

    async fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), Failure> {
        if extra.is_empty() {
            return Ok(());
        }
        let ask = async |key: &str, value: &str| {
            let asked = self.ask(GROUP_OF_API, "v1", "userextras", key, value);
            asked.await
        };
        if self.constrained() {
            if let Some(why) = extra.iter().find_map(|(k, v)| extra_problem(k, v)) {
                return Err(refuse(&self.about(GROUP_OF_API, "v1", "userextras"), &why));
            }
            let count: usize = extra.values().map(Vec::len).sum();
            if count >= MANY && ask("*", "*").await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                ask(key, value).await?;
            }
        }
        Ok(())
    }
}

/// Why an extra is none that the constrained ways take.
fn extra_problem(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let prefixed = key.split_once('/').is_some_and(|(domain, path)| {
        names::dns_subdomain_problems(domain).is_empty() && !path.is_empty()
    });
    if !prefixed {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: {key}"
        ));
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!(
            "impersonating a non-lowercase key in extra is not allowed: {key:?}"
        ));
    }
    values
        .iter()
        .any(String::is_empty)
        .then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

#[cfg(test)]
mod tests;
