//! Logs of a container: one GET at its kubelet, streamed as it comes.

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use proto::path::{FieldError, Reason, quote};
use proto::view::core_v1::Pod;
use proto::view::{Node, View};
use resources::request::Query;
use resources::status::{Details, Failure};

use super::{kubelet, location, read_pod, websocket};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::kubelet::Trust;
use crate::registry::Endpoint;

/// Streams that can be asked for.
const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// `PodLogOptions`, in the words of the kubelet.
struct Options {
    container: String,
    /// The client trusts whatever kubelet answers.
    insecure: bool,
    query: Vec<(&'static str, String)>,
}

pub(super) async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
) -> Result<Response<Body>, Failure> {
    let options = options(&x.query, &x.info.name)?;
    let object = read_pod(x, endpoint).await?;
    let pod = Pod::of(Node::new(&object));
    let container = location::container(&options.container, pod)?;
    let node = pod.spec().node_name();
    if node.is_empty() {
        let mut nothing = Response::new(body::full(Vec::new()));
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    }
    let mut target = kubelet(x, node).await?;
    if options.insecure {
        target.trust = Trust::AnyKubelet;
    }
    let (namespace, name) = (pod.metadata().namespace(), pod.metadata().name());
    let path = format!("/containerLogs/{namespace}/{name}/{container}");
    let path = location::with_query(&path, &options.query);
    let request = http::Request::get(path.clone())
        .header(header::HOST, target.authority())
        .body(body::full(Vec::new()))
        .map_err(Failure::internal)?;
    let problem = |e: &dyn std::fmt::Display| {
        Failure::internal(format!("Get \"https://{}{path}\": {e}", target.authority()))
    };
    let mut sender = x
        .server
        .kubelets
        .connect(&target)
        .await
        .map_err(|e| problem(&e))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| problem(&e))?;
    let (head, incoming) = response.into_parts();
    if head.status.as_u16() >= 300 {
        return Err(refused(head.status.as_u16(), incoming, &x.info.name).await);
    }
    let log = incoming.map_err(Into::into).boxed_unsync();
    Ok(match websocket::wanted(x) {
        Some(end) => websocket::bytes(x, end, log),
        None => body::answer(200, "text/plain", log),
    })
}

/// How much of a kubelet's refusal is shown.
const MAX_REFUSAL: usize = 100_000;

/// What the kubelet said instead of a log, as upstream's checker of answers words it.
async fn refused(code: u16, incoming: hyper::body::Incoming, name: &str) -> Failure {
    let text = match http_body_util::Limited::new(incoming, MAX_REFUSAL)
        .collect()
        .await
    {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    let text = text.trim_end();
    match code {
        300..400 => Failure::internal("redirects are not followed to kubelets"),
        400 => Failure::bad_request(text),
        404 => Failure::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource ( pods/log {name})"),
        )
        .with_details(Details {
            name: name.into(),
            kind: "pods/log".into(),
            ..Details::default()
        }),
        500 => Failure::internal(text),
        503 => Failure::unavailable(text),
        _ => Failure::new(
            code,
            "Unknown",
            format!(
                "the server responded with the status code {code} but did not return more information: {text}"
            ),
        ),
    }
}

/// Reads and checks the options: `ValidatePodLogOptions`.
fn options(query: &Query, name: &str) -> Result<Options, Failure> {
    let mut errors = Vec::new();
    let mut sent: Vec<(&'static str, String)> = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag).unwrap_or(false) {
            sent.push((flag, "true".to_owned()));
        }
    }
    let since = given(query, "sinceSeconds");
    let since_time = given(query, "sinceTime");
    let rules = [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ];
    for (field, least, detail) in rules {
        let Some(text) = given(query, field) else {
            continue;
        };
        let number: i64 = text.parse().map_err(|_| location::number(text))?;
        if number < least {
            let shown = number.to_string();
            errors.push(FieldError::new(Reason::Invalid, field, shown, detail));
        }
        sent.push((field, number.to_string()));
    }
    if since.is_some() && since_time.is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::new(
            Reason::Forbidden,
            "[]",
            String::new(),
            detail,
        ));
    }
    sent.extend(since_time.map(|time| ("sinceTime", time.to_owned())));
    let stream = given(query, "stream").unwrap_or("All");
    if !STREAMS.contains(&stream) {
        let detail = format!("supported values: {}", STREAMS.map(quote).join(", "));
        errors.push(FieldError::new(
            Reason::NotSupported,
            "stream",
            quote(stream),
            detail,
        ));
    }
    if stream != "All" && given(query, "tailLines").is_some() {
        let detail = "`tailLines` and specific `stream` are mutually exclusive for now";
        errors.push(FieldError::new(
            Reason::Forbidden,
            "",
            String::new(),
            detail,
        ));
    }
    sent.push(("stream", stream.to_owned()));
    if !errors.is_empty() {
        return Err(Failure::invalid("", "PodLogOptions", name, &errors));
    }
    Ok(Options {
        container: query.get("container").unwrap_or_default().to_owned(),
        insecure: query.flag("insecureSkipTLSVerifyBackend").unwrap_or(false),
        query: sent,
    })
}

/// A parameter that is not empty.
fn given<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.get(name).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Options, Failure> {
        let uri: http::Uri = format!("/?{query}").parse().expect("a uri");
        options(&Query::parse(&uri), "p")
    }

    #[test]
    fn options_are_sent_in_the_words_of_the_kubelet() {
        let o = read("follow=true&tailLines=0&sinceTime=2026-01-02T03:04:05Z&container=c")
            .unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(o.container, "c");
        let path = location::with_query("/l", &o.query);
        assert_eq!(
            path,
            "/l?follow=true&tailLines=0&sinceTime=2026-01-02T03%3A04%3A05Z&stream=All"
        );
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z",
            "stream=Both",
            "stream=Stdout&tailLines=3",
        ] {
            assert_eq!(
                read(query).map(|_| ()).map_err(|f| f.code()),
                Err(422),
                "{query}"
            );
        }
        assert_eq!(
            read("tailLines=x").map(|_| ()).map_err(|f| f.code()),
            Err(400)
        );
    }
}
