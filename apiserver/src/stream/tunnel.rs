//! Port-forward at kubelets that speak SPDY only: the client tunnels SPDY through a WebSocket, which ends here.
//!
//! What comes out of the tunnel goes to the kubelet as it is: its streams are between the client and the kubelet. The client
//! has his WebSocket once the kubelet has agreed; what the kubelet answers otherwise is the client's answer.
//!
//! Upstream: `apiserver/pkg/util/proxy/streamtunnel.go`.

use component::Task;
use component::serving::text;
use component::streaming::websocket::{self, Side};
use component::streaming::{drive, upgrade};
use http::header::{
    HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use resources::status::Failure;

use super::forward::{self, Answer};
use crate::body::Body;
use crate::chain::Exchange;
use crate::kubelet::Target;
use crate::metrics::Running;

/// Has the kubelet agree, then the client, and joins them in a task of its own.
pub(super) async fn serve(
    x: &mut Exchange,
    target: &Target,
    path: &str,
    client: OnUpgrade,
) -> Result<Response<Body>, Failure> {
    let offered = upgrade::subprotocols(&x.headers);
    let mut answer = match upgrade::websocket(&x.method, &x.headers, &offered, false) {
        Ok((_, answer)) => answer,
        Err(refused) => {
            x.server
                .streams
                .tunnelled(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(*refused);
        }
    };
    let request = request(x, target, path)?;
    let kubelets = &x.server.kubelets;
    let mut response = match forward::ask(kubelets, target, request).await? {
        Answer::Switched(response) => response,
        Answer::Refused(refused) => {
            let status = refused.status().as_u16();
            tracing::error!(status, "SPDY upgrade failed");
            x.server.streams.tunnelled(refused.status());
            return Ok(refused);
        }
    };
    if !upgrade::is_spdy(response.headers()) {
        let why = "unable to upgrade: missing upgrade headers in response";
        tracing::error!("{why}");
        x.server
            .streams
            .tunnelled(StatusCode::INTERNAL_SERVER_ERROR);
        return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")));
    }
    agree(answer.headers_mut(), &offered, response.headers());
    x.server.streams.tunnelled(StatusCode::SWITCHING_PROTOCOLS);
    let backend = hyper::upgrade::on(&mut response);
    let counted = x.counted.take().map(Running::switched);
    let tasks = kubelets.tasks();
    tasks.spawn(Task::Background, "stream-tunnel", async move {
        let _until_here = counted;
        join(client, backend).await;
    });
    Ok(answer)
}

/// The client's request, as one for SPDY.
fn request(x: &Exchange, target: &Target, path: &str) -> Result<Request<Body>, Failure> {
    let mut request = forward::head(x, target, path)?;
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    for name in [
        SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
    ] {
        headers.remove(name);
    }
    upgrade::ask_spdy(headers, &upgrade::tunnelled(&x.headers));
    Ok(request)
}

/// The tunnel is for the protocol that the kubelet has chosen. One that the client did not offer is not named.
fn agree(answer: &mut HeaderMap, offered: &[&str], kubelet: &HeaderMap) {
    answer.remove(SEC_WEBSOCKET_PROTOCOL);
    let chosen = kubelet.get(upgrade::PROTOCOL_VERSION);
    let chosen = chosen.and_then(|name| name.to_str().ok());
    let name = chosen.map(|name| format!("{}{}", upgrade::TUNNEL, name.trim()));
    let name = name.filter(|name| offered.contains(&name.as_str()));
    if let Some(value) = name.and_then(|name| HeaderValue::try_from(name).ok()) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Carries what is in the tunnel until the client or the kubelet ends.
async fn join(client: OnUpgrade, backend: OnUpgrade) {
    match tokio::try_join!(client, backend) {
        Ok((client, backend)) => {
            let (inside, driver) = websocket::tunnel(TokioIo::new(client), Side::Server);
            drive(driver, forward::copy(inside, TokioIo::new(backend))).await;
        }
        Err(error) => tracing::debug!(%error, "A tunnel was not handed over"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tunnel_is_for_what_the_kubelet_has_chosen_of_what_was_offered() {
        let offered = ["SPDY/3.1+a.k8s.io", "SPDY/3.1+b.k8s.io"];
        let agreed = |chosen: Option<&'static str>| {
            let mut answer = HeaderMap::new();
            answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("first"));
            let mut kubelet = HeaderMap::new();
            if let Some(chosen) = chosen {
                kubelet.insert(upgrade::PROTOCOL_VERSION, HeaderValue::from_static(chosen));
            }
            agree(&mut answer, &offered, &kubelet);
            let name = answer.get(SEC_WEBSOCKET_PROTOCOL).cloned();
            name.map(|name| name.to_str().unwrap().to_owned())
        };
        assert_eq!(agreed(Some("b.k8s.io")).as_deref(), Some(offered[1]));
        assert_eq!(agreed(Some("c.k8s.io")), None);
        assert_eq!(agreed(None), None);
    }
}
