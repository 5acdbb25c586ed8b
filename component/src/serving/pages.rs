//! `/flagz` and `/statusz`: what a process was started with, and which process it is.
//!
//! KEP-4828 and KEP-4827; upstream's `apiserver/pkg/server/{flagz,statusz}`. People get text that no
//! program should read, programs an object of `config.k8s.io` that they have to ask for by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, WARNING};
use serde_json::{Value, json};

use super::{Response, full, json as answer, text};
use crate::args::Args;
use crate::compatibility::EffectiveVersion;
use crate::features::Features;

const GROUP: &str = "config.k8s.io";
/// The newest first; all others are deprecated.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// First path segments that carry the API and say nothing about the process.
const API: [&str; 5] = ["/apis", "/api", "/openid", "/openapi", "/.well-known"];

/// What a process says of itself; cheap to clone.
#[derive(Clone)]
pub struct Pages {
    inner: Arc<Inner>,
}

struct Inner {
    daemon: &'static str,
    flags: BTreeMap<&'static str, String>,
    version: EffectiveVersion,
    /// The pages that there are.
    shown: Vec<&'static str>,
    /// Unix seconds.
    started: i64,
    since: Instant,
    paths: Vec<String>,
}

/// The pages, and their gates.
const GATED: &[(&str, &str)] = &[
    ("/flagz", "ComponentFlagz"),
    ("/statusz", "ComponentStatusz"),
];

/// In which form a page is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Text,
    Json(&'static str),
    Yaml(&'static str),
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pages").field(&self.inner.daemon).finish()
    }
}

impl Pages {
    /// Pages of a daemon that serves these paths and is started just now.
    #[must_use]
    pub fn new(daemon: &'static str, args: &Args, paths: &[&str]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        let inner = Inner {
            daemon,
            flags: args.all().collect(),
            version: EffectiveVersion::default(),
            started: i64::try_from(seconds).unwrap_or(i64::MAX),
            since: Instant::now(),
            shown: GATED.iter().map(|(path, _)| *path).collect(),
            paths: folders(
                paths
                    .iter()
                    .copied()
                    .chain(GATED.iter().map(|(path, _)| *path)),
            ),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The same of a daemon with these features, and of their version.
    #[must_use]
    pub fn of(mut self, features: &Features) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.version = features.version();
            for (path, _) in GATED.iter().filter(|(_, gate)| !features.enabled(gate)) {
                inner.shown.retain(|shown| shown != path);
                inner.paths.retain(|listed| listed != path);
            }
        }
        self
    }

    /// The paths of the pages that there are.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.inner.shown.iter().copied()
    }

    /// What the daemon is.
    #[must_use]
    pub fn version(&self) -> EffectiveVersion {
        self.inner.version
    }

    /// The answer, if the path is one of the two.
    #[must_use]
    pub fn answer<B>(&self, request: &http::Request<B>) -> Option<Response> {
        let path = request.uri().path();
        let (kind, page): (_, fn(&Inner) -> Page) = match path {
            "/flagz" => ("Flagz", Inner::flagz),
            "/statusz" => ("Statusz", Inner::statusz),
            _ => return None,
        };
        if !self.paths().any(|shown| shown == path) {
            return None;
        }
        let accept = request.headers().get(ACCEPT);
        let accept = accept.and_then(|v| v.to_str().ok()).unwrap_or_default();
        Some(match form(accept, kind) {
            Some(form) => self.inner.show(kind, &page(&self.inner), form),
            None => refusal(),
        })
    }
}

/// A page: for people, and the fields of its object.
struct Page {
    text: String,
    fields: Value,
}

impl Inner {
    fn flagz(&self) -> Page {
        let line = |(name, value): (&&str, &String)| format!("{name}: {value}\n");
        Page {
            text: self.flags.iter().map(line).collect(),
            fields: json!({"flags": self.flags}),
        }
    }

    fn statusz(&self) -> Page {
        let info = self.version.info();
        let binary = info.git_version.trim_start_matches('v');
        let emulated = format!("{}.{}", info.emulation_major, info.emulation_minor);
        let started = proto::time::print_time(self.started);
        let up = self.since.elapsed().as_secs();
        let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
        let paths = self.paths.join(" ");
        Page {
            text: format!(
                "\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
                 Go version: {}\nBinary version: {binary}\nEmulation version: {emulated}\n\
                 Paths: {paths}\n",
                info.go_version,
            ),
            fields: json!({
                "startTime": started,
                "uptimeSeconds": up,
                "goVersion": info.go_version,
                "binaryVersion": binary,
                "emulationVersion": emulated,
                "paths": self.paths,
            }),
        }
    }

    fn show(&self, kind: &str, page: &Page, form: Form) -> Response {
        let object = |version: &str| {
            let mut object = json!({
                "kind": kind,
                "apiVersion": format!("{GROUP}/{version}"),
                "metadata": {"name": self.daemon},
            });
            if let (Value::Object(object), Value::Object(fields)) = (&mut object, &page.fields) {
                object.extend(fields.clone());
            }
            object
        };
        let (mut response, version) = match form {
            Form::Text => {
                let text_of = format!(
                    "\n{} {}\nWarning: This endpoint is not meant to be machine parseable, has no \
                     formatting compatibility guarantees and is for debugging purposes only.\n{}",
                    self.daemon,
                    kind.to_lowercase(),
                    page.text,
                );
                return text(StatusCode::OK, text_of);
            }
            Form::Json(version) => (answer(StatusCode::OK, &object(version)), version),
            Form::Yaml(version) => {
                let mut yaml = Vec::new();
                proto::codec::yaml::from_json(object(version).to_string().as_bytes(), &mut yaml);
                (http::Response::new(full(yaml)), version)
            }
        };
        let media = match form {
            Form::Yaml(_) => "application/yaml",
            _ => "application/json",
        };
        let media = format!("{media};g={GROUP};v={version};as={kind}");
        if let Ok(media) = HeaderValue::from_str(&media) {
            response.headers_mut().insert(CONTENT_TYPE, media);
        }
        if version != VERSIONS[0] {
            let text = format!(
                "299 - \"This version of the {} endpoint is deprecated. Please use a newer version.\"",
                kind.to_lowercase(),
            );
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(WARNING, value);
            }
        }
        response
    }
}

/// The first segments of paths, once each.
fn folders<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut folders: Vec<String> = paths
        .filter_map(|path| path.split('/').nth(1).filter(|first| !first.is_empty()))
        .map(|first| format!("/{first}"))
        .filter(|folder| !API.contains(&folder.as_str()))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}

/// The form that an `Accept` header asks for, the first of the best ones.
fn form(accept: &str, kind: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    let mut wanted: Vec<(f32, &str)> = accept
        .split(',')
        .map(|clause| {
            let quality = parameter(clause, "q").and_then(|q| q.parse().ok());
            (quality.unwrap_or(1.0), clause)
        })
        .collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
    wanted.into_iter().find_map(|(_, clause)| one(clause, kind))
}

/// The form of one clause. An object has to be asked for by kind, version and group.
fn one(clause: &str, kind: &str) -> Option<Form> {
    let media = clause.split(';').next().unwrap_or_default().trim();
    let Some(asked) = parameter(clause, "as") else {
        return matches!(media, "text/plain" | "text/*" | "*/*").then_some(Form::Text);
    };
    let version = parameter(clause, "v")?;
    let version = VERSIONS.into_iter().find(|known| *known == version)?;
    if asked != kind || parameter(clause, "g") != Some(GROUP) {
        return None;
    }
    match media {
        "application/json" | "application/*" | "*/*" => Some(Form::Json(version)),
        "application/yaml" => Some(Form::Yaml(version)),
        _ => None,
    }
}

fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = clause.split(';').skip(1).filter_map(|p| p.split_once('='));
    pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}

fn refusal() -> Response {
    let message = "only the following media types are accepted: application/json, \
                   application/yaml, text/plain";
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "NotAcceptable", "code": 406,
    });
    answer(StatusCode::NOT_ACCEPTABLE, &status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Flag, Group};

    const SIZE: Flag<u16> = Flag::new("size", "3", "A number.");
    const NAME: Flag<String> = Flag::new("name", "", "A text.");

    fn pages() -> Pages {
        let group = Group::new("Own", &[&SIZE, &NAME]);
        let args = Args::parse("demo", "A demo.", &[group], ["--name=x"]).unwrap();
        Pages::new(
            "demo",
            &args,
            &["/healthz/ping", "/healthz", "/api/v1", "/"],
        )
    }

    #[test]
    fn a_page_whose_gate_is_off_is_not_there() {
        let features = Features::defaults();
        let features = features.with([("ComponentFlagz", false)]).unwrap();
        let (pages, request) = (pages().of(&features), |path| {
            http::Request::get(path).body(()).unwrap()
        });
        assert!(pages.answer(&request("/flagz")).is_none());
        assert!(pages.answer(&request("/statusz")).is_some());
        assert_eq!(pages.inner.paths, ["/healthz", "/statusz"]);
        assert_eq!(pages.paths().collect::<Vec<_>>(), ["/statusz"]);
    }

    async fn get(path: &str, accept: &str) -> (StatusCode, http::HeaderMap, String) {
        use http_body_util::BodyExt;
        let request = http::Request::get(path).header(ACCEPT, accept).body(());
        let response = pages().answer(&request.unwrap()).unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (head.status, head.headers, text)
    }

    #[test]
    fn an_object_has_to_be_asked_for_by_name() {
        let whole = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";
        for (accept, expected) in [
            ("", Some(Form::Text)),
            ("*/*", Some(Form::Text)),
            ("text/plain", Some(Form::Text)),
            ("application/json", None),
            (whole, Some(Form::Json("v1beta1"))),
            (
                "application/json;v=v1beta1;g=config.k8s.io;as=Statusz",
                None,
            ),
            ("application/json;v=v2;g=config.k8s.io;as=Flagz", None),
            (
                "application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz",
                Some(Form::Yaml("v1alpha1")),
            ),
            (
                "text/plain;q=0.1, application/json;v=v1beta1;g=config.k8s.io;as=Flagz;q=0.5",
                Some(Form::Json("v1beta1")),
            ),
            ("application/json, text/plain", Some(Form::Text)),
        ] {
            assert_eq!(form(accept, "Flagz"), expected, "{accept}");
        }
    }

    #[tokio::test]
    async fn flags_are_shown_with_their_defaults() {
        let (code, _, text) = get("/flagz", "").await;
        assert_eq!(code, StatusCode::OK);
        assert!(text.starts_with("\ndemo flagz\nWarning: "), "{text}");
        assert!(text.ends_with("name: x\nsize: 3\n"), "{text}");
        let (_, headers, text) = get(
            "/flagz",
            "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz",
        )
        .await;
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["apiVersion"], "config.k8s.io/v1alpha1");
        assert_eq!(object["flags"], json!({"name": "x", "size": "3"}));
        assert!(headers.contains_key(WARNING));
    }

    #[tokio::test]
    async fn a_status_names_the_process_and_its_paths() {
        let accept = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        let (_, headers, text) = get("/statusz", accept).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["metadata"]["name"], "demo");
        assert_eq!(object["paths"], json!(["/flagz", "/healthz", "/statusz"]));
        assert_eq!(object["binaryVersion"], &crate::version::KUBERNETES[1..]);
        assert!(!headers.contains_key(WARNING));
        let (code, _, text) = get("/statusz", "application/json").await;
        assert_eq!(code, StatusCode::NOT_ACCEPTABLE, "{text}");
    }
}
