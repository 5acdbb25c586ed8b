//! `/` and `/index.html`: which paths there are, for people.
//!
//! Upstream: `apiserver/pkg/server/routes/index.go`. Pages below `/debug` are not told of, as upstream does not tell of them.

use std::collections::BTreeSet;

use component::serving::Endpoints;
use http::Response;
use serde_json::json;

use crate::auth::openid;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::server::Server;

/// Beside discovery, health and what a server may not have.
const FIXED: &[&str] = &[
    "/apis/",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
];
/// The public keys of tokens, if they can be shown.
const OF_TOKENS: [&str; 2] = ["/.well-known/openid-configuration", "/openid/v1/jwks"];

/// The answer, if this is what is asked for.
#[must_use]
pub(super) fn serve(x: &Exchange) -> Option<Response<Body>> {
    if !matches!(x.info.path.as_str(), "/" | "/index.html") {
        return None;
    }
    let index = json!({"paths": paths(&x.server)});
    let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
    Some(body::answer(200, "application/json", body::full(text)))
}

fn paths(server: &Server) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = Endpoints::PATHS
        .iter()
        .filter(|path| **path != "/configz")
        .chain(FIXED)
        .map(|path| (*path).to_owned())
        .collect();
    all.extend(server.config.pages.paths().map(str::to_owned));
    all.extend(server.discovery.paths().map(str::to_owned));
    for endpoint in ["healthz", "livez", "readyz"] {
        let names = server.endpoints.health().names(endpoint);
        all.extend(names.iter().map(|name| format!("/{endpoint}/{name}")));
    }
    let shown = OF_TOKENS
        .into_iter()
        .filter(|path| openid::serve(server, path).is_some());
    all.extend(shown.map(str::to_owned));
    all
}
