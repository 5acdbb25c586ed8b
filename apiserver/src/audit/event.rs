//! An event: what is written down of a request at one of its stages (`audit.k8s.io/v1`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use proto::path::quote;
use resources::request::RequestInfo;
use serde::Serialize;
use serde_json::Value;

use super::policy::{Level, Stage};
use crate::auth::User;
use crate::chain::Exchange;

/// Upstream's, in bytes.
const MAX_USER_AGENT: usize = 1024;
/// Says that the bodies of an event were dropped, because it was too large.
const TRUNCATED: &str = "audit.k8s.io/truncated";
/// How an event begins that stands by itself. Members of a list do not say what they are.
const HEAD: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;

/// What is known of a request so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) level: Level,
    #[serde(rename = "auditID")]
    id: String,
    pub(super) stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    #[serde(serialize_with = "micro_time")]
    pub(super) request_received_timestamp: SystemTime,
    #[serde(serialize_with = "micro_time")]
    pub(super) stage_timestamp: SystemTime,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Default, Debug, Serialize)]
struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for UserInfo {
    fn from(user: &User) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationMetadata {
    impersonation_constraint: String,
}

/// What a request is about; fields that are not known are left out.
#[derive(Clone, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl From<&RequestInfo> for ObjectReference {
    fn from(info: &RequestInfo) -> Self {
        Self {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..Self::default()
        }
    }
}

/// How a request was answered: the code alone, or a `Status` without its metadata.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Status {
    pub(super) metadata: Empty,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<Value>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) code: u16,
}

#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Empty {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn micro_time<S: serde::Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let (seconds, nanos) = since_epoch(*at);
    to.serialize_str(&proto::time::print_micro_time(seconds, nanos))
}

/// Seconds and nanoseconds.
fn since_epoch(at: SystemTime) -> (i64, i32) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos)
}

impl Event {
    /// What the head of a request says. The user is known once he is authenticated.
    #[must_use]
    pub(super) fn new(x: &Exchange, user: Option<&User>, level: Level) -> Self {
        let uri = x.uri.path_and_query().map_or("/", |p| p.as_str());
        Self {
            level,
            id: x.audit_id.clone(),
            stage: Stage::RequestReceived,
            request_uri: uri.to_owned(),
            verb: x.info.verb.clone(),
            user: user.map(UserInfo::from).unwrap_or_default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(&x.headers, x.connection.peer.ip().to_canonical()),
            user_agent: user_agent(&x.headers),
            object_ref: x.info.is_resource.then(|| (&x.info).into()),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: x.received,
            stage_timestamp: x.received,
            annotations: BTreeMap::new(),
        }
    }

    /// Who is asked as, and under which constraint.
    pub(super) fn impersonates(&mut self, user: &User, constraint: &str) {
        self.impersonated_user = Some(user.into());
        if !constraint.is_empty() {
            self.authentication_metadata = Some(AuthenticationMetadata {
                impersonation_constraint: constraint.to_owned(),
            });
        }
    }

    /// Takes from a body what the path does not say.
    pub(super) fn refer_to(&mut self, object: &proto::Value) {
        let Some(about) = &mut self.object_ref else {
            return;
        };
        for (known, found) in [
            (&mut about.namespace, proto::meta::namespace(object)),
            (&mut about.name, proto::meta::name(object)),
            (&mut about.uid, proto::meta::uid(object)),
            (
                &mut about.resource_version,
                proto::meta::resource_version(object),
            ),
        ] {
            if known.is_empty() {
                found.clone_into(known);
            }
        }
    }

    /// Says something about the request. What was said first stays.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        match self.annotations.get(key) {
            Some(said) if said != value => {
                tracing::warn!(key, value, said, "an audit annotation is already there");
            }
            Some(_) => {}
            None => {
                self.annotations.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    /// As JSON, a member of a list. Too large a one goes without bodies; none if it is too large even
    /// then.
    #[must_use]
    pub(super) fn to_json(&self, max: Option<usize>) -> Option<Vec<u8>> {
        let mut json = serde_json::to_vec(self).ok()?;
        // As it is by itself, on a line of its own.
        let too_large = |json: &Vec<u8>| max.is_some_and(|max| HEAD.len() + json.len() > max);
        if too_large(&json) && self.level >= Level::Request {
            let mut bare = Self {
                request_object: None,
                response_object: None,
                ..self.clone()
            };
            bare.annotations
                .insert(TRUNCATED.to_owned(), "true".to_owned());
            json = serde_json::to_vec(&bare).ok()?;
        }
        (!too_large(&json)).then_some(json)
    }

    /// The same by itself, on a line of its own.
    #[must_use]
    pub(super) fn to_line(&self, max: Option<usize>) -> Option<Vec<u8>> {
        let json = self.to_json(max)?;
        let mut line = Vec::with_capacity(HEAD.len() + json.len());
        line.extend_from_slice(HEAD);
        line.extend_from_slice(json.get(1..)?);
        line.push(b'\n');
        Some(line)
    }

    /// As one line of text, upstream's legacy format.
    #[must_use]
    pub(super) fn to_text(&self) -> Vec<u8> {
        let list = |groups: &[String]| {
            groups
                .iter()
                .map(|g| quote(g))
                .collect::<Vec<_>>()
                .join(",")
        };
        let or = |text: &str, none: &str| quote(if text.is_empty() { none } else { text });
        let user = &self.user;
        let groups = if user.username.is_empty() || user.groups.is_empty() {
            "<none>".to_owned()
        } else {
            list(&user.groups)
        };
        let (acting, acting_groups) = match &self.impersonated_user {
            None => ("<self>", "<lookup>".to_owned()),
            Some(user) if user.groups.is_empty() => (&*user.username, "<lookup>".to_owned()),
            Some(user) => (&*user.username, list(&user.groups)),
        };
        let namespace = self.object_ref.as_ref().map_or("", |o| &o.namespace);
        let ip = self.source_ips.first().map(ToString::to_string);
        let response = match &self.response_status {
            None => "<deferred>".to_owned(),
            Some(status) => status.code.to_string(),
        };
        let mut line = nano_time(self.request_received_timestamp);
        let _ = writeln!(
            line,
            " AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} uri={} response=\"{response}\"",
            quote(&self.id),
            quote(self.stage.name()),
            or(ip.as_deref().unwrap_or_default(), "<unknown>"),
            quote(&self.verb),
            or(&user.username, "<none>"),
            quote(&groups),
            quote(acting),
            quote(&acting_groups),
            quote(&self.user_agent),
            or(namespace, "<none>"),
            quote(&self.request_uri),
        );
        line.into_bytes()
    }
}

/// RFC 3339 with as many digits below a second as it needs.
fn nano_time(at: SystemTime) -> String {
    let (seconds, nanos) = since_epoch(at);
    let mut text = proto::time::print_time(seconds);
    if nanos > 0 {
        text.pop();
        let digits = format!("{nanos:09}");
        let _ = write!(text, ".{}Z", digits.trim_end_matches('0'));
    }
    text
}

fn user_agent(headers: &HeaderMap) -> String {
    let given = headers.get(http::header::USER_AGENT);
    let given = String::from_utf8_lossy(given.map_or(&[], |v| v.as_bytes()));
    if given.len() <= MAX_USER_AGENT {
        return given.into_owned();
    }
    let end = given.floor_char_boundary(MAX_USER_AGENT);
    format!("{}...TRUNCATED", &given[..end])
}

/// Where a request comes from: what proxies say of it, then the other end of the connection.
fn source_ips(headers: &HeaderMap, peer: IpAddr) -> Vec<IpAddr> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let forwarded = text("x-forwarded-for").unwrap_or_default().split(',');
    let mut ips: Vec<IpAddr> = forwarded.filter_map(|ip| ip.trim().parse().ok()).collect();
    if let Some(real) = text("x-real-ip").and_then(|ip| ip.parse().ok())
        && !ips.contains(&real)
    {
        ips.push(real);
    }
    if ips.last() != Some(&peer) {
        ips.push(peer);
    }
    ips
}

#[cfg(test)]
pub(super) mod tests;
