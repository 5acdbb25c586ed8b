//! What bundles of trust anchors must be: `ValidateClusterTrustBundle*` in
//! `pkg/apis/certificates/validation`.

use std::collections::BTreeMap;

use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::certificates_v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use proto::view::{Node, View};
use proto::{Value, meta};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::pem;
use crate::{metadata, rules};

/// Bytes.
const LARGEST: usize = 1 << 20;
const HIDDEN: &str = "<value omitted>";

fn spec(object: &Value) -> ClusterTrustBundleSpec<'_> {
    ClusterTrustBundle::of(Node::new(object)).spec()
}

/// An update that leaves the anchors as they are does not parse them again.
pub(super) fn bundle(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let (now, was) = (spec(object), old.map(spec));
    let check = |name: &str, prefix| name_problems(name, prefix, now.signer_name());
    meta::validate_object_meta(object, false, check, e);
    metadata::finalizers(object, e);
    let at = Spot::of(now);
    if !now.signer_name().is_empty() {
        super::signer(e, at.field(n::SIGNER_NAME), now.signer_name());
    }
    if was.is_none_or(|was| was.trust_bundle() != now.trust_bundle()) {
        anchors(e, at.field(n::TRUST_BUNDLE), now.trust_bundle());
    }
    if was.is_some_and(|was| was.signer_name() != now.signer_name()) {
        e.invalid(
            at.field(n::SIGNER_NAME),
            now.signer_name(),
            rules::IMMUTABLE,
        );
    }
}

/// The bundle of a signer begins with the signer's name (`/` is `:`), any other has no colon.
fn name_problems(name: &str, prefix: bool, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            let rule = "ClusterTrustBundle without signer name must not have \":\" in its name";
            return vec![rule.into()];
        }
        return meta::names::subdomain_name(name, prefix);
    }
    let begin = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(begin.as_str()) {
        Some(rest) => meta::names::subdomain_name(rest, prefix),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {begin}"
        )],
    }
}

/// `validateTrustBundle`.
fn anchors(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    if text.len() > LARGEST {
        return e.too_long(at, LARGEST);
    }
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut sound = true;
    for (i, block) in pem::blocks(text).enumerate() {
        if let Some(problem) = problem(&block) {
            sound = false;
            e.invalid(at, HIDDEN, format!("entry {i} {problem}"));
        } else {
            places.entry(block.contents).or_default().push(i);
        }
    }
    if !sound {
        return;
    }
    if places.is_empty() {
        e.invalid(at, HIDDEN, "at least one trust anchor must be provided");
    }
    let mut twice: Vec<&Vec<usize>> = places.values().filter(|at| at.len() > 1).collect();
    twice.sort();
    for indices in twice {
        let indices: Vec<String> = indices.iter().map(usize::to_string).collect();
        let detail = format!("duplicate trust anchor (indices [{}])", indices.join(" "));
        e.invalid(at, HIDDEN, detail);
    }
}

fn problem(block: &pem::Block<'_>) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".into());
    }
    match X509Certificate::from_der(&block.contents) {
        Ok(([], certificate)) => {
            (!certificate.is_ca()).then(|| "does not have the CA bit set".into())
        }
        _ => Some("does not parse as X.509".into()),
    }
}
