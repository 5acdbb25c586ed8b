//! ComponentStatuses: whether the scheduler, the controller manager and etcd are well, found out when somebody asks.
//!
//! Upstream: `pkg/registry/core/componentstatus`, deprecated since 1.19 (kubernetes/kubernetes#93570) and still what
//! `kubectl get componentstatuses` shows. The daemons are looked for where they are by default: on this host.

use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http::Response;
use http::header::{HOST, USER_AGENT};
use http_body_util::{BodyExt, Limited};
use proto::Value;
use proto::catalogue::{self, Resource, messages, names as n};
use resources::negotiate::{self, Offers};
use resources::object::Type;
use resources::options::ListOptions;
use resources::status::Failure;
use resources::table;

use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::kubelet::{self, Kubelets, Target, Trust};
use crate::render::Computed;
use crate::select::Select;
use crate::server::Server;

const NAME: &str = "componentstatuses";
const OF: Type = Type {
    group: "",
    version: "v1",
    kind: "ComponentStatus",
    message: messages::core_v1::COMPONENT_STATUS,
};
const LIST: Type = Type {
    kind: "ComponentStatusList",
    message: messages::core_v1::COMPONENT_STATUS_LIST,
    ..OF
};
/// Daemons by name, and their ports (`pkg/cluster/ports`).
const DAEMONS: [(&str, u16); 2] = [("controller-manager", 10257), ("scheduler", 10259)];
/// How long a component may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer is shown (`pkg/probe/http`).
const MOST: usize = 10 << 10;

/// How a component was found.
struct Found {
    status: &'static str,
    message: String,
    error: String,
}

type Check<'a> = BoxFuture<'a, Found>;

/// The resource, if the path is about it.
#[must_use]
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static Resource> {
    if (group, version, resource) != (OF.group, OF.version, NAME) {
        return None;
    }
    let mut all = catalogue::resources().iter();
    all.find(|of| of.group == group && of.version == version && of.name == resource)
}

/// Answers a get or a list.
///
/// # Errors
/// If it is neither, or there is no such component.
pub async fn serve(
    x: &mut Exchange,
    resource: &'static Resource,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Object)?;
    let server = x.server.clone();
    let shown = Computed {
        of: &OF,
        columns: table::columns(resource),
        cells,
    };
    // A list may name an object too: by a selector.
    let bytes = if x.info.verb != "get" {
        let options = ListOptions::read(&x.query, false)?;
        let select = Select::parse(resource, &options)?;
        if x.info.verb == "watch" {
            return Err(Failure::method_not_allowed("", NAME, "watch"));
        }
        let mut checks = checks(&server);
        checks.retain(|(name, _)| select.has_named(name));
        let found = checks.into_iter();
        let found = found.map(|(name, check)| async move { object(&name, check.await) });
        shown.list(join_all(found).await, &LIST, media)?
    } else {
        let name = &x.info.name;
        let mut checks = checks(&server).into_iter();
        let check = checks.find(|(known, _)| known == name);
        let (name, check) = check.ok_or_else(|| Failure::not_found("", "componentstatus", name))?;
        shown.one(&object(&name, check.await), media)?
    };
    Ok(body::answer(200, media.content_type(), body::full(bytes)))
}

/// The check of each component, by name.
fn checks(server: &Server) -> Vec<(String, Check<'_>)> {
    let daemons = DAEMONS.iter().map(|(name, port)| {
        let check: Check<'_> = Box::pin(daemon(&server.kubelets, *port));
        ((*name).to_owned(), check)
    });
    let stores = server.storage.checked().enumerate().map(|(at, store)| {
        let check: Check<'_> = Box::pin(etcd(store));
        (format!("etcd-{at}"), check)
    });
    daemons.chain(stores).collect()
}

async fn daemon(ways: &Kubelets, port: u16) -> Found {
    let target = Target {
        host: "127.0.0.1".to_owned(),
        port,
        trust: Trust::Anyone,
        name: None,
        global_only: false,
    };
    let asked = tokio::time::timeout(PATIENCE, healthz(ways, &target)).await;
    let failed = |why: String| Found {
        status: "False",
        message: format!("Get \"https://{}/healthz\": {why}", target.authority()),
        error: String::new(),
    };
    match asked {
        Err(_) => failed("context deadline exceeded".to_owned()),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok((status, _))) if status >= 400 => Found {
            status: "False",
            message: format!("HTTP probe failed with statuscode: {status}"),
            error: String::new(),
        },
        Ok(Ok((status, said))) => Found {
            status: if status < 300 { "True" } else { "Unknown" },
            message: said,
            error: String::new(),
        },
    }
}

/// Code and text of a daemon's answer.
async fn healthz(ways: &Kubelets, target: &Target) -> Result<(u16, String), kubelet::Error> {
    let mut way = ways.connect(target).await?;
    let request = http::Request::get("/healthz")
        .header(HOST, target.authority())
        .header(USER_AGENT, "kube-probe/1.37")
        .body(body::full(Bytes::new()))
        .expect("a path and headers without anybody's text make a request");
    let response = way.send_request(request).await?;
    let status = response.status().as_u16();
    let whole = Limited::new(response.into_body(), MOST).collect().await;
    let said = whole.map(http_body_util::Collected::to_bytes);
    let said = said.unwrap_or_default();
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

async fn etcd(store: &store::Store) -> Found {
    match store.health(PATIENCE).await {
        Ok(()) => Found {
            status: "True",
            message: "ok".to_owned(),
            error: String::new(),
        },
        Err(error) => Found {
            status: "False",
            message: String::new(),
            error: format!("error getting data from etcd: {error}"),
        },
    }
}

fn object(name: &str, found: Found) -> Value {
    let mut condition = Value::object();
    condition.set(&[n::TYPE], "Healthy");
    condition.set(&[n::STATUS], found.status);
    for (field, text) in [(n::MESSAGE, found.message), (n::ERROR, found.error)] {
        if !text.is_empty() {
            condition.set(&[field], text);
        }
    }
    let mut object = Value::object();
    object.set(&[n::METADATA, n::NAME], name);
    object.set(&[n::CONDITIONS], vec![condition]);
    object
}

/// As `printComponentStatus` has it.
fn cells(object: &Value) -> Vec<Value> {
    let conditions = object.get(n::CONDITIONS).and_then(Value::as_list);
    let first = conditions.and_then(<[Value]>::first);
    let text = |field| {
        let found = first.and_then(|of| of.get(field)?.as_str());
        found.unwrap_or_default()
    };
    let status = match text(n::STATUS) {
        "True" => "Healthy",
        _ => "Unhealthy",
    };
    let name = proto::meta::name(object);
    [name, status, text(n::MESSAGE), text(n::ERROR)]
        .map(Value::from)
        .to_vec()
}
