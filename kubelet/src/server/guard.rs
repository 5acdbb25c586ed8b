//! Who may ask: upstream's attributes of requests to the node, subresource by subresource.

use component::serving::{
    Attributes, Authenticator, Authorizer, Connection, Decision, Resource, Response, text,
};
use http::{Method, StatusCode};

/// Who asks, and what he may.
#[derive(Clone)]
pub struct Auth {
    pub authenticator: Authenticator,
    /// `None` is the mode `AlwaysAllow`.
    pub authorizer: Option<Authorizer>,
}

/// Paths with a subresource of their own, which is enough alone.
const SUBRESOURCES: &[(&str, &str)] = &[
    ("/stats", "stats"),
    ("/metrics", "metrics"),
    ("/logs", "log"),
    ("/checkpoint", "checkpoint"),
    ("/statusz", "statusz"),
    ("/flagz", "configz"),
];

/// Paths with a finer one, beside `proxy`, which allows everything (KubeletFineGrainedAuthz).
const FINE: &[(&str, &str)] = &[
    ("/allocatedPods", "pods"),
    ("/pods", "pods"),
    ("/healthz", "healthz"),
    ("/configz", "configz"),
    ("/runningpods", "pods"),
];

/// Everything else, and everything.
const PROXY: &str = "proxy";

fn is_at_or_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn find(table: &[(&str, &'static str)], path: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(root, _)| is_at_or_below(path, root))
        .map(|(_, subresource)| *subresource)
}

/// The subresources of `nodes` of which one has to be allowed.
pub(super) fn subresources(path: &str) -> Vec<&'static str> {
    let fine = find(FINE, path);
    let own = find(SUBRESOURCES, path).unwrap_or(PROXY);
    fine.into_iter().chain([own]).collect()
}

/// What runs commands, or reaches into a pod: always `create`, also where a WebSocket is opened with GET. Upstream's
/// kubelet asks for `get nodes/proxy` then, which makes a right to read as good as root; its API server asks for
/// `create`, too (KEP-2862).
const ENTERED: &[(&str, &str)] = &[
    ("/exec", "create"),
    ("/attach", "create"),
    ("/run", "create"),
    ("/portForward", "create"),
];

/// The verb of a request.
pub(super) fn verb(method: &Method, path: &str) -> &'static str {
    if let Some(verb) = find(ENTERED, path) {
        return verb;
    }
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

impl Auth {
    /// Lets a request pass, or answers it.
    pub(super) async fn pass<B>(
        &self,
        node: &str,
        request: &http::Request<B>,
    ) -> Result<(), Box<Response>> {
        let refuse = |code, reason: String| Err(Box::new(text(code, reason)));
        let user = match self.authenticator.authenticate(request).await {
            Ok(user) => user,
            Err(error) => {
                tracing::debug!(error = %error, "Unable to authenticate the request");
                if let Some(connection) = Connection::of(request) {
                    connection.close();
                }
                return refuse(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
            }
        };
        let Some(authorizer) = &self.authorizer else {
            return Ok(());
        };
        let verb = verb(request.method(), request.uri().path());
        let subresources = subresources(request.uri().path());
        for subresource in &subresources {
            let attributes = Attributes {
                verb: verb.to_owned(),
                path: String::new(),
                resource: Some(Resource {
                    version: "v1".to_owned(),
                    resource: "nodes".to_owned(),
                    subresource: (*subresource).to_owned(),
                    name: node.to_owned(),
                    ..Resource::default()
                }),
            };
            match authorizer.authorize(&user, &attributes).await {
                Ok(Decision::Allowed) => return Ok(()),
                Ok(Decision::Denied(_)) => {}
                Err(error) => {
                    tracing::error!(error = %error, user.name, verb, subresource, "Authorization error");
                    let reason = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    );
                    return refuse(StatusCode::INTERNAL_SERVER_ERROR, reason);
                }
            }
        }
        let reason = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        refuse(StatusCode::FORBIDDEN, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entering_a_pod_is_create_whatever_the_method() {
        for path in [
            "/exec/ns/pod/main",
            "/attach/ns/pod/uid/main",
            "/run/ns/pod/main",
            "/portForward/ns/pod",
        ] {
            for method in [Method::GET, Method::POST, Method::PUT] {
                assert_eq!(verb(&method, path), "create", "{method} {path}");
            }
        }
        for path in [
            "/executive",
            "/containerLogs/ns/pod/main",
            "/runningpods",
            "/",
        ] {
            assert_eq!(verb(&Method::GET, path), "get", "{path}");
            assert_eq!(verb(&Method::POST, path), "create", "{path}");
        }
        assert_eq!(verb(&Method::OPTIONS, "/pods"), "");
    }

    #[test]
    fn paths_have_upstreams_subresources() {
        let cases: &[(&str, &[&str])] = &[
            ("/stats/", &["stats"]),
            ("/stats/summary", &["stats"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/logs/", &["log"]),
            ("/logs/syslog", &["log"]),
            ("/checkpoint/ns/pod/c", &["checkpoint"]),
            ("/statusz", &["statusz"]),
            ("/flagz", &["configz"]),
            ("/pods", &["pods", "proxy"]),
            ("/pods/x", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/exec/ns/pod/c", &["proxy"]),
            ("/containerLogs/ns/pod/c", &["proxy"]),
            ("/", &["proxy"]),
            ("", &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), *expected, "{path}");
        }
    }
}
