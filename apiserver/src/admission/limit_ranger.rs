//! `LimitRanger`: containers get the amounts that their namespace gives them, and stay within what it
//! allows. Upstream: `plugin/pkg/admission/limitranger`.

use proto::catalogue::names as n;
use proto::quantity::Quantity;
use proto::view::core_v1::{LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use resources::status::Failure;

use super::amounts::{Amounts, amounts, containers_mut, of, of_pod};
use super::{Attributes, Operation, Plugin, WRITES, in_namespace};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "LimitRanger",
    on_by_default: true,
    operations: WRITES,
    mutate: Some(|server, write| Box::pin(std::future::ready(mutate(server, write)))),
    validate: Some(|server, write| Box::pin(std::future::ready(validate(server, write)))),
    ..Plugin::OFF
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Whether limits are about this write. Containers do not change after the creation but by `resize`.
fn concerns(write: &Attributes<'_>) -> bool {
    if write.old.is_some_and(meta::is_deleting) {
        return false;
    }
    match (write.operation, write.subresource) {
        (Operation::Create, "") => write.is("", "pods") || write.is("", "persistentvolumeclaims"),
        (Operation::Update, "") => write.is("", "persistentvolumeclaims"),
        (Operation::Update, "resize") => write.is_any("", "pods"),
        _ => false,
    }
}

fn mutate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !concerns(write) || !write.is_any("", "pods") {
        return Ok(());
    }
    let namespace = write.namespace;
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    for range in in_namespace(server, "", "limitranges", namespace) {
        default(pod, LimitRange::of(Node::new(&range)));
    }
    Ok(())
}

/// Gives every container the defaults of a range.
fn default(pod: &mut Value, range: LimitRange<'_>) {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for item in range
        .spec()
        .limits()
        .iter()
        .filter(|item| item.r#type() == "Container")
    {
        requests.extend(item.node().dict(n::DEFAULT_REQUEST).iter());
        limits.extend(item.node().dict(n::DEFAULT).iter());
    }
    let mut notes = Vec::new();
    for (kind, container) in containers_mut(pod) {
        let name = container
            .get(n::NAME)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let what = if kind == n::CONTAINERS {
            "container"
        } else {
            "init container"
        };
        for (field, word, defaults) in [
            (n::REQUESTS, "request", &requests),
            (n::LIMITS, "limit", &limits),
        ] {
            let mut set = Vec::new();
            for (resource, value) in defaults {
                let there = container.ensure(&[n::RESOURCES, field]).make_map();
                if !there.contains(*resource) {
                    there.insert(*resource, (*value).clone());
                    set.push(resource.as_str());
                }
            }
            if !set.is_empty() {
                set.sort_unstable();
                notes.push((kind, format!("{} {word} for {what} {name}", set.join(", "))));
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    // Containers before init containers.
    notes.sort_by_key(|(kind, _)| *kind != n::CONTAINERS);
    let notes: Vec<String> = notes.into_iter().map(|(_, note)| note).collect();
    meta::set_annotation(
        pod,
        ANNOTATION,
        &format!("LimitRanger plugin set: {}", notes.join("; ")),
    );
}

fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !concerns(write) {
        return Ok(());
    }
    let Some(object) = write.object.as_deref() else {
        return Ok(());
    };
    let pod_level = server.config.features.enabled("PodLevelResources");
    for range in in_namespace(server, "", "limitranges", write.namespace) {
        let range = LimitRange::of(Node::new(&range));
        let problems = if write.is_any("", "pods") {
            pod_problems(Pod::of(Node::new(object)), range, pod_level)
        } else {
            claim_problems(PersistentVolumeClaim::of(Node::new(object)), range)
        };
        if !problems.is_empty() {
            return Err(write.forbid(&proto::path::aggregate(&problems)));
        }
    }
    Ok(())
}

fn pod_problems(pod: Pod<'_>, range: LimitRange<'_>, pod_level: bool) -> Vec<String> {
    let spec = pod.spec();
    let mut problems = Vec::new();
    for item in range.spec().limits() {
        match item.r#type() {
            "Container" => {
                for container in spec
                    .containers()
                    .iter()
                    .chain(spec.init_containers().iter())
                {
                    check(
                        item,
                        &of(container, n::REQUESTS),
                        &of(container, n::LIMITS),
                        &mut problems,
                    );
                }
            }
            "Pod" => {
                let total = |which: NameId| of_pod(spec, which, pod_level);
                check(item, &total(n::REQUESTS), &total(n::LIMITS), &mut problems);
            }
            _ => {}
        }
    }
    problems
}

fn claim_problems(claim: PersistentVolumeClaim<'_>, range: LimitRange<'_>) -> Vec<String> {
    let requests = amounts(claim.spec().resources().node().dict(n::REQUESTS));
    let mut problems = Vec::new();
    for item in range
        .spec()
        .limits()
        .iter()
        .filter(|item| item.r#type() == "PersistentVolumeClaim")
    {
        let kind = item.r#type();
        for (resource, least) in bounds(item, n::MIN) {
            problems.extend(too_little(
                kind,
                &resource,
                least,
                requests.get(&resource),
                None,
            ));
        }
        for (resource, most) in bounds(item, n::MAX) {
            let said = format!("maximum {resource} usage per {kind} is {most}");
            match requests.get(&resource) {
                None => problems.push(format!("{said}.  No request is specified")),
                Some(asked) if *asked > most => {
                    problems.push(format!("{said}, but request is {asked}"))
                }
                Some(_) => {}
            }
        }
    }
    problems
}

fn bounds(item: LimitRangeItem<'_>, field: NameId) -> Amounts {
    amounts(item.node().dict(field))
}

fn check(
    item: LimitRangeItem<'_>,
    requests: &Amounts,
    limits: &Amounts,
    problems: &mut Vec<String>,
) {
    let kind = item.r#type();
    for (resource, least) in bounds(item, n::MIN) {
        problems.extend(too_little(
            kind,
            &resource,
            least,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
    for (resource, most) in bounds(item, n::MAX) {
        problems.extend(too_much(
            kind,
            &resource,
            most,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
    for (resource, ratio) in bounds(item, n::MAX_LIMIT_REQUEST_RATIO) {
        problems.extend(too_far_apart(
            kind,
            &resource,
            ratio,
            requests.get(&resource),
            limits.get(&resource),
        ));
    }
}

fn too_little(
    kind: &str,
    resource: &str,
    least: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let said = format!("minimum {resource} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{said}.  No request is specified")),
        (Some(request), _) if *request < least => Some(format!("{said}, but request is {request}")),
        (_, Some(limit)) if *limit < least => Some(format!("{said}, but limit is {limit}")),
        _ => None,
    }
}

fn too_much(
    kind: &str,
    resource: &str,
    most: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let said = format!("maximum {resource} usage per {kind} is {most}");
    match (limit, request) {
        (None, _) => Some(format!("{said}.  No limit is specified")),
        (Some(limit), _) if *limit > most => Some(format!("{said}, but limit is {limit}")),
        (_, Some(request)) if *request > most => Some(format!("{said}, but request is {request}")),
        _ => None,
    }
}

fn too_far_apart(
    kind: &str,
    resource: &str,
    most: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let said = format!("{resource} max limit to request ratio per {kind} is {most}");
    let Some(request) = request.filter(|r| !r.is_zero()) else {
        return Some(format!(
            "{said}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = limit.filter(|l| !l.is_zero()) else {
        return Some(format!("{said}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > most.as_f64()).then(|| format!("{said}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use proto::MsgId;
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn decode(text: &str, message: MsgId) -> Value {
        json::decode(text.as_bytes(), message, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value
    }

    fn range(items: &str) -> Value {
        decode(
            &format!(r#"{{"spec":{{"limits":[{items}]}}}}"#),
            core_v1::LIMIT_RANGE,
        )
    }

    fn pod(resources: &str) -> Value {
        let container = format!(r#"{{"name":"a","resources":{resources}}}"#);
        decode(
            &format!(r#"{{"spec":{{"containers":[{container}],"initContainers":[{container}]}}}}"#),
            core_v1::POD,
        )
    }

    fn problems(resources: &str, items: &str) -> Vec<String> {
        pod_problems(
            Pod::of(Node::new(&pod(resources))),
            LimitRange::of(Node::new(&range(items))),
            true,
        )
    }

    #[test]
    fn containers_get_what_they_do_not_ask_for() {
        let mut got = pod(r#"{"requests":{"cpu":"1"}}"#);
        let range = range(
            r#"{"type":"Container","defaultRequest":{"cpu":"100m","memory":"1Gi"},"default":{"cpu":"2"}}"#,
        );
        default(&mut got, LimitRange::of(Node::new(&range)));
        let container = Pod::of(Node::new(&got))
            .spec()
            .containers()
            .first()
            .unwrap();
        let text = |which, name: &str| {
            container
                .resources()
                .node()
                .dict(which)
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        assert_eq!(text(n::REQUESTS, "cpu").as_deref(), Some("1"));
        assert_eq!(text(n::REQUESTS, "memory").as_deref(), Some("1Gi"));
        assert_eq!(text(n::LIMITS, "cpu").as_deref(), Some("2"));
        let note = "LimitRanger plugin set: memory request for container a; cpu limit for container a; memory request for init container a; cpu limit for init container a";
        assert_eq!(meta::annotation(&got, ANNOTATION), Some(note));
    }

    #[test]
    fn a_container_stays_within_the_range() {
        let resources = r#"{"requests":{"cpu":"1"},"limits":{"cpu":"4"}}"#;
        assert_eq!(
            problems(
                resources,
                r#"{"type":"Container","min":{"cpu":"500m"},"max":{"cpu":"4"}}"#
            ),
            [""; 0]
        );
        let twice = |text: &str| vec![text.to_owned(), text.to_owned()];
        assert_eq!(
            problems(resources, r#"{"type":"Container","max":{"cpu":"2"}}"#),
            twice("maximum cpu usage per Container is 2, but limit is 4")
        );
        assert_eq!(
            problems(resources, r#"{"type":"Container","min":{"memory":"1Gi"}}"#),
            twice("minimum memory usage per Container is 1Gi.  No request is specified")
        );
        assert_eq!(
            problems(
                resources,
                r#"{"type":"Container","maxLimitRequestRatio":{"cpu":"3"}}"#
            ),
            twice(
                "cpu max limit to request ratio per Container is 3, but provided ratio is 4.000000"
            )
        );
    }

    #[test]
    fn a_claim_is_measured_by_its_request() {
        let claim = decode(
            r#"{"spec":{"resources":{"requests":{"storage":"5Gi"}}}}"#,
            core_v1::PERSISTENT_VOLUME_CLAIM,
        );
        let says = |items: &str| {
            claim_problems(
                PersistentVolumeClaim::of(Node::new(&claim)),
                LimitRange::of(Node::new(&range(items))),
            )
        };
        assert_eq!(
            says(
                r#"{"type":"PersistentVolumeClaim","min":{"storage":"1Gi"},"max":{"storage":"5Gi"}}"#
            ),
            [""; 0]
        );
        let said = says(r#"{"type":"PersistentVolumeClaim","max":{"storage":"2Gi"}}"#);
        assert_eq!(
            said,
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"]
        );
    }
}
