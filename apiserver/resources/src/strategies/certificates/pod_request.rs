//! What requests for the certificates of pods must be: `ValidatePodCertificateRequest*` in
//! `pkg/apis/certificates/validation` (KEP-4317).
//!
//! Whoever changes a status must be allowed to sign for the signer; that is not asked for here.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Reason, Spot};
use proto::view::certificates_v1beta1::{PodCertificateRequest, PodCertificateRequestSpec};
use proto::view::{Node, View};
use proto::{NameId, Value};

use super::keys::{self, Key};
use crate::rules;
use crate::shown::Internal;
use crate::strategies::pod_spec::projected;

const SHORTEST: i64 = 60 * 60;
const LONGEST: i64 = 91 * 24 * 60 * 60;
const LONGEST_OF_KUBERNETES: i64 = 24 * 60 * 60;
/// Bytes of a key, of a signature, and of a request.
const LARGEST: usize = 10 << 10;
const LONGEST_UID: usize = 128;

fn spec(object: &Value) -> PodCertificateRequestSpec<'_> {
    PodCertificateRequest::of(Node::new(object)).spec()
}

/// An error that shows no value.
pub(super) fn wrong(e: &mut Errors<'_>, at: Spot<'_>, detail: &str) {
    e.add(Reason::Invalid, at, String::new(), detail);
}

pub(super) fn create(object: &Value, e: &mut Errors<'_>) {
    let spec = spec(object);
    let at = Spot::of(spec);
    super::signer(e, at.field(n::SIGNER_NAME), spec.signer_name());
    projected::told(
        e,
        spec.unverified_user_annotations(),
        at.field(n::UNVERIFIED_USER_ANNOTATIONS),
    );
    for (name, uid) in [
        (n::POD_NAME, n::POD_UID),
        (n::SERVICE_ACCOUNT_NAME, n::SERVICE_ACCOUNT_UID),
        (n::NODE_NAME, n::NODE_UID),
    ] {
        identity(e, spec, name, uid);
    }
    let Some(seconds) = spec.max_expiration_seconds() else {
        return e.required(at.field(n::MAX_EXPIRATION_SECONDS), "must be set");
    };
    let longest = if is_of_kubernetes(spec.signer_name()) {
        LONGEST_OF_KUBERNETES
    } else {
        LONGEST
    };
    if !(SHORTEST..=longest).contains(&seconds) {
        let detail = format!("must be in the range [{SHORTEST}, {longest}]");
        e.invalid(at.field(n::MAX_EXPIRATION_SECONDS), seconds, detail);
    }
    let given = |field| spec.node().opt_bytes(field).filter(|b| !b.is_empty());
    match (
        given(n::STUB_PKCS10_REQUEST),
        given(n::PKIX_PUBLIC_KEY),
        given(n::PROOF_OF_POSSESSION),
    ) {
        (Some(request), None, None) => stub(e, spec, request),
        (None, Some(key), Some(proof)) => possession(e, spec, key, proof),
        _ => {
            let detail = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            wrong(e, at, detail);
        }
    }
}

fn identity(e: &mut Errors<'_>, spec: PodCertificateRequestSpec<'_>, name: NameId, uid: NameId) {
    let problems = names::subdomain_name(spec.node().str(name), false);
    rules::each(e, spec, name, problems);
    let (at, text) = (Spot::of(spec).field(uid), spec.node().str(uid));
    if text.is_empty() {
        e.invalid(at, text, "must not be empty");
    }
    if text.len() > LONGEST_UID {
        e.too_long(at, LONGEST_UID);
    }
}

/// `IsKubernetesSignerName`.
fn is_of_kubernetes(signer: &str) -> bool {
    let host = signer.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// A request that says nothing but whose key it is.
fn stub(e: &mut Errors<'_>, spec: PodCertificateRequestSpec<'_>, request: &[u8]) {
    let at = Spot::of(spec).field(n::STUB_PKCS10_REQUEST);
    if request.len() > LARGEST {
        return e.too_long(at, LARGEST);
    }
    let Some(request) = keys::Request::parse(request) else {
        return wrong(e, at, "must be a valid PKCS#10 CSR");
    };
    let of = "elliptic public keys must use curve P256, P384, or P521";
    if usable(e, at, None, &request.key(), of) && !request.is_signed() {
        wrong(e, at, "invalid signature");
    }
}

/// A key, and the name of the pod signed with it.
fn possession(e: &mut Errors<'_>, spec: PodCertificateRequestSpec<'_>, key: &[u8], proof: &[u8]) {
    let field = |field| Spot::of(spec).field(field);
    for (bytes, name) in [(key, n::PKIX_PUBLIC_KEY), (proof, n::PROOF_OF_POSSESSION)] {
        if bytes.len() > LARGEST {
            return e.too_long(field(name), LARGEST);
        }
    }
    let at = field(n::PKIX_PUBLIC_KEY);
    let shown = spec.node().get(n::PKIX_PUBLIC_KEY);
    let Some(key) = Key::parse(key) else {
        let detail = "must be a valid PKIX-serialized public key";
        return e.invalid(at, rules::json(shown), detail);
    };
    let of = "elliptic public keys must use curve P256 or P384";
    if usable(e, at, shown, &key, of) && !key.verifies(spec.pod_uid().as_bytes(), proof) {
        let detail = "could not verify proof-of-possession signature";
        wrong(e, field(n::PROOF_OF_POSSESSION), detail);
    }
}

/// Whether a key is of a kind that is strong enough.
fn usable(
    e: &mut Errors<'_>,
    at: Spot<'_>,
    shown: Option<&Value>,
    key: &Key,
    curves: &str,
) -> bool {
    match key {
        Key::Ed25519(_) | Key::P256(_) | Key::P384(_) | Key::P521(_) => return true,
        Key::Curve(name) => e.invalid(at, format!("curve {name}"), curves),
        Key::Rsa {
            bits: 3072 | 4096, ..
        } => return true,
        Key::Rsa { bits, .. } => {
            let detail = "RSA keys must have modulus size 3072 or 4096";
            e.invalid(at, format!("{bits}-bit modulus"), detail);
        }
        Key::Other => {
            let detail = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
            match shown {
                Some(shown) => e.invalid(at, rules::json(Some(shown)), detail),
                None => wrong(e, at, detail),
            }
        }
    }
    false
}

/// Only metadata change.
pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    if !crate::equal::same_at(new, old, &[n::SPEC]) {
        let now = spec(new);
        e.invalid(Spot::of(now), Internal::of(now), rules::IMMUTABLE);
    }
}
