//! What an ingress must be: `ValidateIngress*` in `pkg/apis/networking/validation`.

use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::TypedLocalObjectReference;
use proto::view::networking_v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressTLS,
};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::rules;

pub(super) const CLASS: &str = "kubernetes.io/ingress.class";
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

/// What a stored ingress had wrong already and a new one may have, too.
#[derive(Clone, Copy, Default)]
struct Lenient {
    secret_names: bool,
    rules_of_wildcards: bool,
}

/// `ValidateIngressCreate`.
pub(super) fn create(object: &Value, e: &mut Errors<'_>) {
    ingress(object, Lenient::default(), e);
    let class = Ingress::of(Node::new(object)).spec().ingress_class_name();
    if let (Some(annotation), Some(class)) = (meta::annotation(object, CLASS), class)
        && annotation != class
    {
        // Upstream's path leaves out the metadata.
        let field = format!("annotations.{CLASS}");
        let detail = "must match `ingressClassName` when both are specified";
        e.push(FieldError::invalid(field, annotation, detail));
    }
}

/// `ValidateIngressUpdate`.
pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let spec = Ingress::of(Node::new(old)).spec();
    let mut secrets = spec.tls().iter();
    let mut of_wildcards = spec.rules().iter().filter(|rule| rule.host().contains('*'));
    let lenient = Lenient {
        secret_names: secrets.any(|tls| !secret_problems(tls.secret_name()).is_empty()),
        rules_of_wildcards: of_wildcards.any(|rule| rules::breaks(|e| paths(e, rule))),
    };
    ingress(new, lenient, e);
}

/// `ValidateIngressStatusUpdate`.
pub(super) fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let balancer = |object| Ingress::of(Node::new(object)).status().load_balancer();
    let old: Vec<&str> = balancer(old).ingress().iter().map(|i| i.ip()).collect();
    for ingress in balancer(new).ingress() {
        let at = Spot::of(ingress);
        if !ingress.ip().is_empty() {
            rules::legacy_ip(e, at.field(n::IP), ingress.ip(), &old);
        }
        let host = ingress.hostname();
        if !host.is_empty() {
            rules::each(e, ingress, n::HOSTNAME, names::dns_subdomain_problems(host));
            if address::parse(host).is_some() {
                e.invalid(at.field(n::HOSTNAME), host, NO_ADDRESS);
            }
        }
    }
}

fn ingress(object: &Value, lenient: Lenient, e: &mut Errors<'_>) {
    let spec = Ingress::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    if spec.rules().is_empty() && spec.default_backend().is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        e.invalid(at, rules::json(spec.node().get(n::RULES)), detail);
    }
    if let Some(of) = spec.default_backend() {
        backend(e, of);
    }
    for of in spec.rules() {
        rule(e, of, lenient);
    }
    for of in spec.tls() {
        tls(e, of, lenient);
    }
    if let Some(class) = spec.ingress_class_name() {
        let problems = names::subdomain_name(class, false);
        rules::each(e, spec, n::INGRESS_CLASS_NAME, problems);
    }
}

fn rule(e: &mut Errors<'_>, rule: IngressRule<'_>, lenient: Lenient) {
    let (host, at) = (rule.host(), Spot::of(rule).field(n::HOST));
    let wildcard = host.contains('*');
    if !host.is_empty() {
        if address::parse(host).is_some() {
            e.invalid(at, host, NO_ADDRESS);
        }
        e.invalid_each(at, host, host_problems(host));
    }
    if !(wildcard && lenient.rules_of_wildcards) {
        paths(e, rule);
    }
}

fn host_problems(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::wildcard_dns_subdomain_problems(host)
    } else {
        names::dns_subdomain_problems(host)
    }
}

fn paths(e: &mut Errors<'_>, rule: IngressRule<'_>) {
    let Some(http) = rule.http() else { return };
    if http.paths().is_empty() {
        e.required(Spot::of(http).field(n::PATHS), "");
    }
    for of in http.paths() {
        path(e, of);
    }
}

fn path(e: &mut Errors<'_>, path: HTTPIngressPath<'_>) {
    const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    const ENDS: [&str; 2] = ["/..", "/."];
    const ABSOLUTE: &str = "must be an absolute path";
    let (text, at) = (path.path(), Spot::of(path).field(n::PATH));
    let Some(kind) = path.path_type() else {
        let detail = "pathType must be specified";
        return e.required(Spot::of(path).field(n::PATH_TYPE), detail);
    };
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                e.invalid(at, text, ABSOLUTE);
            }
            for sequence in SEQUENCES.iter().filter(|s| text.contains(**s)) {
                e.invalid(at, text, format!("must not contain '{sequence}'"));
            }
            for end in ENDS.iter().filter(|s| text.ends_with(**s)) {
                e.invalid(at, text, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                e.invalid(at, text, ABSOLUTE);
            }
        }
        other => e.not_supported(
            Spot::of(path).field(n::PATH_TYPE),
            Named(other),
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    backend(e, path.backend());
}

fn backend(e: &mut Errors<'_>, backend: IngressBackend<'_>) {
    let at = Spot::of(backend);
    match (backend.resource(), backend.service()) {
        (Some(_), Some(_)) => {
            e.invalid(at, "", "cannot set both resource and service backends");
        }
        (Some(of), None) => resource(e, of),
        (None, Some(of)) => service(e, at, of),
        (None, None) => e.invalid(at, "", "resource or service backend is required"),
    }
}

fn service(e: &mut Errors<'_>, backend: Spot<'_>, service: IngressServiceBackend<'_>) {
    if rules::required(e, service, n::NAME) {
        let problems = names::label_name(service.name(), false);
        rules::each(e, service, n::NAME, problems);
    }
    let port = service.port();
    match (port.name(), port.number()) {
        ("", 0) => e.required(backend, "port name or number is required"),
        ("", _) => rules::port(e, port, n::NUMBER),
        (name, 0) => rules::each(e, port, n::NAME, names::port_name_problems(name)),
        _ => e.invalid(backend, "", "cannot set both port name & port number"),
    }
}

/// `validateIngressTypedLocalObjectReference`.
fn resource(e: &mut Errors<'_>, resource: TypedLocalObjectReference<'_>) {
    if let Some(group) = resource.api_group() {
        let problems = names::dns_subdomain_problems(group);
        rules::each(e, resource, n::API_GROUP, problems);
    }
    for field in [n::KIND, n::NAME] {
        if rules::required(e, resource, field) {
            let problems = names::path_segment_problems(resource.node().str(field));
            rules::each(e, resource, field, problems);
        }
    }
}

fn tls(e: &mut Errors<'_>, tls: IngressTLS<'_>, lenient: Lenient) {
    for host in tls.hosts() {
        let text = host.as_str().unwrap_or_default();
        e.invalid_each(Spot::node(host), text, host_problems(text));
    }
    if !lenient.secret_names {
        let problems = secret_problems(tls.secret_name());
        rules::each(e, tls, n::SECRET_NAME, problems);
    }
}

fn secret_problems(name: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    names::subdomain_name(name, false)
}
