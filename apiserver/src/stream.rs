//! Streams to kubelets and pods: logs, exec, attach, port-forward and the proxies.
//!
//! exec, attach and port-forward are protocols between the client and the kubelet (SPDY/3.1, or WebSocket with the channel
//! protocols up to v5 and the tunnel of port-forward). The server decides who may and where to, and writes the kubelet's
//! address from the options that it understood. Then it hands the bytes on, unless the client speaks a WebSocket of today and
//! the kubelet does not say that it does ([`way`]): such a WebSocket ends here ([`translate`], [`tunnel`]).
//!
//! Upstream: `pkg/registry/core/{pod,node,service}`, `apimachinery/pkg/util/proxy`.

use http::{Method, Response};
use proto::Value;
use proto::catalogue::gate;
use proto::view::core_v1::{self, Pod};
use proto::view::{Node, View};
use resources::object;
use resources::status::Failure;

use crate::admission::webhook::Reinvocation;
use crate::admission::{self, Operation, Options};
use crate::authz::{Attributes, Decision, refusal};
use crate::body::Body;
use crate::chain::Exchange;
use crate::handler::get;
use crate::kubelet::Target;
use crate::registry::Endpoint;

mod counts;
pub mod forward;
mod location;
mod log;
mod options;
pub(crate) mod proxy;
mod translate;
mod tunnel;
mod way;
pub mod websocket;

pub use counts::Counts;
pub use proxy::serve as proxy;
use translate::Wanted;
use way::Way;

/// `log`, `exec`, `attach` and `portforward` of a pod.
pub async fn pod(x: &mut Exchange, endpoint: &Endpoint) -> Result<Response<Body>, Failure> {
    let subresource = x.info.subresource.clone();
    if subresource == "log" {
        if !matches!(x.method, Method::GET | Method::HEAD) {
            return Err(not_allowed(x));
        }
        return log::serve(x, endpoint).await;
    }
    if !matches!(x.method, Method::GET | Method::POST) {
        return Err(not_allowed(x));
    }
    may_create(x).await?;
    let options = admit(x, endpoint).await?;
    let object = read_pod(x, endpoint).await?;
    let pod = Pod::of(Node::new(&object));
    let options = Node::new(&options);
    let path = location::of_stream(&subresource, pod, options)?;
    let node = node(x, node_name(pod)?).await?;
    let node = core_v1::Node::of(Node::new(&node));
    let kubelets = &x.server.kubelets;
    let target = kubelets.of_node(node).map_err(Failure::internal)?;
    let takes = way::takes_websockets(node);
    let (way, counted) = way::choose(x.server.registry.gates, &subresource, takes, &x.headers);
    if let Some(counted) = counted {
        x.server.streams.goes(&subresource, counted);
    }
    let Some(upgrade) = forward::upgrade(&x.headers, &mut x.upgrade) else {
        return Err(Failure::bad_request("Upgrade request required"));
    };
    match way {
        Way::Translate => translate::serve(x, target, &path, Wanted::of(options), upgrade.end),
        Way::Tunnel => tunnel::serve(x, &target, &path, upgrade.end).await,
        Way::HandOn => {
            let request = forward::head(x, &target, &path)?;
            let counted = &mut x.counted;
            forward::upgraded(kubelets, &target, request, upgrade, counted).await
        }
    }
}

/// Browsers can only GET a WebSocket: what it does is a creation all the same, whatever its method.
async fn may_create(x: &Exchange) -> Result<(), Failure> {
    let gates = x.server.config.features.gates();
    let asks = gates.has(gate::AUTHORIZE_POD_WEBSOCKET_UPGRADE_CREATE_PERMISSION);
    if !asks || x.info.verb == "create" {
        return Ok(());
    }
    let asked = Attributes {
        verb: "create",
        ..Attributes::of(&x.user, &x.info)
    };
    match x.server.authorizers.decide(&asked).await {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let why = refusal(&asked, &reason);
            Err(Failure::forbidden(
                asked.group,
                asked.resource,
                asked.name,
                &why,
            ))
        }
    }
}

/// Admission of a connection, whose object is its options: as they are afterwards.
async fn admit(x: &mut Exchange, endpoint: &Endpoint) -> Result<Value, Failure> {
    let server = x.server.clone();
    let below = endpoint.resource.subresource(&x.info.subresource);
    let message = below.and_then(|below| below.message);
    let message = message.ok_or_else(Failure::no_such_resource)?;
    let mut options = options::read(message, &x.query, &x.info)?;
    let mut connection = admission::Attributes {
        operation: Operation::Connect,
        resource: endpoint.resource,
        subresource: &x.info.subresource,
        namespace: &x.info.namespace,
        name: &x.info.name,
        object: Some(&mut options),
        old: None,
        user: &x.user,
        options: Options::None,
        deadline: None,
        reinvocation: Reinvocation::default(),
        warnings: &mut x.warnings,
        trail: x.trail.as_ref(),
    };
    server.admission.mutate(&server, &mut connection).await?;
    server.admission.validate(&server, &mut connection).await?;
    Ok(options)
}

/// The pod that the path names, as it is now.
async fn read_pod(x: &Exchange, endpoint: &Endpoint) -> Result<Value, Failure> {
    let entry = get::entry(x, endpoint, get::at("")?).await?;
    object::from_body(&entry.body, &endpoint.hub)
}

/// The node that a pod is on.
fn node_name(pod: Pod<'_>) -> Result<&str, Failure> {
    let name = pod.spec().node_name();
    if name.is_empty() {
        let text = format!(
            "pod {} does not have a host assigned",
            pod.metadata().name()
        );
        return Err(Failure::bad_request(text));
    }
    Ok(name)
}

async fn node(x: &Exchange, name: &str) -> Result<Value, Failure> {
    let object = x.server.lookup("", "nodes", "", name).await?;
    object.ok_or_else(|| Failure::not_found("", "nodes", name))
}

/// The kubelet of a node.
async fn kubelet(x: &Exchange, name: &str) -> Result<Target, Failure> {
    let object = node(x, name).await?;
    let node = core_v1::Node::of(Node::new(&object));
    x.server.kubelets.of_node(node).map_err(Failure::internal)
}

fn not_allowed(x: &Exchange) -> Failure {
    Failure::method_not_allowed(&x.info.group, &x.info.resource, &x.info.verb)
}
