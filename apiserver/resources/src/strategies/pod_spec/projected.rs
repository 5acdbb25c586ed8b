//! The sources of a projected volume: one kind each, complete, and no path twice.
//!
//! Upstream: `validateProjectionSources` in `pkg/apis/core/validation`.

use std::collections::HashSet;

use proto::Map;
use proto::NameId;
use proto::catalogue::{messages, names as n};
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::Node;

use super::Options;
use super::files::{downward_file, key_to_path, local_path, user};
use super::volumes::{at, need};
use crate::shown::Internal;
use crate::strategies::certificates;

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
/// Keys and values of what a client tells a signer, together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Where files go, to find two with one path.
struct Paths<'s, 'a> {
    volume: Spot<'s>,
    taken: HashSet<&'a str>,
}

impl<'a> Paths<'_, 'a> {
    /// Takes a path, or says of the volume that it has it twice.
    fn take(&mut self, e: &mut Errors<'_>, path: &'a str, shown: &str) {
        if !self.taken.insert(path) {
            e.invalid(self.volume, shown, "conflicting duplicate paths");
        }
    }

    fn take_if_given(&mut self, e: &mut Errors<'_>, path: &'a str, shown: &str) {
        if !path.is_empty() {
            self.take(e, path, shown);
        }
    }
}

pub(super) fn sources(e: &mut Errors<'_>, volume: Node<'_>, options: &Options<'_>) {
    let mut paths = Paths {
        volume: at(volume),
        taken: HashSet::new(),
    };
    for source in volume.items(n::SOURCES).iter().map(Node::new) {
        let of = |name: NameId| source.get(name).map(Node::new);
        for kind in [n::SECRET, n::CONFIG_MAP] {
            if let Some(object) = of(kind) {
                named(e, object, &mut paths);
            }
        }
        if let Some(downward) = of(n::DOWNWARD_API) {
            for file in downward.items(n::ITEMS).iter().map(Node::new) {
                downward_file(e, file, at(downward));
                let path = file.str(n::PATH);
                paths.take_if_given(e, path, path);
            }
        }
        if let Some(token) = of(n::SERVICE_ACCOUNT_TOKEN) {
            self::token(e, token, at(volume), options);
        }
        if let Some(bundle) = of(n::CLUSTER_TRUST_BUNDLE) {
            self::bundle(e, bundle);
            let path = bundle.str(n::PATH);
            paths.take(e, path, path);
        }
        if let Some(certificate) = of(n::POD_CERTIFICATE) {
            self::certificate(e, certificate, &mut paths);
        }
        let kinds = source.map().into_iter().flat_map(Map::iter);
        if kinds.filter(|(_, v)| !v.is_null()).count() > 1 {
            let detail = "may not specify more than 1 volume type per source";
            e.forbidden(at(source), detail);
        }
    }
}

/// A ConfigMap or Secret, and some of its keys.
fn named<'a>(e: &mut Errors<'_>, object: Node<'a>, paths: &mut Paths<'_, 'a>) {
    need(e, object, n::NAME);
    for item in object.items(n::ITEMS).iter().map(Node::new) {
        key_to_path(e, item);
        paths.take_if_given(e, item.str(n::PATH), object.str(n::NAME));
    }
}

/// Upstream says of the volume what is wrong with the path.
fn token(e: &mut Errors<'_>, token: Node<'_>, volume: Spot<'_>, options: &Options<'_>) {
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
    let path = token.str(n::PATH);
    if path.is_empty() {
        e.required(volume.field(n::PATH), "");
    } else if !options.kept.token_path_that_leaves {
        local_path(e, volume.field(n::PATH), path);
    }
    user(e, token, n::USER);
}

fn bundle(e: &mut Errors<'_>, bundle: Node<'_>) {
    let spot = at(bundle);
    match (bundle.opt_str(n::NAME), bundle.opt_str(n::SIGNER_NAME)) {
        (Some(_), Some(_)) => {
            let shown = Internal(
                Some(bundle.value()),
                messages::core_v1::CLUSTER_TRUST_BUNDLE_PROJECTION,
            );
            e.invalid(spot, shown, "only one of name and signerName may be used");
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
            if let Some(selector) = bundle.get(n::LABEL_SELECTOR) {
                let shown = Internal(Some(selector), messages::meta_v1::LABEL_SELECTOR);
                let detail = "labelSelector must be unset if name is specified";
                e.invalid(spot.field(n::LABEL_SELECTOR), shown, detail);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                let detail = "must be a valid signer name";
                e.required(spot.field(n::SIGNER_NAME), detail);
            }
            certificates::signer(e, spot.field(n::SIGNER_NAME), signer);
            if let Some(selector) = bundle.get(n::LABEL_SELECTOR) {
                validate_label_selector(selector, SelectorRules::default(), e);
            }
        }
        (None, None) => e.required(spot, "either name or signerName must be specified"),
    }
    need(e, bundle, n::PATH);
    user(e, bundle, n::USER);
    local_path(e, spot.field(n::PATH), bundle.str(n::PATH));
}

fn certificate<'a>(e: &mut Errors<'_>, certificate: Node<'a>, paths: &mut Paths<'_, 'a>) {
    let spot = at(certificate);
    let signer = certificate.str(n::SIGNER_NAME);
    certificates::signer(e, spot.field(n::SIGNER_NAME), signer);
    told(
        e,
        certificate.dict(n::USER_ANNOTATIONS),
        spot.field(n::USER_ANNOTATIONS),
    );
    user(e, certificate, n::USER);
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
        let path = certificate.str(field);
        if !path.is_empty() {
            local_path(e, spot.field(field), path);
            paths.take(e, path, path);
        }
    }
    if files.iter().all(|field| certificate.str(*field).is_empty()) {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        e.required(spot, detail);
    }
}

/// What a client tells the signer: keys with a prefix, and not too much of it.
pub fn told(e: &mut Errors<'_>, annotations: &Map, at: Spot<'_>) {
    let mut size = 0;
    for (key, value) in annotations.iter() {
        let text = key.as_str().to_lowercase();
        size += key.as_str().len() + value.as_str().map_or(0, str::len);
        if text.is_empty() {
            e.required(at, "");
            continue;
        }
        let problems = names::label_key_problems(&text);
        if problems.is_empty() && !text.contains('/') {
            let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            e.invalid(at, text.as_str(), detail);
        }
        e.invalid_each(at, text.as_str(), problems);
    }
    if size > MAX_ANNOTATIONS {
        e.too_long(at, MAX_ANNOTATIONS);
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
        sources(&mut errors, Node::new(&value), &Options::default());
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
