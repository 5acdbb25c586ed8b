//! `serviceaccounts/token`: a token for an account, bound to a pod, a node or a secret if that is
//! asked for.
//!
//! Upstream: `pkg/registry/core/serviceaccount/storage/token.go`.

use http::Response;
use hyper::body::Incoming;
use proto::catalogue::{gate, messages, names as n};
use proto::path::FieldError;
use proto::view::authentication_v1::{BoundObjectReference, TokenRequest};
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::clock::Clock;
use resources::negotiate::{self, Offers};
use resources::object::{self, Type};
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;
use resources::{before, defaults};

use super::{manager, read_body};
use crate::admission::webhook::Reinvocation;
use crate::admission::{self, Operation, Options};
use crate::auth::service_account::{
    Claims, PROJECTED_SECONDS, Private, Reference, USER_PREFIX, now,
};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::config::Tokens;
use crate::registry::Endpoint;
use crate::server::{Server, read_failure};
use crate::{managed, render};

const TYPE: Type = Type {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    message: messages::authentication_v1::TOKEN_REQUEST,
};
/// The key of the annotation that tells of a request for an account that has been replaced.
const UID_MISMATCH: &str = "authentication.k8s.io/token-request-uid-mismatch";
/// Upstream's `MinTokenAgeSec`.
const SHORTEST: i64 = 10 * 60;
const LONGEST: i64 = 1 << 32;
/// What a request without an expiration asks for.
const DEFAULT: i64 = 3600;

/// Answers a request for a token.
///
/// # Errors
/// If the request is not valid, or what the token should be bound to is not there.
pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Plain)?;
    let encoding = negotiate::input(&x.headers)?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "CreateOptions")?;
    let decoded = object::decode(&body, encoding, &TYPE, options.field_validation)?;
    if options.field_validation == FieldValidation::Warn {
        x.warnings.extend(decoded.problems);
    }
    let mut request = decoded.object;
    defaults::apply(endpoint.gates, &mut request, TYPE.message);
    x.record_object(&request, &TYPE);
    before::match_namespace(&mut request, &x.info.namespace)?;
    let manager = manager(x, &options.field_manager);
    let now = Clock::now().text;
    managed::record_sent(&TYPE, &x.info.subresource, &mut request, &manager, &now);
    request = admit(x, endpoint, request, &options, Step::Mutate).await?;
    let account = identify(x, &mut request).await?;
    let mut request = admit(x, endpoint, request, &options, Step::Validate).await?;
    let token = issue(x, &account, &mut request).await?;
    let expires = proto::time::print_time(creation(&request) + expiration(&request));
    request.set(&[n::STATUS, n::TOKEN], token);
    request.set(&[n::STATUS, n::EXPIRATION_TIMESTAMP], expires);
    let bytes = render::tree(&request, &TYPE, media);
    Ok(body::answer(201, media.content_type(), body::full(bytes)))
}

#[derive(Clone, Copy)]
enum Step {
    Mutate,
    Validate,
}

async fn admit(
    x: &mut Exchange,
    endpoint: &Endpoint,
    mut request: Value,
    options: &WriteOptions,
    step: Step,
) -> Result<Value, Failure> {
    let server = x.server.clone();
    let deadline = Some(x.write_deadline());
    let mut write = admission::Attributes {
        operation: Operation::Create,
        resource: endpoint.resource,
        subresource: &x.info.subresource,
        namespace: &x.info.namespace,
        name: &x.info.name,
        object: Some(&mut request),
        old: None,
        user: &x.user,
        options: Options::Create(options),
        deadline,
        reinvocation: Reinvocation::default(),
        warnings: &mut x.warnings,
        trail: x.trail.as_ref(),
    };
    match step {
        Step::Mutate => server.admission.mutate(&server, &mut write).await?,
        Step::Validate => server.admission.validate(&server, &mut write).await?,
    }
    Ok(request)
}

fn expiration(request: &Value) -> i64 {
    TokenRequest::of(Node::new(request))
        .spec()
        .expiration_seconds()
        .unwrap_or(DEFAULT)
}

fn creation(request: &Value) -> i64 {
    proto::time::unix_of(meta::creation_timestamp(request)).map_or_else(now, |(seconds, _)| seconds)
}

/// Looks the account up and completes the request with what is known of it.
async fn identify(x: &mut Exchange, request: &mut Value) -> Result<Value, Failure> {
    let (namespace, name) = (&*x.info.namespace, &*x.info.name);
    let given = [
        (
            n::NAME,
            "metadata.name",
            name,
            "must match the service account name if specified",
        ),
        (
            n::NAMESPACE,
            "metadata.namespace",
            namespace,
            "must match the service account namespace if specified",
        ),
    ];
    for (field, path, wanted, why) in given {
        let given = meta::get(request, field)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !given.is_empty() && given != wanted {
            return Err(Failure::invalid(
                TYPE.group,
                TYPE.kind,
                name,
                &[FieldError::invalid(path, given, why)],
            ));
        }
    }
    let account = newest(&x.server, "serviceaccounts", namespace, name).await?;
    let (asked, uid) = (meta::uid(request), meta::uid(&account));
    let mut named = uid.to_owned();
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
        );
        let gates = x.server.config.features.gates();
        if gates.has(gate::TOKEN_REQUEST_SERVICE_ACCOUNT_UID_VALIDATION) {
            return Err(Failure::conflict(TYPE.group, TYPE.kind, name, &why));
        }
        if let Some(trail) = &x.trail {
            trail.annotate(UID_MISMATCH, &why);
        }
        x.warnings.push(format!(
            "{why} but TokenRequestServiceAccountUIDValidation is not enabled. In the future, this will return a conflict error"
        ));
        asked.clone_into(&mut named);
    }
    for (field, text) in [
        (n::NAME, name),
        (n::NAMESPACE, namespace),
        (n::UID, named.as_str()),
    ] {
        meta::set(request, field, text);
    }
    meta::set(
        request,
        n::CREATION_TIMESTAMP,
        proto::time::print_time(now()),
    );
    request.set(&[n::STATUS], Value::object());
    if TokenRequest::of(Node::new(request))
        .spec()
        .audiences()
        .is_empty()
    {
        let own: Vec<Value> = x
            .server
            .tokens
            .audiences()
            .iter()
            .map(|a| a.as_str().into())
            .collect();
        request.set(&[n::SPEC, n::AUDIENCES], own);
    }
    if let Some(error) = problem(request) {
        return Err(Failure::invalid(TYPE.group, TYPE.kind, "", &[error]));
    }
    Ok(account)
}

/// Upstream's `ValidateTokenRequest`.
fn problem(request: &Value) -> Option<FieldError> {
    let seconds = expiration(request);
    let spec = TokenRequest::of(Node::new(request)).spec();
    let path = "spec.expirationSeconds";
    if seconds < SHORTEST {
        return Some(FieldError::invalid(
            path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > LONGEST {
        return Some(FieldError::invalid(
            path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if !spec.attestations().is_empty() {
        let detail = "attestations may only be specified with a webhook bound object reference";
        let shown = spec.node().get(n::ATTESTATIONS)?;
        return Some(FieldError::invalid("spec.attestations", shown, detail));
    }
    None
}

/// Signs the token. The expiration in the request is shortened to what is allowed.
async fn issue(x: &mut Exchange, account: &Value, request: &mut Value) -> Result<String, Failure> {
    let server = x.server.clone();
    let spec = TokenRequest::of(Node::new(request)).spec();
    let audiences: Vec<String> = spec
        .audiences()
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let bound = match spec.bound_object_ref() {
        Some(to) => bind(&server, account, to).await?,
        None => Bound::default(),
    };
    let config = server.tokens.config();
    let lasts = lifetime(expiration(request), bound.pod.is_some(), &audiences, config);
    if lasts.shortened {
        let asked = expiration(request);
        let warning = format!(
            "requested expiration of {asked} seconds shortened to {} seconds",
            lasts.granted
        );
        x.warnings.push(warning);
        request.set(&[n::SPEC, n::EXPIRATION_SECONDS], lasts.granted);
    }
    let begins = creation(request);
    let (namespace, name) = (meta::namespace(account), meta::name(account));
    let claims = Claims {
        iss: server.tokens.issuer().to_owned(),
        sub: format!("{USER_PREFIX}{namespace}:{name}"),
        aud: audiences,
        exp: begins + lasts.signed,
        nbf: begins,
        iat: begins,
        jti: uuid::Uuid::new_v4().to_string(),
        private: Private {
            namespace: namespace.to_owned(),
            serviceaccount: reference(account),
            pod: bound.pod,
            secret: bound.secret,
            node: bound.node,
            warnafter: lasts.warn.map(|after| begins + after),
        },
    };
    let signed = server.tokens.sign(&claims).await;
    let token = signed.map_err(|e| Failure::internal(format!("failed to generate token: {e}")))?;
    if let Some(trail) = &x.trail {
        let id = format!("JTI={}", claims.jti);
        trail.annotate("authentication.kubernetes.io/issued-credential-id", &id);
    }
    Ok(token)
}

/// How long a token lasts, in seconds.
#[derive(Debug, PartialEq)]
struct Lifetime {
    /// As the client is told.
    granted: i64,
    /// As the token says: longer where old clients must be borne with.
    signed: i64,
    /// After which the use of the token is warned of.
    warn: Option<i64>,
    shortened: bool,
}

fn lifetime(asked: i64, for_pod: bool, audiences: &[String], config: &Tokens) -> Lifetime {
    let longest = i64::try_from(config.max_expiration.as_secs()).unwrap_or(i64::MAX);
    let shortened = longest > 0 && asked > longest;
    let granted = if shortened { longest } else { asked };
    let ours = audiences.iter().all(|a| config.audiences.contains(a));
    let extended = config.extend_expiration && for_pod && granted == PROJECTED_SECONDS && ours;
    let signed = if extended {
        i64::try_from(config.extended.as_secs()).unwrap_or(i64::MAX)
    } else {
        granted
    };
    Lifetime {
        granted,
        signed,
        warn: extended.then_some(granted),
        shortened,
    }
}

/// What a token is bound to.
#[derive(Default)]
struct Bound {
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

fn reference(object: &Value) -> Reference {
    Reference {
        name: meta::name(object).to_owned(),
        uid: meta::uid(object).to_owned(),
    }
}

async fn bind(
    server: &Server,
    account: &Value,
    to: BoundObjectReference<'_>,
) -> Result<Bound, Failure> {
    let namespace = meta::namespace(account);
    let group =
        meta::parse_api_version(to.api_version()).map_or(to.api_version(), |(group, _)| group);
    let mut bound = Bound::default();
    let found = match (group, to.kind()) {
        ("", "Pod") => {
            let pod = newest(server, "pods", namespace, to.name()).await?;
            let runs_as = pod
                .at(&[n::SPEC, n::SERVICE_ACCOUNT_NAME])
                .and_then(Value::as_str)
                .unwrap_or_default();
            let name = meta::name(account);
            if runs_as != name {
                return Err(Failure::bad_request(format!(
                    "cannot bind token for serviceaccount \"{name}\" to pod running with different serviceaccount name."
                )));
            }
            bound.node = node_of(server, &pod).await?;
            bound.pod.insert(reference(&pod))
        }
        ("", "Node") => bound
            .node
            .insert(reference(&newest(server, "nodes", "", to.name()).await?)),
        ("", "Secret") => bound.secret.insert(reference(
            &newest(server, "secrets", namespace, to.name()).await?,
        )),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => {
            return Err(Failure::bad_request(format!(
                "cannot bind token to object of type {}, Kind={} (feature gate APIServerWebhookAuthenticationToken is disabled)",
                to.api_version(),
                to.kind()
            )));
        }
        _ => {
            let (version, kind) = (to.api_version(), to.kind());
            let version = if version.contains('/') {
                version.to_owned()
            } else {
                format!("/{version}")
            };
            return Err(Failure::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    if !to.uid().is_empty() && found.uid != to.uid() {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            to.uid()
        );
        return Err(Failure::conflict(group, to.kind(), to.name(), &why));
    }
    Ok(bound)
}

/// The node that a pod is on. If it is gone, its name alone tells where the pod was.
async fn node_of(server: &Server, pod: &Value) -> Result<Option<Reference>, Failure> {
    let name = pod
        .at(&[n::SPEC, n::NODE_NAME])
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let node = server.lookup("", "nodes", "", name).await?;
    Ok(Some(node.as_ref().map_or_else(
        || Reference {
            name: name.to_owned(),
            uid: String::new(),
        },
        reference,
    )))
}

/// An object of the core group as etcd has it.
async fn newest(
    server: &Server,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Value, Failure> {
    let endpoint = server
        .registry
        .any_version("", resource)
        .ok_or_else(Failure::no_such_resource)?;
    let key = if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    };
    let found = endpoint
        .collection
        .get(&key, store::At::Latest)
        .await
        .map_err(read_failure)?;
    let entry = found.ok_or_else(|| Failure::not_found("", resource, name))?;
    object::from_body(&entry.body, &endpoint.hub)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::tokens::{EXTENDED, Signing};

    fn config(max: u64, extend: bool) -> Tokens {
        Tokens {
            issuers: vec!["https://issuer".into()],
            key_files: Vec::new(),
            signing: Signing::Plugin("/s".into()),
            audiences: vec!["api".into(), "https://issuer".into()],
            lookup: true,
            max_expiration: Duration::from_secs(max),
            extend_expiration: extend,
            extended: EXTENDED,
            jwks_uri: String::new(),
        }
    }

    fn request(seconds: i64) -> Value {
        let mut request = Value::object();
        request.set(&[n::SPEC, n::EXPIRATION_SECONDS], seconds);
        request
    }

    #[test]
    fn a_token_lasts_as_asked_within_the_bounds() {
        let detail = |seconds| problem(&request(seconds)).map(|e| e.detail);
        assert_eq!(detail(SHORTEST), None);
        assert_eq!(detail(LONGEST), None);
        assert!(detail(SHORTEST - 1).is_some() && detail(LONGEST + 1).is_some());
        assert_eq!(expiration(&Value::object()), DEFAULT);
    }

    #[test]
    fn only_the_projected_token_of_a_pod_for_this_server_is_extended() {
        let api = ["api".to_owned()];
        let year = i64::try_from(EXTENDED.as_secs()).unwrap();
        let plain = |granted| Lifetime {
            granted,
            signed: granted,
            warn: None,
            shortened: false,
        };
        let extended = Lifetime {
            signed: year,
            warn: Some(PROJECTED_SECONDS),
            ..plain(PROJECTED_SECONDS)
        };
        assert_eq!(
            lifetime(PROJECTED_SECONDS, true, &api, &config(0, true)),
            extended
        );
        assert_eq!(
            lifetime(PROJECTED_SECONDS, true, &api, &config(0, false)),
            plain(PROJECTED_SECONDS)
        );
        assert_eq!(
            lifetime(PROJECTED_SECONDS, false, &api, &config(0, true)),
            plain(PROJECTED_SECONDS)
        );
        assert_eq!(lifetime(3600, true, &api, &config(0, true)), plain(3600));
        let other = ["api".to_owned(), "vault".to_owned()];
        assert_eq!(
            lifetime(PROJECTED_SECONDS, true, &other, &config(0, true)),
            plain(PROJECTED_SECONDS)
        );
    }

    #[test]
    fn the_flag_bounds_what_clients_ask_for() {
        let got = lifetime(7200, true, &["api".to_owned()], &config(3600, true));
        assert_eq!(
            got,
            Lifetime {
                granted: 3600,
                signed: 3600,
                warn: None,
                shortened: true
            }
        );
    }
}
