//! Who makes a policy of admission, or binds one, must be allowed to read its parameters: what a policy says tells what is in
//! them.
//!
//! It is no admission plugin, as it cannot be switched off. Upstream:
//! `pkg/registry/admissionregistration/*/authz.go`.

use proto::Value;
use proto::catalogue::names as n;
use proto::meta;
use proto::path::FieldError;
use proto::view::admissionregistration_v1::{
    ParamKind, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use proto::view::{Node, View};
use resources::equal::same_at;
use resources::status::Failure;

use super::{Attributes, Decision};
use crate::admission::{self, Operation};
use crate::auth::User;
use crate::server::Server;

const GROUP: &str = "admissionregistration.k8s.io";
const ANY: &str = "*";

/// Refuses a policy or a binding whose writer may not read the parameters. The object is valid otherwise.
///
/// # Errors
/// 422 with what he lacks.
pub async fn check(server: &Server, write: &admission::Attributes<'_>) -> Result<(), Failure> {
    if write.resource.group != GROUP
        || !write.subresource.is_empty()
        || !matches!(write.operation, Operation::Create | Operation::Update)
        || write.user.is_in(User::MASTERS)
    {
        return Ok(());
    }
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    let (field, refused) = match write.resource.name {
        "mutatingadmissionpolicies" | "validatingadmissionpolicies" => {
            ("spec.paramKind", of_policy(server, write, new).await)
        }
        "mutatingadmissionpolicybindings" => {
            let refused = of_binding(server, write.user, "mutatingadmissionpolicies", new).await;
            ("spec.paramRef", refused)
        }
        "validatingadmissionpolicybindings" => {
            let refused = of_binding(server, write.user, "validatingadmissionpolicies", new).await;
            ("spec.paramRef", refused)
        }
        _ => return Ok(()),
    };
    let Err(why) = refused else { return Ok(()) };
    let error = FieldError::forbidden(field, why);
    let name = meta::name(new);
    Err(Failure::invalid(GROUP, write.resource.kind, name, &[error]))
}

async fn of_policy(
    server: &Server,
    write: &admission::Attributes<'_>,
    new: &Value,
) -> Result<(), String> {
    let policy = ValidatingAdmissionPolicy::of(Node::new(new));
    let Some(kind) = policy.spec().param_kind() else {
        return Ok(());
    };
    if write
        .old
        .is_some_and(|old| same_at(new, old, &[n::SPEC, n::PARAM_KIND]))
    {
        return Ok(());
    }
    let of = Resolved::new(server, kind);
    let asked = Attributes {
        name: ANY,
        namespace: ANY,
        ..Attributes::about(
            write.user,
            "get",
            of.group,
            of.version,
            of.resource.unwrap_or(ANY),
        )
    };
    if allowed(server, &asked).await? {
        return Ok(());
    }
    Err(format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        shown(write.user),
        kind.kind(),
        kind.api_version()
    ))
}

async fn of_binding(
    server: &Server,
    user: &User,
    policies: &str,
    new: &Value,
) -> Result<(), String> {
    let spec = ValidatingAdmissionPolicyBinding::of(Node::new(new)).spec();
    let Some(param) = spec.param_ref() else {
        return Ok(());
    };
    let policy = server.lookup(GROUP, policies, "", spec.policy_name()).await;
    let policy = policy.ok().flatten();
    let of_policy = policy
        .as_ref()
        .map(|p| ValidatingAdmissionPolicy::of(Node::new(p)).spec());
    let kind = of_policy.and_then(|spec| spec.param_kind());
    let of = kind.map(|kind| Resolved::new(server, kind));
    let (group, version) = of.as_ref().map_or((ANY, ANY), |of| (of.group, of.version));
    let resource = of.as_ref().and_then(|of| of.resource).unwrap_or(ANY);
    let verb = if param.name().is_empty() {
        "list"
    } else {
        "get"
    };
    let asked = Attributes {
        name: param.name(),
        namespace: param.namespace(),
        ..Attributes::about(user, verb, group, version, resource)
    };
    if allowed(server, &asked)
        .await
        .map_err(|e| format!("failed to authorize request: {e}"))?
    {
        return Ok(());
    }
    let user = shown(user);
    let all = |what: String| {
        format!(
            "unable to {what} to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
        )
    };
    Err(match (&policy, kind, &of) {
        (None, ..) => all(format!("get policy {}", spec.policy_name())),
        (_, Some(kind), Some(Resolved { resource: None, .. })) => all(format!(
            "resolve paramKind &ParamKind{{APIVersion:{},Kind:{},}}",
            kind.api_version(),
            kind.kind()
        )),
        _ => format!(
            "user {user} does not have \"{verb}\" permission on the object referenced by paramRef"
        ),
    })
}

async fn allowed(server: &Server, asked: &Attributes<'_>) -> Result<bool, String> {
    let outcome = server.authorizers.explain(asked).await;
    match (outcome.decision, outcome.error) {
        (Decision::Allow, _) => Ok(true),
        (_, Some(error)) => Err(error),
        _ => Ok(false),
    }
}

/// Where objects of a kind are.
struct Resolved<'a> {
    group: &'a str,
    version: &'a str,
    /// None: nothing serves the kind.
    resource: Option<&'static str>,
}

impl<'a> Resolved<'a> {
    fn new(server: &Server, kind: ParamKind<'a>) -> Self {
        let parsed = meta::parse_api_version(kind.api_version());
        let (group, version) = parsed.unwrap_or((ANY, ANY));
        let mut all = server.registry.iter().map(|endpoint| endpoint.resource);
        let found = all.find(|r| (r.group, r.version, r.kind) == (group, version, kind.kind()));
        Self {
            group,
            version,
            resource: found.map(|r| r.name),
        }
    }
}

/// A user as Go prints one.
fn shown(user: &User) -> String {
    let extra = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key}:[{}]", values.join(" ")));
    let extra: Vec<String> = extra.collect();
    let groups = user.groups.join(" ");
    format!(
        "&{{{} {} [{groups}] map[{}]}}",
        user.name,
        user.uid,
        extra.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_as_go_prints_one() {
        let mut user = User {
            name: "ann".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            ..User::default()
        };
        assert_eq!(shown(&user), "&{ann  [a b] map[]}");
        user.extra
            .insert("k".to_owned(), vec!["v".to_owned(), "w".to_owned()]);
        assert_eq!(shown(&user), "&{ann  [a b] map[k:[v w]]}");
    }
}
