//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::convert::Infallible;
use std::path::PathBuf;

use bytes::Bytes;
use component::serving::{Body, Response, text};
use component::supervisor::chain;
use component::{Supervisor, Task};
use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::request::Query;
use crate::logs::{self, Options};
use crate::runtime::Runtime;
use std::sync::Arc;

/// Pieces that were read and not sent yet.
const PIECES: usize = 2;

/// What a client asks for, and whether it asks for the container before the present one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) options: Options,
    pub(super) previous: bool,
}

/// Why a query is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bad {
    Query,
    Value,
}

impl Bad {
    pub(super) fn answer(self) -> Response {
        match self {
            Self::Query => text(
                StatusCode::BAD_REQUEST,
                "{\"message\": \"Unable to decode query.\"}",
            ),
            Self::Value => text(
                StatusCode::UNPROCESSABLE_ENTITY,
                "{\"message\": \"Invalid request.\"}",
            ),
        }
    }
}

/// Reads the parameters of `PodLogOptions`.
pub(super) fn asked(query: &Query, now: Timestamp) -> Result<Asked, Bad> {
    let tail = match query.get("tail") {
        Some("all") => None,
        Some(tail) if !tail.is_empty() => Some(number(tail)?),
        _ => optional(query, "tailLines")?,
    };
    let limit = optional(query, "limitBytes")?;
    let since_seconds = optional(query, "sinceSeconds")?;
    let since_time: Option<Timestamp> = match query.get("sinceTime").filter(|t| !t.is_empty()) {
        Some(time) => Some(time.parse().map_err(|_| Bad::Query)?),
        None => None,
    };
    let stream = query.get("stream").unwrap_or("All");
    if tail.is_some_and(|tail| tail < 0)
        || limit.is_some_and(|limit| limit < 1)
        || since_seconds.is_some_and(|seconds| seconds < 1)
        || (since_seconds.is_some() && since_time.is_some())
        || !matches!(stream, "All" | "Stdout" | "Stderr")
        || (stream != "All" && tail.is_some())
    {
        return Err(Bad::Value);
    }
    let since = match since_seconds {
        Some(seconds) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        None => since_time,
    };
    let positive = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
    Ok(Asked {
        options: Options {
            tail: positive(tail),
            limit: positive(limit),
            since,
            timestamps: flag(query, "timestamps"),
            follow: flag(query, "follow"),
            stdout: stream != "Stderr",
            stderr: stream != "Stdout",
        },
        previous: flag(query, "previous"),
    })
}

fn number(text: &str) -> Result<i64, Bad> {
    text.parse().map_err(|_| Bad::Query)
}

fn optional(query: &Query, name: &str) -> Result<Option<i64>, Bad> {
    match query.get(name).filter(|text| !text.is_empty()) {
        Some(text) => number(text).map(Some),
        None => Ok(None),
    }
}

/// As upstream converts strings of queries: everything that is there and does not say no is true.
fn flag(query: &Query, name: &str) -> bool {
    query
        .get(name)
        .is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
}

/// The id of the container whose log is meant.
pub(super) fn container_id(pod: &Pod, container: &str, previous: bool) -> Result<String, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = status_of(pod, container) else {
        return Err(format!(
            "container {container:?} in pod {name:?} is not available"
        ));
    };
    let state = status.state.clone().unwrap_or_default();
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let last_id = last.map(|t| t.container_id.clone().unwrap_or_default());
    let waiting = |why: &str| {
        Err(format!(
            "container {container:?} in pod {name:?} is waiting to start: {why}"
        ))
    };
    let terminated = || {
        Err(format!(
            "container {container:?} in pod {name:?} is terminated"
        ))
    };
    let some = |id: Option<String>| id.filter(|id| !id.is_empty());
    let id = if previous {
        some(last_id).ok_or_else(|| {
            format!("previous terminated container {container:?} in pod {name:?} not found")
        })?
    } else if state.running.is_some() {
        status.container_id.clone().unwrap_or_default()
    } else if let Some(ended) = state.terminated {
        match some(ended.container_id).or(some(last_id)) {
            Some(id) => id,
            None => return terminated(),
        }
    } else if last.is_some() {
        match some(last_id) {
            Some(id) => id,
            None => return terminated(),
        }
    } else if let Some(state) = state.waiting {
        return match state.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => waiting("image can't be pulled"),
            "ImagePullBackOff" => waiting("trying and failing to pull image"),
            reason => waiting(reason),
        };
    } else {
        return Err(format!(
            "container {container:?} in pod {name:?} is waiting to start - no logs yet"
        ));
    };
    // `navarch://ID`
    Ok(id.rsplit("://").next().unwrap_or_default().to_owned())
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
    .find(|status| status.name == container)
}

/// The log as it is read.
pub(super) async fn answer(
    runtime: Arc<dyn Runtime>,
    id: String,
    options: Options,
    tasks: &Supervisor,
) -> Response {
    let path: Option<PathBuf> = match runtime.container_status(&id).await {
        Ok(status) => status.log_path,
        Err(error) => {
            tracing::debug!(error = %chain(&error), container = id, "No status for a log");
            let reason = format!("unable to retrieve container logs for navarch://{id}");
            return text(StatusCode::BAD_REQUEST, reason);
        }
    };
    let (to, pieces) = mpsc::channel::<Bytes>(PIECES);
    tasks.spawn(Task::Worker, "container-log", async move {
        let Some(path) = path else { return };
        if let Err(error) = logs::send(runtime, &id, path, options, to.clone()).await {
            tracing::error!(error = %error, container = id, "Cannot read a log");
            // The answer has begun: its end is the only place left to say so.
            let _ = to.send(error.to_string().into()).await;
        }
    });
    let frames = futures::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), pieces))
    });
    let body: Body = StreamBody::new(frames.boxed())
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = http::Response::new(body);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Asked, Bad> {
        asked(
            &Query::parse(query),
            "2026-11-28T10:00:10Z".parse().unwrap(),
        )
    }

    #[test]
    fn parameters_are_those_of_pod_log_options() {
        let all = ask("").unwrap();
        assert_eq!((all.options, all.previous), (Options::default(), false));
        let some =
            ask("tailLines=5&limitBytes=9&sinceSeconds=10&timestamps=true&follow=true&previous=1")
                .unwrap();
        assert!(some.previous);
        let expected = Options {
            tail: Some(5),
            limit: Some(9),
            since: Some("2026-11-28T10:00:00Z".parse().unwrap()),
            timestamps: true,
            follow: true,
            ..Options::default()
        };
        assert_eq!(some.options, expected);
        assert_eq!(ask("tail=all&tailLines=4").unwrap().options.tail, None);
        assert_eq!(ask("tail=3").unwrap().options.tail, Some(3));
        let stderr = ask("stream=Stderr").unwrap().options;
        assert!(stderr.stderr && !stderr.stdout);
        assert!(!ask("follow=false").unwrap().options.follow);
    }

    #[test]
    fn bad_parameters_are_told_apart_from_bad_values() {
        for query in ["tailLines=x", "limitBytes=1.5", "sinceTime=yesterday"] {
            assert_eq!(ask(query), Err(Bad::Query), "{query}");
        }
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-11-28T10:00:10Z",
            "stream=Stdin",
            "stream=Stdout&tailLines=1",
        ] {
            assert_eq!(ask(query), Err(Bad::Value), "{query}");
        }
        assert!(ask("sinceSeconds=9223372036854775807").is_ok());
    }

    fn pod(status: serde_json::Value) -> Pod {
        proto::typed::from_json_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "status": {"containerStatuses": [status]},
        }))
        .unwrap()
    }

    #[test]
    fn the_container_is_the_one_that_has_a_log() {
        let mut status = serde_json::json!({
            "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1,
            "containerID": "navarch://now",
            "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "containerID": "navarch://before"}},
        });
        let id = |status: &serde_json::Value, previous| {
            container_id(&pod(status.clone()), "c", previous)
        };
        assert_eq!(id(&status, false).unwrap(), "now");
        assert_eq!(id(&status, true).unwrap(), "before");
        status["state"] = serde_json::json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(id(&status, false).unwrap(), "before");
        status["lastState"] = serde_json::json!({});
        assert_eq!(
            id(&status, false).unwrap_err(),
            "container \"c\" in pod \"web\" is waiting to start: CrashLoopBackOff"
        );
        assert_eq!(
            id(&status, true).unwrap_err(),
            "previous terminated container \"c\" in pod \"web\" not found"
        );
        let none = container_id(&pod(status), "other", false);
        assert_eq!(
            none.unwrap_err(),
            "container \"other\" in pod \"web\" is not available"
        );
    }
}
