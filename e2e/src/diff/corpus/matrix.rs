//! Who may do what: subjects, verbs, resources and namespaces, each with each, on the same objects. It is asked in reviews, and
//! tried by requests in the subject's name.
//!
//! What is written reaches authorizers a moment later, in both servers: the questions come after some that are asked until the
//! answer is yes.

use serde_json::{Value, json};

use super::super::case::{Case, JSON, MERGE, Namespace, Step};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const SPACE: &str = "/api/v1/namespaces/${ns}";
const AUTHENTICATED: &str = "system:authenticated";
/// Who impersonates a node is given the group or not: upstream tries first what it did the last time.
const GROUPLESS: &str = "node without the group";

/// Somebody, by a short name.
struct Subject {
    called: &'static str,
    user: &'static str,
    groups: &'static [&'static str],
}

const fn subject(
    called: &'static str,
    user: &'static str,
    groups: &'static [&'static str],
) -> Subject {
    Subject {
        called,
        user,
        groups,
    }
}

const SUBJECTS: &[Subject] = &[
    subject("master", "root", &["system:masters", AUTHENTICATED]),
    subject("nobody", "system:anonymous", &["system:unauthenticated"]),
    subject("stranger", "${ns}-eve", &[AUTHENTICATED]),
    subject("user with a role", "${ns}-ann", &[AUTHENTICATED]),
    subject("group with a role", "max", &["${ns}-devs", AUTHENTICATED]),
    subject("user with a cluster role", "${ns}-bob", &[AUTHENTICATED]),
    subject(
        "group with a cluster role",
        "eva",
        &["${ns}-ops", AUTHENTICATED],
    ),
    subject(
        "account with a role",
        "system:serviceaccount:${ns}:default",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:${ns}",
            AUTHENTICATED,
        ],
    ),
    subject(
        "account of another namespace",
        "system:serviceaccount:${ns}-b:default",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:${ns}-b",
            AUTHENTICATED,
        ],
    ),
    subject(
        "node",
        "system:node:${ns}-n",
        &["system:nodes", AUTHENTICATED],
    ),
    subject(
        "another node",
        "system:node:${ns}-o",
        &["system:nodes", AUTHENTICATED],
    ),
    subject(GROUPLESS, "system:node:${ns}-n", &[AUTHENTICATED]),
    subject("scheduler", "system:kube-scheduler", &[AUTHENTICATED]),
    subject(
        "controllers",
        "system:kube-controller-manager",
        &[AUTHENTICATED],
    ),
    subject("proxy", "system:kube-proxy", &[AUTHENTICATED]),
    subject(
        "controller of deployments",
        "system:serviceaccount:kube-system:deployment-controller",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            AUTHENTICATED,
        ],
    ),
];

const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
/// `resource.group/subresource name`.
const RESOURCES: &[&str] = &[
    "configmaps",
    "configmaps m",
    "secrets",
    "secrets s",
    "secrets t",
    "pods",
    "pods p",
    "pods/log p",
    "pods/exec p",
    "pods/status p",
    "pods/eviction p",
    "nodes",
    "nodes ${ns}-n",
    "nodes/proxy ${ns}-n",
    "nodes/stats ${ns}-n",
    "nodes/status ${ns}-n",
    "services",
    "serviceaccounts default",
    "serviceaccounts/token default",
    "persistentvolumes v",
    "namespaces",
    "endpoints",
    "events",
    "leases.coordination.k8s.io ${ns}-n",
    "csinodes.storage.k8s.io ${ns}-n",
    "deployments.apps d",
    "deployments.apps/scale d",
    "certificatesigningrequests.certificates.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io ${ns}-wide",
    "things.example.com t",
];
const NAMESPACES: &[&str] = &["", "${ns}", "${ns}-b"];
/// Verbs that only some resources know.
const SPECIAL: &[(&str, &str)] = &[
    ("impersonate", "users ${ns}-ann"),
    ("impersonate", "groups system:masters"),
    ("impersonate", "serviceaccounts default"),
    ("bind", "clusterroles.rbac.authorization.k8s.io ${ns}-wide"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    (
        "approve",
        "signers.certificates.k8s.io kubernetes.io/kubelet-serving",
    ),
    ("use", "podsecuritypolicies.policy p"),
    ("*", "configmaps"),
    ("get", "*"),
    ("*", "*.*"),
];
const PATHS: &[&str] = &[
    "/",
    "/metrics",
    "/logs",
    "/logs/a",
    "/logs/a/b",
    "/healthz",
    "/livez/ping",
    "/version",
    "/api",
    "/apis/apps/v1",
    "/openapi/v3",
    "/no/such",
];

pub(super) fn cases() -> Vec<Case> {
    SUBJECTS.iter().flat_map(of).collect()
}

fn of(subject: &Subject) -> Vec<Case> {
    let case = |what: &str, questions: Vec<Step>| Case {
        name: format!("matrix: {}: {what}", subject.called),
        area: "who may what".to_owned(),
        namespace: Namespace::Own,
        steps: [objects(), settled(), questions].concat(),
        ..Case::default()
    };
    let mut all = vec![case("reviews", reviews(subject))];
    if subject.called != GROUPLESS {
        all.push(case("requests", requests(subject)));
    }
    all
}

/// What subjects want to get at, and what gives them rights.
fn objects() -> Vec<Step> {
    let named = |name: &str| json!({"metadata": {"name": name}});
    let (here, there) = (SPACE, "/api/v1/namespaces/${ns}-b");
    let mut all = vec![
        ("/api/v1/namespaces".to_owned(), named("${ns}-b")),
        ("/api/v1/nodes".to_owned(), named("${ns}-n")),
        ("/api/v1/nodes".to_owned(), named("${ns}-o")),
        (format!("{there}/serviceaccounts"), named("default")),
    ];
    for space in [here, there] {
        all.push((format!("{space}/configmaps"), named("m")));
        all.push((format!("{space}/secrets"), named("s")));
        all.push((format!("{space}/secrets"), named("t")));
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "${ns}-n",
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "s"}},
            {"name": "m", "configMap": {"name": "m"}},
        ],
    }});
    all.push((format!("{here}/pods"), pod));
    all.extend(rights());
    let post = |(path, object): (String, Value)| Step::new("POST", path, "").body(JSON, &object);
    all.into_iter().map(post).collect()
}

fn rights() -> Vec<(String, Value)> {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let mut one_secret = rule(&[""], &["secrets"], &["get", "list", "delete"]);
    one_secret["resourceNames"] = json!(["s"]);
    let part = json!([
        rule(
            &[""],
            &["configmaps", "pods/log"],
            &["get", "list", "watch"]
        ),
        rule(&[""], &["pods", "pods/exec"], &["create"]),
        rule(&["apps"], &["*"], &["*"]),
        rule(&["*"], &["*/status"], &["patch"]),
        one_secret,
    ]);
    let wide = json!([
        rule(&[""], &["nodes", "configmaps"], &["get", "list", "create"]),
        rule(&[""], &["serviceaccounts", "users"], &["impersonate"]),
        {"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]},
        {"nonResourceURLs": ["/no/*"], "verbs": ["*"]},
    ]);
    let role = |name: &str, rules: &Value| json!({"metadata": {"name": name}, "rules": rules});
    let person = |kind: &str, name: &str| json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let account =
        |space: &str| json!({"kind": "ServiceAccount", "name": "default", "namespace": space});
    let binding = |name: &str, kind: &str, role: &str, subjects: Value| {
        json!({
            "metadata": {"name": name}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        })
    };
    let space = |of: &str| format!("{RBAC}/namespaces/{of}");
    let here = json!([
        person("User", "${ns}-ann"),
        person("Group", "${ns}-devs"),
        account("${ns}")
    ]);
    let there = json!([person("User", "${ns}-ann"), account("${ns}")]);
    let all = json!([
        person("User", "${ns}-bob"),
        person("Group", "${ns}-ops"),
        account("${ns}-b")
    ]);
    vec![
        (format!("{}/roles", space("${ns}")), role("part", &part)),
        (format!("{RBAC}/clusterroles"), role("${ns}-wide", &wide)),
        (
            format!("{}/rolebindings", space("${ns}")),
            binding("part", "Role", "part", here),
        ),
        (
            format!("{}/rolebindings", space("${ns}-b")),
            binding("wide", "ClusterRole", "${ns}-wide", there),
        ),
        (
            format!("{RBAC}/clusterrolebindings"),
            binding("${ns}-wide", "ClusterRole", "${ns}-wide", all),
        ),
    ]
}

/// One question for each kind of object whose arrival decides.
fn settled() -> Vec<Step> {
    let known = |called: &str| SUBJECTS.iter().find(|of| of.called == called);
    let asked = [
        ("user with a role", "get", "configmaps", "${ns}"),
        ("user with a role", "get", "configmaps", "${ns}-b"),
        ("user with a cluster role", "get", "nodes", ""),
        ("node", "get", "secrets s", "${ns}"),
    ];
    let step = |(called, verb, resource, space): (&str, &str, &str, &str)| {
        let subject = known(called)?;
        Some(review(subject, "settled", &attributes(verb, resource, space)).until_allowed())
    };
    asked.into_iter().filter_map(step).collect()
}

/// `resourceAttributes` of a question.
fn attributes(verb: &str, resource: &str, space: &str) -> Value {
    let (resource, name) = resource.split_once(' ').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    json!({"resourceAttributes": {
        "verb": verb, "group": group, "version": "v1", "resource": resource,
        "subresource": subresource, "name": name, "namespace": space,
    }})
}

fn review(subject: &Subject, about: &str, question: &Value) -> Step {
    let mut spec = question.clone();
    spec["user"] = subject.user.into();
    spec["groups"] = json!(subject.groups);
    Step::new("POST", REVIEWS, about).body(JSON, &json!({ "spec": spec }))
}

fn reviews(subject: &Subject) -> Vec<Step> {
    let mut all = Vec::new();
    let mut ask = |verb: &str, resource: &str, space: &str| {
        let about = format!("{verb} {resource} in {space}");
        all.push(review(subject, &about, &attributes(verb, resource, space)));
    };
    for space in NAMESPACES {
        for resource in RESOURCES {
            for verb in VERBS {
                ask(verb, resource, space);
            }
        }
        for (verb, resource) in SPECIAL {
            ask(verb, resource, space);
        }
    }
    for path in PATHS {
        for verb in ["get", "post", "*"] {
            let question = json!({"nonResourceAttributes": {"path": path, "verb": verb}});
            all.push(review(subject, &format!("{verb} {path}"), &question));
        }
    }
    all
}

/// In the subject's name.
fn acting(subject: &Subject, step: Step) -> Step {
    if subject.user == "system:anonymous" {
        return step.header("as", "anonymous");
    }
    let step = step.header("impersonate-user", subject.user);
    // What everybody is a member of comes by itself. A node that is asked for by its name alone is in the nodes' group or not,
    // as whoever asks was somebody else before (upstream's `modeIndexCache`).
    let alone = subject.groups.len() == 1 && subject.user.starts_with("system:node:");
    let groups = subject.groups.iter();
    let groups = groups.filter(|of| alone || **of != AUTHENTICATED);
    groups.fold(step, |step, group| step.header("impersonate-group", *group))
}

/// A collection, the body of one of its objects, and that one's name.
const COLLECTIONS: &[(&str, &str, &str)] = &[
    ("/api/v1/configmaps", "{}", "m"),
    ("/api/v1/namespaces/${ns}/configmaps", "{}", "m"),
    ("/api/v1/namespaces/${ns}-b/configmaps", "{}", "m"),
    ("/api/v1/namespaces/${ns}/secrets", "{}", "s"),
    ("/api/v1/namespaces/${ns}/secrets", "{}", "t"),
    ("/api/v1/namespaces/${ns}-b/secrets", "{}", "s"),
    (
        "/api/v1/namespaces/${ns}/pods",
        r#"{"spec": {"containers": [{"name": "c", "image": "i"}]}}"#,
        "p",
    ),
    ("/api/v1/nodes", "{}", "${ns}-n"),
    ("/api/v1/nodes", "{}", "${ns}-o"),
    ("/api/v1/namespaces/${ns}/serviceaccounts", "{}", "default"),
    (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/${ns}/roles",
        "{}",
        "part",
    ),
    ("/apis/apps/v1/namespaces/${ns}/deployments", "{}", "d"),
    ("/apis/example.com/v1/namespaces/${ns}/things", "{}", "t"),
];

/// Nothing of it lasts.
fn requests(subject: &Subject) -> Vec<Step> {
    let mut all: Vec<Step> = Vec::new();
    for (collection, body, name) in COLLECTIONS {
        let one = format!("{collection}/{name}");
        let dry = "dryRun=All";
        let mut object: Value = serde_json::from_str(body).unwrap_or_default();
        object["metadata"] = json!({"name": "new"});
        let mut same = object.clone();
        same["metadata"] = json!({"name": name});
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let step = |method: &str, path: String| {
            let about = format!("{method} {path}");
            Step::new(method, path, about)
        };
        // What lies in no namespace is made by other cases as well.
        let list = step("GET", format!("{collection}?limit=1"));
        let own = collection.contains("${ns}");
        all.extend([
            step("GET", one.clone()),
            if own { list } else { list.bodiless() },
            step(
                "GET",
                format!("{collection}?fieldSelector=metadata.name%3D{name}"),
            )
            .bodiless(),
            step("POST", format!("{collection}?{dry}")).body(JSON, &object),
            step("PUT", format!("{one}?{dry}")).body(JSON, &same),
            step("PATCH", format!("{one}?{dry}")).body(MERGE, &label),
            step("DELETE", format!("{one}?{dry}")),
            step("DELETE", format!("{collection}?{dry}")).bodiless(),
        ]);
    }
    for path in PATHS {
        all.push(Step::get(*path, format!("GET {path}")).bodiless());
    }
    for space in ["${ns}", "${ns}-b", "kube-system"] {
        let spec = json!({"spec": {"namespace": space}});
        let about = format!("rules in {space}");
        all.push(Step::new("POST", RULES, about).bodiless().body(JSON, &spec));
    }
    let all = all.into_iter().map(|step| acting(subject, step).cleanup());
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_about_everything_after_what_decides_is_there() {
        let all = cases();
        assert_eq!(all.len(), 2 * SUBJECTS.len() - 1);
        let questions = NAMESPACES.len() * (RESOURCES.len() * VERBS.len() + SPECIAL.len());
        for case in &all {
            let waits = case.steps.iter().filter(|step| step.until_allowed).count();
            assert_eq!(waits, 4, "{}", case.name);
        }
        assert!(all[0].steps.len() > questions + PATHS.len() * 3);
    }

    #[test]
    fn a_question_names_group_resource_subresource_and_name() {
        let asked = attributes("get", "deployments.apps/scale d", "n");
        let wanted = json!({"resourceAttributes": {
            "verb": "get", "group": "apps", "version": "v1", "resource": "deployments",
            "subresource": "scale", "name": "d", "namespace": "n",
        }});
        assert_eq!(asked, wanted);
    }
}
