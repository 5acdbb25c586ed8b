//! What is known of one certificate of a pod, and what comes next. Pure; times are Unix seconds.

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::pem;
use crate::volume::{Credentials, ObjectError};

/// A request that nobody has seen for so long was deleted.
const ABANDONED: i64 = 10 * 60;
/// A certificate is overdue so long after its renewal should have begun.
const OVERDUE: i64 = 10 * 60;
/// Requests are spread over so many seconds.
pub(super) const JITTER: i64 = 5 * 60;

/// A certificate of a pod: there, asked for, both (a renewal), or refused for ever.
#[derive(Default)]
pub(super) struct Record {
    held: Option<Held>,
    pending: Option<Pending>,
    refused: Option<Refusal>,
}

struct Held {
    credentials: Arc<Credentials>,
    refresh_at: i64,
    not_after: i64,
    told_overdue: bool,
    told_expired: bool,
}

/// A request that has no answer yet.
pub(super) struct Pending {
    /// The private key, in PEM.
    pub(super) key: String,
    /// The name of the request.
    pub(super) name: String,
    pub(super) created: i64,
}

#[derive(Clone)]
struct Refusal {
    /// `Denied` or `Failed`.
    outcome: &'static str,
    reason: String,
    message: String,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Make a key and a request for it.
    Ask,
    /// Nothing, until the request changes or until this time.
    Wait(Option<i64>),
}

/// What a look at a record found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) next: Next,
    /// Reasons and messages for the pod's events.
    pub(super) events: Vec<(&'static str, String)>,
    /// Whether the pod's files are other ones now.
    pub(super) changed: bool,
}

impl Record {
    /// The name of the request that has no answer yet.
    pub(super) fn request(&self) -> Option<&str> {
        self.pending.as_ref().map(|pending| pending.name.as_str())
    }

    /// The certificate that the pod has now, or none yet.
    pub(super) fn credentials(&self) -> Result<Option<Arc<Credentials>>, ObjectError> {
        if let Some(refusal) = &self.refused {
            let Refusal {
                outcome,
                reason,
                message,
            } = refusal;
            let outcome = outcome.to_ascii_lowercase();
            return Err(ObjectError::Failed(format!(
                "PodCertificateRequest was permanently {outcome}: reason={reason:?} \
                 message={message:?}"
            )));
        }
        Ok(self.held.as_ref().map(|held| Arc::clone(&held.credentials)))
    }

    /// As the metric calls it.
    pub(super) fn state(&self, now: i64) -> &'static str {
        match (&self.refused, &self.held) {
            (Some(refusal), _) if refusal.outcome == "Denied" => "denied",
            (Some(_), _) => "failed",
            (None, None) => "not_yet_issued",
            (None, Some(held)) if now > held.not_after => "expired",
            (None, Some(held)) if now > held.overdue_at() => "overdue_for_refresh",
            (None, Some(_)) => "fresh",
        }
    }

    /// A request was made.
    pub(super) fn asked(&mut self, pending: Pending) {
        self.pending = Some(pending);
    }

    /// Takes in how the request stands, if it is seen at all. `jitter` is up to [`JITTER`].
    pub(super) fn look(
        &mut self,
        request: Option<&PodCertificateRequest>,
        now: i64,
        jitter: i64,
    ) -> Found {
        let mut found = Found {
            next: Next::Wait(None),
            events: Vec::new(),
            changed: false,
        };
        if self.refused.is_some() {
            return found;
        }
        if let Some(pending) = self.pending.take() {
            match request.and_then(|request| Outcome::of(request, &pending, jitter)) {
                Some(Outcome::Issued(held)) => {
                    self.held = Some(held);
                    found.changed = true;
                }
                Some(Outcome::Refused(refusal)) => {
                    found.events.push(refusal.event(request, &pending.name));
                    *self = Self {
                        refused: Some(refusal),
                        ..Self::default()
                    };
                    found.changed = true;
                    return found;
                }
                None if request.is_none() && now > pending.abandoned_at(jitter) => {}
                None => self.pending = Some(pending),
            }
        }
        if let Some(held) = self.held.as_mut().filter(|held| now >= held.refresh_at) {
            held.complain(now, &mut found.events);
        }
        let is_due = self.held.as_ref().is_none_or(|h| now >= h.refresh_at);
        found.next = match &self.pending {
            None if is_due => Next::Ask,
            pending => {
                let unseen = pending.as_ref().filter(|_| request.is_none());
                let abandoned = unseen.map(|pending| pending.abandoned_at(jitter) + 1);
                let of_held = self.held.as_ref().and_then(|held| held.due(now));
                Next::Wait(abandoned.into_iter().chain(of_held).min())
            }
        };
        found
    }
}

impl Pending {
    const fn abandoned_at(&self, jitter: i64) -> i64 {
        self.created.saturating_add(ABANDONED + jitter)
    }
}

impl Held {
    const fn overdue_at(&self) -> i64 {
        self.refresh_at.saturating_add(OVERDUE)
    }

    fn complain(&mut self, now: i64, events: &mut Vec<(&'static str, String)>) {
        if now > self.overdue_at() && !std::mem::replace(&mut self.told_overdue, true) {
            let message = "PodCertificate refresh overdue".to_owned();
            events.push(("CertificateOverdueForRefresh", message));
        }
        if now > self.not_after && !std::mem::replace(&mut self.told_expired, true) {
            let message = "PodCertificate expired".to_owned();
            events.push(("CertificateExpired", message));
        }
    }

    /// The next time at which there is something to do or to say.
    fn due(&self, now: i64) -> Option<i64> {
        let times = [
            (self.refresh_at > now).then_some(self.refresh_at),
            (!self.told_overdue).then(|| self.overdue_at() + 1),
            (!self.told_expired).then(|| self.not_after + 1),
        ];
        times.into_iter().flatten().min()
    }
}

impl Refusal {
    fn event(&self, request: Option<&PodCertificateRequest>, name: &str) -> (&'static str, String) {
        let namespace = request.and_then(|r| r.metadata.namespace.as_deref());
        let namespace = namespace.unwrap_or_default();
        let said = match self.outcome {
            "Denied" => "was denied",
            _ => "failed",
        };
        let message = format!(
            "PodCertificateRequest {namespace}/{name} {said}, reason={:?}, message={:?}",
            self.reason, self.message
        );
        (self.outcome, message)
    }
}

/// How a request ended.
enum Outcome {
    Issued(Held),
    Refused(Refusal),
}

impl Outcome {
    fn of(request: &PodCertificateRequest, pending: &Pending, jitter: i64) -> Option<Self> {
        let status = request.status.as_ref()?;
        status.conditions.iter().flatten().find_map(|condition| {
            let refused = |outcome| {
                Self::Refused(Refusal {
                    outcome,
                    reason: condition.reason.clone(),
                    message: condition.message.clone(),
                })
            };
            match condition.type_.as_str() {
                "Denied" => Some(refused("Denied")),
                "Failed" => Some(refused("Failed")),
                "Issued" => {
                    let second =
                        |at: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                            at.map_or(i64::MAX, |at| at.0.as_second())
                        };
                    let chain = status.certificate_chain.as_deref().unwrap_or_default();
                    let begin = second(status.begin_refresh_at.as_ref());
                    Some(Self::Issued(Held {
                        credentials: Arc::new(Credentials {
                            key: pending.key.clone().into_bytes(),
                            chain: cleaned(chain),
                        }),
                        refresh_at: begin.saturating_add(jitter),
                        not_after: second(status.not_after.as_ref()),
                        told_overdue: false,
                        told_expired: false,
                    }))
                }
                _ => None,
            }
        })
    }
}

/// Only the certificates of a chain: no headers, and nothing between them.
fn cleaned(chain: &str) -> Vec<u8> {
    CertificateDer::pem_slice_iter(chain.as_bytes())
        .filter_map(Result::ok)
        .flat_map(|certificate| pem::certificate(&certificate).into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    fn pending(created: i64) -> Pending {
        Pending {
            key: "KEY".to_owned(),
            name: "req-1".to_owned(),
            created,
        }
    }

    fn request(kind: &str, refresh: i64, end: i64) -> PodCertificateRequest {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "req-1", "namespace": "ns"},
            "spec": {},
            "status": {
                "conditions": [{
                    "type": kind, "status": "True", "reason": "Why", "message": "so",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "certificateChain": format!("some text\n{CERTIFICATE}"),
                "beginRefreshAt": proto::time::print_time(refresh),
                "notAfter": proto::time::print_time(end),
            },
        }))
        .unwrap()
    }

    fn issued(refresh: i64, end: i64) -> Record {
        let mut record = Record::default();
        assert_eq!(record.look(None, 0, 0).next, Next::Ask);
        record.asked(pending(0));
        let found = record.look(Some(&request("Issued", refresh, end)), 1, 0);
        assert!(found.changed && found.events.is_empty());
        record
    }

    #[test]
    fn a_certificate_is_asked_for_and_renewed_when_its_signer_says() {
        let mut record = issued(1000, 5000);
        let held = record.credentials().unwrap().unwrap();
        assert_eq!(held.key, b"KEY");
        assert_eq!(held.chain, CERTIFICATE.as_bytes());
        assert_eq!(record.look(None, 2, 0).next, Next::Wait(Some(1000)));
        assert_eq!(record.look(None, 1000, 0).next, Next::Ask);
        record.asked(pending(1000));
        // The old one is used until the new one is there.
        assert!(record.credentials().unwrap().is_some());
        assert_eq!(record.look(None, 1001, 0).next, Next::Wait(Some(1601)));
        let found = record.look(Some(&request("Issued", 9000, 9900)), 1002, 40);
        assert!(found.changed);
        assert_eq!(found.next, Next::Wait(Some(9040)));
    }

    #[test]
    fn a_request_that_is_not_seen_for_long_is_made_again() {
        let mut record = Record::default();
        record.asked(pending(100));
        assert_eq!(record.look(None, 700, 0).next, Next::Wait(Some(701)));
        assert_eq!(record.look(None, 701, 60).next, Next::Wait(Some(761)));
        assert_eq!(record.look(None, 701, 0).next, Next::Ask);
        // One that is seen is waited for.
        record.asked(pending(100));
        let waiting = request("Other", 0, 0);
        assert_eq!(record.look(Some(&waiting), 9999, 0).next, Next::Wait(None));
    }

    #[test]
    fn a_refusal_is_for_ever_and_told_once() {
        for (kind, state) in [("Denied", "denied"), ("Failed", "failed")] {
            let mut record = Record::default();
            record.asked(pending(0));
            let found = record.look(Some(&request(kind, 0, 0)), 1, 0);
            assert_eq!(found.events.len(), 1);
            assert_eq!(found.events[0].0, kind);
            assert!(found.events[0].1.contains("ns/req-1"));
            let said = record.credentials().unwrap_err().to_string();
            assert_eq!(
                said,
                format!(
                    "PodCertificateRequest was permanently {state}: reason=\"Why\" message=\"so\""
                )
            );
            let again = record.look(None, 99_999, 0);
            assert!(again.events.is_empty() && again.next == Next::Wait(None));
            assert_eq!(record.state(99_999), state);
        }
    }

    #[test]
    fn a_renewal_that_does_not_come_is_told_when_overdue_and_when_expired() {
        let mut record = issued(1000, 5000);
        record.asked(pending(1000));
        let waiting = request("Other", 0, 0);
        let mut reasons = |now| {
            let found = record.look(Some(&waiting), now, 0);
            let reasons: Vec<_> = found.events.iter().map(|(reason, _)| *reason).collect();
            (reasons, found.next, record.state(now))
        };
        assert_eq!(reasons(1600), (vec![], Next::Wait(Some(1601)), "fresh"));
        let overdue = vec!["CertificateOverdueForRefresh"];
        assert_eq!(
            reasons(1601),
            (overdue, Next::Wait(Some(5001)), "overdue_for_refresh")
        );
        assert_eq!(
            reasons(5001),
            (vec!["CertificateExpired"], Next::Wait(None), "expired")
        );
        assert_eq!(reasons(6000), (vec![], Next::Wait(None), "expired"));
    }
}
