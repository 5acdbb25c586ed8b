//! From a certificate to one that is trusted: Go's `Certificate.Verify` (`crypto/x509/verify.go`).
//!
//! A chain goes by names and signatures, trusted certificates first. Whether one that is complete holds for
//! the usage and the names is asked at its end; another may hold where one does not.

use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};

use super::certificate::Certificate;
use super::untrusted::{Hint, Time};
use super::{Untrusted, Usage, constraints, names};

/// How many candidates are looked at before it is given up: Go's figure.
const MOST_CHECKS: usize = 100;

pub(super) fn verify(
    leaf: &Certificate,
    pool: &[Certificate],
    trusted: &[Arc<Certificate>],
    usage: Usage,
    name: Option<&ServerName<'_>>,
    now: UnixTime,
) -> Result<(), Untrusted> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    valid(leaf, now)?;
    if let Some(name) = name {
        names::verify(leaf, name)?;
    }
    if trusted.iter().any(|c| c.is(leaf)) {
        return holds(&[leaf], usage);
    }
    let mut search = Search {
        pool,
        trusted,
        usage,
        now,
        checks: 0,
        failed: Vec::new(),
    };
    let searched = search.extend(&mut vec![leaf]);
    searched.map_err(|unfinished| search.worst(unfinished))
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Trusted,
    Intermediate,
}

struct Search<'a> {
    pool: &'a [Certificate],
    trusted: &'a [Arc<Certificate>],
    usage: Usage,
    now: i64,
    checks: usize,
    /// Why complete chains do not hold.
    failed: Vec<Untrusted>,
}

impl<'a> Search<'a> {
    /// Looks for a chain that holds and starts as this one does.
    fn extend(&mut self, chain: &mut Vec<&'a Certificate>) -> Result<(), Untrusted> {
        let Some(&child) = chain.last() else {
            return Err(Untrusted::UnknownAuthority(None));
        };
        let (mut refused, mut hint) = (None, None);
        let trusted = self.trusted.iter().map(|c| (Role::Trusted, &**c));
        let pool = self.pool.iter().map(|c| (Role::Intermediate, c));
        for (role, candidate) in trusted.chain(pool) {
            if !child.names_as_issuer(candidate) {
                continue;
            }
            self.checks += 1;
            if self.checks > MOST_CHECKS {
                return Err(Untrusted::SignatureLimit);
            }
            if chain.iter().any(|c| c.is_akin_to(candidate)) {
                continue;
            }
            let signed = child.check_signature_from(candidate);
            let fits = signed.and_then(|()| {
                let fits = can_be_next(candidate, role, chain.len(), self.now);
                fits.inspect_err(|why| refused = Some(why.clone()))
            });
            if let Err(because) = fits {
                hint.get_or_insert_with(|| Hint {
                    because,
                    candidate: candidate.called().to_owned(),
                });
                continue;
            }
            chain.push(candidate);
            let found = match role {
                Role::Trusted => holds(chain, self.usage),
                Role::Intermediate => self.extend(chain),
            };
            chain.pop();
            match (found, role) {
                (Ok(()), _) => return Ok(()),
                (Err(why), Role::Trusted) => self.failed.push(why),
                (Err(Untrusted::SignatureLimit), _) => return Err(Untrusted::SignatureLimit),
                (Err(why), Role::Intermediate) => refused = Some(why),
            }
        }
        Err(refused.unwrap_or_else(|| Untrusted::UnknownAuthority(hint.map(Box::new))))
    }

    /// What is told of all that was found: names before usages before policies, and complete chains before
    /// those that lead nowhere.
    fn worst(self, unfinished: Untrusted) -> Untrusted {
        let rank = |why: &Untrusted| match why {
            Untrusted::Constrained(_) => 0,
            Untrusted::IncompatibleUsage => 1,
            _ => 2,
        };
        self.failed
            .into_iter()
            .min_by_key(rank)
            .unwrap_or(unfinished)
    }
}

/// Whether it may stand in a chain of certificates at all, now.
fn valid(certificate: &Certificate, now: i64) -> Result<(), Untrusted> {
    if certificate.critical_unknown {
        return Err(Untrusted::UnhandledCriticalExtension);
    }
    let (from, until) = certificate.valid;
    let expired = |side, bound| Untrusted::Expired {
        now: Time(now),
        side,
        bound: Time(bound),
    };
    if now < from {
        return Err(expired("before", from));
    }
    if now > until {
        return Err(expired("after", until));
    }
    Ok(())
}

/// Whether it may follow in a chain of `length` certificates, the first of which is nobody's authority.
fn can_be_next(
    candidate: &Certificate,
    role: Role,
    length: usize,
    now: i64,
) -> Result<(), Untrusted> {
    valid(candidate, now)?;
    let (is_authority, over) = candidate.authority.unwrap_or((false, None));
    if role == Role::Intermediate && !is_authority {
        return Err(Untrusted::NotAuthorizedToSign);
    }
    let between = length.saturating_sub(1);
    match over {
        Some(most) if usize::try_from(most).is_ok_and(|most| between > most) => {
            Err(Untrusted::TooManyIntermediates)
        }
        _ => Ok(()),
    }
}

/// Whether a complete chain, the trusted certificate last, is good for the usage and the names in it.
fn holds(chain: &[&Certificate], usage: Usage) -> Result<(), Untrusted> {
    let below = chain.len().saturating_sub(1);
    if chain[..below].iter().any(|c| c.demands_policies) {
        return Err(Untrusted::Policies);
    }
    if !chain.iter().all(|c| c.is_for(usage)) {
        return Err(Untrusted::IncompatibleUsage);
    }
    constraints::check(chain)
}
