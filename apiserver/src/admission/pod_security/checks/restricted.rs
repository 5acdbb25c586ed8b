//! What the restricted standard asks of pods beyond that: to give up what they do not need.

use std::collections::BTreeSet;

use proto::catalogue::names as n;
use proto::{NameId, Value};

use super::baseline::added;
use super::{Found, Subject, context, flag, found, list, named, plural, quoted, setters, text};

pub(super) fn capabilities_restricted(s: Subject<'_>) -> Found {
    let dropped = |c: &Value| {
        context(c, n::CAPABILITIES)
            .and_then(|all| all.get(n::DROP))
            .map(|d| list(Some(d)).to_vec())
    };
    let keeping = s.bad(|c| {
        !dropped(c)
            .unwrap_or_default()
            .iter()
            .any(|d| d.as_str() == Some("ALL"))
    });
    let mut wrong = BTreeSet::new();
    let adding = s.bad(|c| {
        let own: Vec<&str> = added(c)
            .filter(|capability| *capability != "NET_BIND_SERVICE")
            .collect();
        wrong.extend(own.iter().copied());
        !own.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adding),
            quoted(wrong)
        ));
    }
    if details.is_empty() {
        None
    } else {
        found("unrestricted capabilities", details.join("; "))
    }
}

pub(super) fn privilege_escalation(s: Subject<'_>) -> Found {
    let containers = s.bad(|c| flag(c, n::ALLOW_PRIVILEGE_ESCALATION) != Some(false));
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        named(&containers)
    );
    found("allowPrivilegeEscalation != false", detail)
}

pub(super) fn volumes(s: Subject<'_>) -> Found {
    const ALLOWED: [NameId; 9] = [
        n::CONFIG_MAP,
        n::CSI,
        n::DOWNWARD_API,
        n::EMPTY_DIR,
        n::EPHEMERAL,
        n::IMAGE,
        n::PERSISTENT_VOLUME_CLAIM,
        n::PROJECTED,
        n::SECRET,
    ];
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in list(s.spec.get(n::VOLUMES)) {
        if ALLOWED
            .iter()
            .any(|kind| volume.get(*kind).is_some_and(|v| !v.is_null()))
        {
            continue;
        }
        names.push(text(volume, n::NAME));
        // What is not the name is the source.
        let mut sources = volume
            .as_map()
            .into_iter()
            .flat_map(|m| m.iter())
            .filter(|(_, v)| !v.is_null());
        let kind = sources
            .find(|(field, _)| field.known() != Some(n::NAME))
            .map_or("unknown", |(field, _)| field.as_str());
        kinds.insert(kind.to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let (word, uses) = (
        plural("volume", "volumes", names.len()),
        plural("uses", "use", names.len()),
    );
    let types = plural(
        "restricted volume type",
        "restricted volume types",
        kinds.len(),
    );
    found(
        "restricted volume types",
        format!("{word} {} {uses} {types} {}", quoted(names), quoted(kinds)),
    )
}

pub(super) fn non_root(s: Subject<'_>) -> Found {
    let own = s.own(n::RUN_AS_NON_ROOT).and_then(Value::as_bool);
    let explicit = s.bad(|c| flag(c, n::RUN_AS_NON_ROOT) == Some(false));
    let setters = setters(own == Some(false), &explicit);
    if !setters.is_empty() {
        return found(
            "runAsNonRoot != true",
            format!(
                "{} must not set securityContext.runAsNonRoot=false",
                setters.join(" and ")
            ),
        );
    }
    let implicit = s.bad(|c| own != Some(true) && flag(c, n::RUN_AS_NON_ROOT).is_none());
    if implicit.is_empty() {
        return None;
    }
    found(
        "runAsNonRoot != true",
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            named(&implicit)
        ),
    )
}

pub(super) fn root_user(s: Subject<'_>) -> Found {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_int) == Some(0);
    let containers = s.bad(|c| is_root(context(c, n::RUN_AS_USER)));
    let setters = setters(is_root(s.own(n::RUN_AS_USER)), &containers);
    if setters.is_empty() {
        None
    } else {
        found(
            "runAsUser=0",
            format!("{} must not set runAsUser=0", setters.join(" and ")),
        )
    }
}
