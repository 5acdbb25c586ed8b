//! Annotations of a pod or template that mean something, and fields that took their place.
//!
//! Upstream: `ValidatePodSpecificAnnotations`, `ValidatePodSpecificAnnotationUpdates`,
//! `validateSeccompAnnotationsAndFields`, `validateAppArmorAnnotationsAndFieldsMatchOnCreate`.

use proto::catalogue::{messages, names as n};
use proto::codec::json::{self, Strictness};
use proto::path::{Errors, FieldError, Spot, quote};
use proto::view::core_v1::{AppArmorProfile, PodSpec, SeccompProfile};
use proto::view::{Node, View};
use proto::{Map, Value};

use super::containers::all_containers;
use super::files::steps_back;
use super::{Kept, tolerations};
use crate::rules;

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is wrong with them. Paths are those below the annotations, of which upstream has its own idea.
pub(super) fn special(annotations: &Map, spec: PodSpec<'_>, kept: Kept) -> Vec<FieldError> {
    let mut found = Vec::new();
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    if let Some(value) = text(MIRROR).filter(|_| spec.node_name().is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        found.push(FieldError::invalid(format!("[{MIRROR}]"), value, detail));
    }
    if let Some(list) = text(TOLERATIONS).filter(|list| !list.is_empty()) {
        found.append(&mut old_tolerations(list, kept));
    }
    let mut invalid = |field: String, value: &str, detail: &str| {
        found.push(FieldError::invalid(field, value, detail));
    };
    if !kept.deletion_cost && !is_cost(annotations) {
        let value = text(DELETION_COST).unwrap_or_default();
        invalid(
            format!("[{DELETION_COST}]"),
            value,
            "must be a 32bit integer",
        );
    }
    if let Some(profile) = text(SECCOMP_POD) {
        seccomp(profile, &mut |shown, detail| {
            invalid(format!(".{SECCOMP_POD}"), shown, detail)
        });
    }
    let of_containers = |prefix: &'static str| {
        annotations.iter().filter_map(move |(key, value)| {
            let container = key.as_str().strip_prefix(prefix)?;
            Some((key.as_str(), container, value.as_str().unwrap_or_default()))
        })
    };
    for (key, _, profile) in of_containers(SECCOMP_CONTAINER) {
        seccomp(profile, &mut |shown, detail| {
            invalid(format!(".{key}"), shown, detail)
        });
    }
    for (key, container, profile) in of_containers(APP_ARMOR) {
        if !all_containers(spec).any(|c| c.name() == container) {
            invalid(format!("[{key}]"), container, "container not found");
        }
        let known = matches!(profile, "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", quote(profile));
            invalid(format!("[{key}]"), profile, &detail);
        }
    }
    found
}

/// Whether the cost of a pod's deletion, if it is given, is a number of 32 bits written plainly.
#[must_use]
pub(super) fn is_cost(annotations: &Map) -> bool {
    let Some(text) = annotations.get(DELETION_COST).and_then(Value::as_str) else {
        return true;
    };
    let plain = text == "0" || text.starts_with(['-', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    plain && text.parse::<i32>().is_ok()
}

/// The annotation from which tolerations became a field.
fn old_tolerations(text: &str, kept: Kept) -> Vec<FieldError> {
    let wrapped = format!("{{\"tolerations\":{text}}}");
    match json::decode(
        wrapped.as_bytes(),
        messages::core_v1::POD_SPEC,
        Strictness::Lenient,
    ) {
        Err(error) => vec![FieldError::invalid("", TOLERATIONS, error.to_string())],
        Ok(decoded) => {
            let mut own = Errors::new(&decoded.value);
            let spec = PodSpec::of(Node::new(&decoded.value));
            tolerations::tolerations(&mut own, spec.tolerations(), kept);
            let placed = |mut error: FieldError| {
                let rest = error.field.strip_prefix("tolerations").unwrap_or_default();
                error.field = format!(".{TOLERATIONS}{rest}");
                error
            };
            own.into_vec().into_iter().map(placed).collect()
        }
    }
}

/// `ValidateSeccompProfile`.
fn seccomp(profile: &str, invalid: &mut dyn FnMut(&str, &str)) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    let Some(path) = profile.strip_prefix("localhost/") else {
        invalid(profile, "must be a valid seccomp profile");
        return;
    };
    // Upstream shows the path alone.
    if path.starts_with('/') {
        invalid(path, "must be a relative path");
    }
    if steps_back(path) {
        invalid(path, "must not contain '..'");
    }
}

/// What may not become of annotations of a pod that is there; paths as those of [`special`].
pub(super) fn updated(now: &Map, was: &Map) -> Vec<FieldError> {
    let means = |key: &str| {
        let armor = key.starts_with(APP_ARMOR).then_some("AppArmor annotations");
        armor.or_else(|| (key == MIRROR).then_some("mirror pod annotation"))
    };
    let forbidden = |key: &proto::Name, what: &str| {
        means(key.as_str()).map(|which| {
            FieldError::forbidden(
                format!("[{}]", key.as_str()),
                format!("may not {what} {which}"),
            )
        })
    };
    let changed = was
        .iter()
        .filter(|(key, value)| now.get(key.as_str()) != Some(value));
    let added = now.iter().filter(|(key, _)| !was.contains(key.as_str()));
    changed
        .filter_map(|(key, _)| forbidden(key, "remove or update"))
        .chain(added.filter_map(|(key, _)| forbidden(key, "add")))
        .collect()
}

const SECCOMP_TYPE: &str = "seccomp type in annotation and field must match";
const APP_ARMOR_TYPE: &str = "apparmor type in annotation and field must match";

/// Annotations and the fields that took their place say the same.
pub(super) fn match_fields(e: &mut Errors<'_>, annotations: &Map, spec: PodSpec<'_>) {
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let profile = spec.security_context().and_then(|c| c.seccomp_profile());
    if let (Some(profile), Some(annotation)) = (profile, text(SECCOMP_POD)) {
        seccomp_matches(e, profile, annotation);
    }
    for container in all_containers(spec) {
        let profile = container
            .security_context()
            .and_then(|c| c.seccomp_profile());
        let key = format!("{SECCOMP_CONTAINER}{}", container.name());
        if let (Some(profile), Some(annotation)) = (profile, text(&key)) {
            seccomp_matches(e, profile, annotation);
        }
    }
    if spec.os().is_some_and(|os| os.name() == "windows") {
        return;
    }
    let of_pod = spec.security_context().and_then(|c| c.app_armor_profile());
    for container in all_containers(spec) {
        let own = container
            .security_context()
            .and_then(|c| c.app_armor_profile());
        let key = format!("{APP_ARMOR}{}", container.name());
        if let (Some(profile), Some(annotation)) = (own.or(of_pod), text(&key)) {
            // Upstream says it of the container, wherever the profile comes from.
            let at = rules::beside(e, Spot::of(container), ".securityContext.appArmorProfile");
            app_armor_matches(e, profile, annotation, &at);
        }
    }
}

fn seccomp_matches(e: &mut Errors<'_>, profile: SeccompProfile<'_>, annotation: &str) {
    let at = Spot::of(profile);
    let matches = match profile.r#type() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => false,
            Some(path) if profile.localhost_profile() == Some(path) => true,
            Some(_) => {
                let detail = "seccomp profile in annotation and field must match";
                e.forbidden(at.field(n::LOCALHOST_PROFILE), detail);
                true
            }
        },
        _ => true,
    };
    if !matches {
        e.forbidden(at.field(n::TYPE), SECCOMP_TYPE);
    }
}

fn app_armor_matches(e: &mut Errors<'_>, profile: AppArmorProfile<'_>, annotation: &str, at: &str) {
    let matches = match profile.r#type() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default",
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => false,
            Some(name) if profile.localhost_profile() == Some(name) => true,
            Some(_) => {
                let detail = "apparmor profile in annotation and field must match";
                e.push(FieldError::forbidden(
                    format!("{at}.localhostProfile"),
                    detail,
                ));
                true
            }
        },
        _ => true,
    };
    if !matches {
        e.push(FieldError::forbidden(format!("{at}.type"), APP_ARMOR_TYPE));
    }
}
