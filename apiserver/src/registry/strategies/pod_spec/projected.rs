//! The sources of a projected volume: one kind each, complete, and no path twice.
//!
//! Upstream: `validateProjectionSources` in `pkg/apis/core/validation`.

use std::collections::HashSet;

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::ProjectedVolumeSource;
use proto::view::{Node, View};

use super::volumes::{local_path, mode};
use crate::registry::strategies::certificates;

const KEY_TYPES: [&str; 6] = [
    "RSA3072",
    "RSA4096",
    "ECDSAP256",
    "ECDSAP384",
    "ECDSAP521",
    "ED25519",
];
/// Seconds that a certificate lasts at least; at most, and if a signer of Kubernetes' own gives it.
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 91 * 24 * 3600;
const LONGEST_OF_KUBERNETES: i64 = 24 * 3600;
/// Where Kubernetes' own signers are.
const KUBERNETES: &str = "kubernetes.io";

/// Where files go, to find two with one path.
struct Paths<'s, 'a> {
    volume: Spot<'s>,
    taken: HashSet<&'a str>,
}

impl<'a> Paths<'_, 'a> {
    fn take(&mut self, e: &mut Errors<'_>, path: &'a str) {
        if !path.is_empty() && !self.taken.insert(path) {
            e.invalid(self.volume, path, "conflicting duplicate paths");
        }
    }
}

pub(super) fn sources(e: &mut Errors<'_>, volume: ProjectedVolumeSource<'_>) {
    let mut paths = Paths {
        volume: Spot::of(volume),
        taken: HashSet::new(),
    };
    for source in volume.node().items(n::SOURCES) {
        let node = Node::new(source);
        let kinds = node.map().into_iter().flat_map(proto::Map::iter);
        if kinds.filter(|(_, v)| !v.is_null()).count() > 1 {
            let detail = "may not specify more than 1 volume type per source";
            e.forbidden(Spot::node(source), detail);
        }
        let of = |name: NameId| node.get(name).filter(|v| !v.is_null()).map(Node::new);
        for kind in [n::SECRET, n::CONFIG_MAP] {
            if let Some(object) = of(kind) {
                named(e, object, &mut paths);
            }
        }
        if let Some(downward) = of(n::DOWNWARD_API) {
            for file in downward.items(n::ITEMS) {
                let file = Node::new(file);
                path(e, file, n::PATH, true);
                mode(e, file, n::MODE);
                paths.take(e, file.str(n::PATH));
            }
        }
        if let Some(token) = of(n::SERVICE_ACCOUNT_TOKEN) {
            self::token(e, token);
        }
        if let Some(bundle) = of(n::CLUSTER_TRUST_BUNDLE) {
            self::bundle(e, bundle);
            paths.take(e, bundle.str(n::PATH));
        }
        if let Some(certificate) = of(n::POD_CERTIFICATE) {
            self::certificate(e, certificate, &mut paths);
        }
    }
}

fn at(node: Node<'_>) -> Spot<'_> {
    Spot::node(node.value())
}

/// A path below the volume.
fn path(e: &mut Errors<'_>, node: Node<'_>, field: NameId, required: bool) {
    match node.str(field) {
        "" if required => e.required(at(node).field(field), ""),
        "" => {}
        path => local_path(e, at(node).field(field), path),
    }
}

/// A ConfigMap or Secret, and some of its keys.
fn named<'a>(e: &mut Errors<'_>, object: Node<'a>, paths: &mut Paths<'_, 'a>) {
    if object.str(n::NAME).is_empty() {
        e.required(at(object).field(n::NAME), "");
    }
    for item in object.items(n::ITEMS) {
        let item = Node::new(item);
        if item.str(n::KEY).is_empty() {
            e.required(at(item).field(n::KEY), "");
        }
        path(e, item, n::PATH, true);
        mode(e, item, n::MODE);
        paths.take(e, item.str(n::PATH));
    }
}

fn token(e: &mut Errors<'_>, token: Node<'_>) {
    let field = at(token).field(n::EXPIRATION_SECONDS);
    match token.opt_int(n::EXPIRATION_SECONDS) {
        None => e.required(field, ""),
        Some(seconds) if seconds < 600 => {
            let detail = "may not specify a duration less than 10 minutes";
            e.invalid(field, seconds, detail);
        }
        Some(seconds) if seconds > 1 << 32 => {
            let detail = "may not specify a duration larger than 2^32 seconds";
            e.invalid(field, seconds, detail);
        }
        Some(_) => {}
    }
    path(e, token, n::PATH, true);
}

fn bundle(e: &mut Errors<'_>, bundle: Node<'_>) {
    let spot = at(bundle);
    match (bundle.opt_str(n::NAME), bundle.opt_str(n::SIGNER_NAME)) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            e.invalid(spot, "<bundle>", detail);
        }
        (Some(name), None) => {
            let field = spot.field(n::NAME);
            if name.is_empty() {
                e.required(field, "must be a valid object name");
            }
            // `signer:domain:path:name` is a bundle of that signer.
            let own = name.rsplit(':').next().unwrap_or_default();
            for problem in names::dns_subdomain_problems(own) {
                let detail = format!("not a valid clustertrustbundlename: {problem}");
                e.invalid(field, name, detail);
            }
            if bundle.get(n::LABEL_SELECTOR).is_some_and(|s| !s.is_null()) {
                let detail = "labelSelector must be unset if name is specified";
                e.invalid(spot.field(n::LABEL_SELECTOR), "<selector>", detail);
            }
        }
        (None, Some(signer)) => certificates::signer(e, spot.field(n::SIGNER_NAME), signer),
        (None, None) => e.required(spot, "either name or signerName must be specified"),
    }
    path(e, bundle, n::PATH, true);
}

fn certificate<'a>(e: &mut Errors<'_>, certificate: Node<'a>, paths: &mut Paths<'_, 'a>) {
    let spot = at(certificate);
    let signer = certificate.str(n::SIGNER_NAME);
    certificates::signer(e, spot.field(n::SIGNER_NAME), signer);
    let key_type = certificate.str(n::KEY_TYPE);
    if !KEY_TYPES.contains(&key_type) {
        e.not_supported(spot.field(n::KEY_TYPE), key_type, &KEY_TYPES);
    }
    if let Some(seconds) = certificate.opt_int(n::MAX_EXPIRATION_SECONDS) {
        let field = spot.field(n::MAX_EXPIRATION_SECONDS);
        let domain = signer.split('/').next().unwrap_or_default();
        let of_kubernetes = domain == KUBERNETES || domain.ends_with(".kubernetes.io");
        let longest = if of_kubernetes {
            LONGEST_OF_KUBERNETES
        } else {
            LONGEST
        };
        if seconds < SHORTEST {
            let detail = format!("if provided, maxExpirationSeconds must be >= {SHORTEST}");
            e.invalid(field, seconds, detail);
        }
        if seconds > longest {
            let detail = format!("if provided, maxExpirationSeconds must be <= {longest}");
            e.invalid(field, seconds, detail);
        }
    }
    let files = [
        n::CREDENTIAL_BUNDLE_PATH,
        n::KEY_PATH,
        n::CERTIFICATE_CHAIN_PATH,
    ];
    for field in files {
        path(e, certificate, field, false);
        paths.take(e, certificate.str(field));
    }
    if files.iter().all(|field| certificate.str(*field).is_empty()) {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        e.required(spot, detail);
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1::PROJECTED_VOLUME_SOURCE;
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn problems(given: &str) -> Vec<String> {
        let text = format!(r#"{{"sources": [{given}]}}"#);
        let decoded = json::decode(text.as_bytes(), PROJECTED_VOLUME_SOURCE, Strictness::Strict);
        let value = decoded.expect("a volume").value;
        let mut errors = Errors::new(&value);
        let volume = ProjectedVolumeSource::of(Node::new(&value));
        sources(&mut errors, volume);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_certificate_lasts_as_long_as_its_signer_may_give_it() {
        let of = |signer: &str, seconds: i64| {
            problems(&format!(
                r#"{{"podCertificate": {{"signerName": "{signer}", "keyType": "ED25519", "keyPath": "k", "maxExpirationSeconds": {seconds}}}}}"#
            ))
        };
        for (signer, shortest, longest) in [
            ("example.com/a", 3600, 7_862_400),
            ("kubernetes.io/a", 3600, 86_400),
        ] {
            assert!(of(signer, shortest).is_empty() && of(signer, longest).is_empty());
            assert!(of(signer, shortest - 1)[0].contains("must be >= 3600"));
            assert!(of(signer, longest + 1)[0].contains(&format!("must be <= {longest}")));
        }
    }

    #[test]
    fn sources_are_complete_and_their_paths_are_their_own() {
        let cases = [
            (
                r#"{"configMap": {"name": "a", "items": [{"key": "k", "path": "x"}]}}"#,
                "",
            ),
            (
                r#"{"configMap": {"items": [{"key": "k", "path": "../x"}]}}"#,
                "name: Required value",
            ),
            (
                r#"{"secret": {"name": "a", "items": [{"key": "k", "path": "/x"}]}}"#,
                "must be a relative path",
            ),
            (
                r#"{"serviceAccountToken": {"expirationSeconds": 599, "path": "t"}}"#,
                "may not specify a duration less than 10 minutes",
            ),
            (
                r#"{"clusterTrustBundle": {"path": "b"}}"#,
                "either name or signerName must be specified",
            ),
            (
                r#"{"podCertificate": {"signerName": "a.b/c", "keyType": "DSA", "keyPath": "k"}}"#,
                "keyType: Unsupported value",
            ),
            (
                r#"{"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519"}}"#,
                "specify at least one of",
            ),
            (
                r#"{"secret": {"name": "a"}, "configMap": {"name": "b"}}"#,
                "may not specify more than 1 volume type per source",
            ),
            (
                r#"{"downwardAPI": {"items": [{"path": "x"}]}}, {"clusterTrustBundle": {"name": "n", "path": "x"}}"#,
                "conflicting duplicate paths",
            ),
        ];
        for (sources, problem) in cases {
            let found = problems(sources);
            if problem.is_empty() {
                assert!(found.is_empty(), "{sources}: {found:?}");
            } else {
                assert!(
                    found.iter().any(|f| f.contains(problem)),
                    "{sources}: {found:?}"
                );
            }
        }
    }
}
