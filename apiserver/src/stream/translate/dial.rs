//! A SPDY connection to a kubelet. Failures are told in the words of upstream's client, for users read them.
//!
//! Nothing of the client's request goes along but what the kubelet's address was made from. Upstream:
//! `client-go/transport/spdy`, `streaming/pkg/httpstream/spdy/roundtripper.go`.

use std::fmt::Display;

use component::client::read_all;
use component::streaming::remote::{V1, V2, V3, V4, V5};
use component::streaming::upgrade::{self, Io, PROTOCOL_VERSION};
use http::header::{HOST, LOCATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proto::path::quote;
use resources::status::Failure;
use serde_json::Value;

use super::super::forward;
use super::ended::Format;
use crate::body::{self, Body};
use crate::kubelet::{Kubelets, Target};

/// What this server speaks, the preferred one first. The newest is the one before it, as far as SPDY goes.
const PROTOCOLS: [&str; 5] = [V5, V4, V3, V2, V1];
/// The longest refusal that is read.
const MAX_REFUSAL: usize = 64 << 10;

/// A request for a stream at a kubelet.
pub(super) struct Ask {
    target: Target,
    url: String,
    request: Request<Body>,
}

impl Ask {
    /// Of a path at a kubelet; belongs to the span that is open.
    pub(super) fn new(target: Target, path: &str) -> Result<Self, Failure> {
        let mut request = Request::new(body::full(Vec::new()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(Failure::internal)?;
        let headers = request.headers_mut();
        headers.insert(HOST, forward::value(&target.authority())?);
        upgrade::ask_spdy(headers, &PROTOCOLS);
        component::tracing::hand_on(headers);
        Ok(Self {
            url: format!("{}://{}{path}", target.scheme(), target.authority()),
            target,
            request,
        })
    }

    /// The connection, and how the kubelet will say how it ended.
    pub(super) async fn dial(self, kubelets: &Kubelets) -> Result<(Io, Format), String> {
        let unsent =
            |url: &str, e: &dyn Display| format!("error sending request: Post {}: {e}", quote(url));
        let connected = kubelets.connect(&self.target).await;
        let mut sender = connected.map_err(|e| unsent(&self.url, &e))?;
        let sent = sender.send_request(self.request).await;
        let mut response = sent.map_err(|e| unsent(&self.url, &e))?;
        if let Some(to) = redirect(&response) {
            return Err(unsent(&to, &"redirect not allowed"));
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switched || !upgrade::is_spdy(response.headers()) {
            let why = refusal(response).await;
            return Err(format!("unable to upgrade connection: {why}"));
        }
        let protocol = response.headers().get(PROTOCOL_VERSION);
        let protocol = protocol.map_or(Ok(""), |p| p.to_str()).unwrap_or("?");
        let format = Format::of(protocol).ok_or_else(|| {
            let name = quote(protocol);
            format!("unable to upgrade connection: protocol {name} was not asked for")
        })?;
        let io = hyper::upgrade::on(&mut response).await;
        Ok((TokioIo::new(io.map_err(|e| unsent(&self.url, &e))?), format))
    }
}

/// Where a kubelet wants this server to go.
fn redirect(response: &Response<Incoming>) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let to = response.headers().get(LOCATION).filter(|_| redirects)?;
    let to = String::from_utf8_lossy(to.as_bytes()).into_owned();
    Some(to).filter(|to| !to.is_empty())
}

/// Why a kubelet did not agree.
async fn refusal(response: Response<Incoming>) -> String {
    match read_all(response.into_body(), MAX_REFUSAL).await {
        Ok(body) => said(&body),
        Err(_) => "unable to read error from server response".to_owned(),
    }
}

fn said(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = ["message", "error"].map(|name| status[name].as_str().unwrap_or_default().trim());
    let text = String::from_utf8_lossy(body);
    let all = [words[0], words[1], text.trim()];
    let said = all.into_iter().find(|text| !text.is_empty());
    said.unwrap_or("empty server response").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_kubelets_words() {
        for (body, text) in [
            (r#"{"kind":"Status","message":" pod gone\n"}"#, "pod gone"),
            (r#"{"error":"no runtime"}"#, "no runtime"),
            (r#"{"other":1}"#, r#"{"other":1}"#),
            ("container not found\n", "container not found"),
            (" \n", "empty server response"),
        ] {
            assert_eq!(said(body.as_bytes()), text);
        }
    }
}
