//! How others verify the cluster's tokens: the discovery document of OpenID Connect and the key set
//! that it names.
//!
//! Served only for an issuer that the protocol allows, an `https` URL without query and fragment, as
//! upstream's `pkg/serviceaccount/openidmetadata.go`.

use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::service_account::Issuer;
use crate::body::{self, Body};
use crate::server::Server;

const KEYS: &str = "/openid/v1/jwks";

/// The document of a path, if it is one of these.
#[must_use]
pub fn serve(server: &Server, path: &str) -> Option<Response<Body>> {
    let (content_type, document) = match path {
        "/.well-known/openid-configuration" => {
            let own = format!(
                "https://{}",
                std::net::SocketAddr::new(server.config.advertise, server.config.listen.port())
            );
            ("application/json", configuration(&server.tokens, &own)?)
        }
        KEYS if is_allowed(server.tokens.issuer()) => {
            ("application/jwk-set+json", server.tokens.key_set())
        }
        _ => return None,
    };
    let mut response = body::answer(
        StatusCode::OK.as_u16(),
        content_type,
        body::full(document.to_string()),
    );
    let seconds = server.tokens.keys_stay().as_secs();
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
    Some(response)
}

fn is_allowed(issuer: &str) -> bool {
    issuer.starts_with("https://") && !issuer.contains(['?', '#'])
}

fn configuration(issuer: &Issuer, own: &str) -> Option<serde_json::Value> {
    if !is_allowed(issuer.issuer()) {
        return None;
    }
    let keys = match issuer.config().jwks_uri.as_str() {
        "" => format!("{own}{KEYS}"),
        given => given.to_owned(),
    };
    let set = issuer.key_set();
    let used = set["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|k| k["alg"].as_str());
    let algorithms: std::collections::BTreeSet<&str> = used.collect();
    Some(json!({
        "issuer": issuer.issuer(),
        "jwks_uri": keys,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    }))
}
