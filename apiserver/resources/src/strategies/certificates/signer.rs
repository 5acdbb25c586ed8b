//! Names of signers, such as `example.com/signer-name`: `ValidateSignerName` in
//! `pkg/apis/core/validation`.

use proto::meta::names;
use proto::path::{Errors, Spot, quote};

const LONGEST_DOMAIN: usize = 253;
/// A namespace, a dot, and the name of an object.
const LONGEST_PATH: usize = 253 + 63 + 1;

pub(in crate::strategies) fn signer(e: &mut Errors<'_>, at: Spot<'_>, signer: &str) {
    if signer.is_empty() {
        return e.required(at, "");
    }
    let (domain, path) = match signer.split_once('/') {
        Some((domain, path)) if !path.contains('/') => (domain, path),
        _ => {
            let detail =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            return e.invalid(at, signer, detail);
        }
    };
    if domain.len() > LONGEST_DOMAIN {
        e.too_long(at, LONGEST_DOMAIN);
    }
    labels(e, at, domain, names::dns_label_problems);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        e.invalid(at, domain, detail);
    }
    labels(e, at, path, names::dns_subdomain_problems);
    let longest = LONGEST_DOMAIN + LONGEST_PATH + 1;
    if signer.len() > longest {
        e.too_long(at, longest);
    }
}

/// The first label that is wrong.
fn labels(e: &mut Errors<'_>, at: Spot<'_>, text: &str, check: fn(&str) -> Vec<String>) {
    let found = text.split('.').map(|label| (label, check(label)));
    let mut wrong = found.filter(|(_, problems)| !problems.is_empty());
    if let Some((label, problems)) = wrong.next() {
        for problem in problems {
            let detail = format!("validating label {}: {problem}", quote(label));
            e.invalid(at, text, detail);
        }
    }
}
