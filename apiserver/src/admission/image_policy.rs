//! `ImagePolicyWebhook`: a server is asked whether the images of a pod may run.
//!
//! Its answers are remembered for a while. Without an answer the configuration decides. Containers that
//! debug a pod are asked about, too (CVE-2023-2727). Upstream: `plugin/pkg/admission/imagepolicy`.

use std::path::Path;
use std::time::{Duration, Instant};

use component::recent::Recent;
use parking_lot::Mutex;
use proto::catalogue::names as n;
use proto::{NameId, Value, meta};
use resources::status::Failure;
use ring::digest;
use serde::Deserialize;
use serde_json::{Map, json};

use super::config::{Refused, read_bare};
use super::{Around, Attributes, Plugin, WRITES};
use crate::server::Server;
use crate::webhook::{self, Review, Webhook};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "ImagePolicyWebhook",
    operations: WRITES,
    configure: Some(|state, told, around| {
        state.images = Some(Policy::open(told, around)?);
        Ok(())
    }),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const NOTE: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Marks a pod that runs because nobody could be asked.
const FAILED_OPEN: &str = "alpha.image-policy.k8s.io/failed-open";
/// Annotations that the server is told.
const TOLD: &str = ".image-policy.k8s.io/";
/// Answers that are remembered.
const ANSWERS: usize = 1024;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    image_policy: Settings,
}

/// Whole numbers; 0 stands for the default, -1 for none.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Settings {
    kube_config_file: String,
    /// In seconds.
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    /// In milliseconds.
    retry_backoff: i64,
    default_allow: bool,
}

/// The server that is asked.
pub(super) struct Policy {
    hook: Webhook,
    allowed_for: Duration,
    denied_for: Duration,
    /// What holds without an answer.
    allow: bool,
    known: Mutex<Recent<Digest, (Instant, Status)>>,
}

type Digest = [u8; 32];

#[derive(Deserialize, Clone, Default, Debug)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    allowed: bool,
    reason: String,
    audit_annotations: std::collections::BTreeMap<String, String>,
}

impl Policy {
    fn open(told: Option<&[u8]>, around: &Around<'_>) -> Result<Self, Refused> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        const SECOND: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_secs(60);
        let file: Configuration = read_bare(told.ok_or(Refused::Missing)?)?;
        let of = file.image_policy;
        let backoff = (MILLISECOND / 1_000_000, 5 * MINUTE);
        let remembered = (SECOND, 30 * MINUTE);
        let wait = within(of.retry_backoff, MILLISECOND, backoff, MILLISECOND * 500)?;
        let allowed_for = within(of.allow_ttl, SECOND, remembered, 5 * MINUTE)?;
        let denied_for = within(of.deny_ttl, SECOND, remembered, SECOND * 30)?;
        let kubeconfig = Path::new(&of.kube_config_file);
        let hook = Webhook::open(kubeconfig, webhook::TIMEOUT, around.tasks, around.metrics)?;
        Ok(Self {
            hook: hook.waiting(wait),
            allowed_for,
            denied_for,
            allow: of.default_allow,
            known: Mutex::new(Recent::new(ANSWERS)),
        })
    }

    async fn ask(&self, spec: &serde_json::Value) -> Result<Status, webhook::Error> {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, spec.to_string().as_bytes()).as_ref());
        let known = self.known.lock().get(&key).cloned();
        if let Some((_, status)) = known.filter(|(until, _)| *until > Instant::now()) {
            return Ok(status);
        }
        let review = Review {
            api_version: "imagepolicy.k8s.io/v1alpha1",
            kind: "ImageReview",
            spec,
        };
        let answer = self.hook.ask(&review, |_| {}).await?;
        let status = answer.get("status").cloned().unwrap_or_default();
        let status: Option<Status> =
            serde_json::from_value(status).map_err(|e| webhook::Error::Answer {
                expected: "ImageReview".to_owned(),
                problem: e.to_string(),
            })?;
        let status = status.unwrap_or_default();
        let remembered = if status.allowed {
            self.allowed_for
        } else {
            self.denied_for
        };
        let until = Instant::now() + remembered;
        self.known.lock().insert(key, (until, status.clone()));
        Ok(status)
    }
}

/// A figure of the configuration as a time.
fn within(
    given: i64,
    unit: Duration,
    (least, most): (Duration, Duration),
    otherwise: Duration,
) -> Result<Duration, Refused> {
    match given {
        -1 => return Ok(Duration::ZERO),
        0 => return Ok(otherwise),
        _ => {}
    }
    let nanos = |of: Duration| i64::try_from(of.as_nanos()).unwrap_or(i64::MAX);
    let given = nanos(unit).saturating_mul(given);
    if (nanos(least)..=nanos(most)).contains(&given) {
        return Ok(Duration::from_nanos(given.unsigned_abs()));
    }
    let shown = |of: Duration| proto::time::Duration(nanos(of));
    Err(Refused::OutOfRange {
        least: shown(least),
        most: shown(most),
        given: proto::time::Duration(given),
    })
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let kinds: &[NameId] = match write.subresource {
        "" => &[n::CONTAINERS, n::INIT_CONTAINERS],
        "ephemeralcontainers" => &[n::EPHEMERAL_CONTAINERS],
        _ => return Ok(()),
    };
    let Some(policy) = &server.admission.state.images else {
        return Ok(());
    };
    let Some(pod) = write.object.as_deref().filter(|_| write.is_any("", "pods")) else {
        return Ok(());
    };
    let spec = spec(pod, kinds, write.namespace);
    let status = match policy.ask(&spec).await {
        Ok(status) => status,
        Err(error) if policy.allow => {
            tracing::debug!(%error, "Images are allowed, as the webhook gives no answer");
            write.annotate(&format!("{NOTE}failed-open"), "true");
            if let Some(pod) = write.object.as_deref_mut() {
                meta::set_annotation(pod, FAILED_OPEN, "true");
            }
            return Ok(());
        }
        Err(error) => return Err(write.forbid(&error.to_string())),
    };
    for (key, value) in &status.audit_annotations {
        write.annotate(&format!("{NOTE}{key}"), value);
    }
    refusal(&status).map_or(Ok(()), |why| Err(write.forbid(&why)))
}

/// What is asked about a pod.
fn spec(pod: &Value, kinds: &[NameId], namespace: &str) -> serde_json::Value {
    let lists = kinds.iter().filter_map(|kind| pod.at(&[n::SPEC, *kind]));
    let containers = lists.filter_map(Value::as_list).flatten();
    let image = |container: &Value| container.get(n::IMAGE)?.as_str().map(str::to_owned);
    let containers: Vec<serde_json::Value> = containers
        .map(|container| match image(container) {
            Some(image) if !image.is_empty() => json!({ "image": image }),
            _ => json!({}),
        })
        .collect();
    let annotations: Map<String, serde_json::Value> = meta::annotations(pod)
        .iter()
        .filter(|(key, _)| key.as_str().contains(TOLD))
        .map(|(key, value)| (key.as_str().to_owned(), value.as_str().into()))
        .collect();
    let mut spec = Map::new();
    if !containers.is_empty() {
        spec.insert("containers".to_owned(), containers.into());
    }
    if !annotations.is_empty() {
        spec.insert("annotations".to_owned(), annotations.into());
    }
    spec.insert("namespace".to_owned(), namespace.into());
    spec.into()
}

fn refusal(status: &Status) -> Option<String> {
    match (status.allowed, status.reason.as_str()) {
        (true, _) => None,
        (false, "") => Some("one or more images rejected by webhook backend".to_owned()),
        (false, reason) => Some(format!(
            "image policy webhook backend denied one or more images: {reason}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    #[test]
    fn a_server_is_told_of_images_and_of_what_is_meant_for_it() {
        let pod = pod(
            r#"{"metadata":{"annotations":{"a.image-policy.k8s.io/ticket":"1","b":"2"}},
                "spec":{"containers":[{"name":"a","image":"x"}],"initContainers":[{"name":"i","image":"y"}],
                "ephemeralContainers":[{"name":"d","image":"z"}]}}"#,
        );
        assert_eq!(
            spec(&pod, &[n::CONTAINERS, n::INIT_CONTAINERS], "ns"),
            json!({
                "containers": [{"image": "x"}, {"image": "y"}],
                "annotations": {"a.image-policy.k8s.io/ticket": "1"},
                "namespace": "ns",
            })
        );
        let debug = spec(&pod, &[n::EPHEMERAL_CONTAINERS], "ns");
        assert_eq!(debug["containers"], json!([{"image": "z"}]));
    }

    #[test]
    fn figures_stand_for_times_within_bounds() {
        const SECOND: Duration = Duration::from_secs(1);
        let time = |given| {
            let bounds = (SECOND, 1800 * SECOND);
            within(given, SECOND, bounds, 300 * SECOND).map_err(|e| e.to_string())
        };
        assert_eq!(time(0), Ok(300 * SECOND));
        assert_eq!(time(-1), Ok(Duration::ZERO));
        assert_eq!(time(1800), Ok(1800 * SECOND));
        let said = "valid value is between 1s and 30m0s, got 30m1s";
        assert_eq!(time(1801), Err(said.to_owned()));
        assert!(time(-2).is_err() && time(i64::MAX).is_err());
    }

    #[test]
    fn a_refusal_tells_the_servers_reason() {
        let of = |allowed, reason: &str| {
            refusal(&Status {
                allowed,
                reason: reason.to_owned(),
                ..Status::default()
            })
        };
        assert_eq!(of(true, "why"), None);
        assert!(of(false, "").unwrap().starts_with("one or more images"));
        assert!(
            of(false, "old")
                .unwrap()
                .ends_with("denied one or more images: old")
        );
    }
}
