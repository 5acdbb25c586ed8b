//! What they may ask: the API server decides, by SubjectAccessReview.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;

use super::User;
use crate::args::{self, Args};
use crate::client::{Client, Error, Kind};
use crate::recent::Recent;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Attributes {
    /// `get`, `list`, ... of resources; the method in lower case of paths.
    pub verb: String,
    /// The path, if it is no resource.
    pub path: String,
    pub resource: Option<Resource>,
}

/// A resource that is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl Attributes {
    /// A request for a path that is no resource.
    #[must_use]
    pub fn of_path<B>(request: &http::Request<B>) -> Self {
        Self {
            verb: verb(request.method()).to_owned(),
            path: request.uri().path().to_owned(),
            resource: None,
        }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// The API server's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Allowed,
    /// With its reason, which may be empty.
    Denied(String),
}

/// Asks the API server who may do what, and remembers the answers for a short time; cheap to clone.
#[derive(Clone)]
pub struct Authorizer {
    inner: Arc<Inner>,
}

struct Inner {
    client: Option<Client>,
    allowed_for: Duration,
    denied_for: Duration,
    always_paths: Vec<String>,
    known: Mutex<Recent<(User, Attributes), (Instant, Decision)>>,
}

/// Answers that are remembered; upstream's figure is 8192 for each of the two kinds.
const ANSWERS: usize = 8192;
/// Longer questions are not remembered, so that nobody fills the memory with them.
const LONGEST_PATH: usize = 10_000;

impl Authorizer {
    /// Without a client, only the paths that are always allowed pass. A path may end in `*`.
    #[must_use]
    pub fn new(
        client: Option<Client>,
        allowed_for: Duration,
        denied_for: Duration,
        always_paths: Vec<String>,
    ) -> Self {
        let known = Mutex::new(Recent::new(ANSWERS));
        Self {
            inner: Arc::new(Inner {
                client,
                allowed_for,
                denied_for,
                always_paths,
                known,
            }),
        }
    }

    /// What the flags of [`args::delegated_authorization`] say.
    #[must_use]
    pub fn from_flags(args: &Args, client: Option<Client>) -> Self {
        Self::new(
            client,
            args.get(&args::AUTHORIZATION_ALLOWED_TTL),
            args.get(&args::AUTHORIZATION_DENIED_TTL),
            args.get(&args::AUTHORIZATION_ALWAYS_ALLOW_PATHS),
        )
    }

    /// Whether everybody may read a path.
    #[must_use]
    pub fn always_allows(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.inner
            .always_paths
            .iter()
            .map(|p| p.trim_start_matches('/'))
            .any(|p| match p.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == p,
            })
    }

    /// Whether a user may do something.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<Decision, Error> {
        if user.is_in(User::MASTERS)
            || (attributes.resource.is_none() && self.always_allows(&attributes.path))
        {
            return Ok(Decision::Allowed);
        }
        let Some(client) = &self.inner.client else {
            return Ok(Decision::Denied(String::new()));
        };
        let question = (user.clone(), attributes.clone());
        if let Some((until, decision)) = self.inner.known.lock().get(&question)
            && *until > Instant::now()
        {
            return Ok(decision.clone());
        }
        let review = review(user, attributes);
        let status = patiently(|| client.create_review(&review))
            .await?
            .status
            .unwrap_or_default();
        let decision = if status.allowed {
            Decision::Allowed
        } else {
            Decision::Denied(status.reason.unwrap_or_default())
        };
        let ttl = if status.allowed {
            self.inner.allowed_for
        } else {
            self.inner.denied_for
        };
        if question.1.path.len() < LONGEST_PATH {
            self.inner
                .known
                .lock()
                .insert(question, (Instant::now() + ttl, decision.clone()));
        }
        Ok(decision)
    }
}

fn review(user: &User, attributes: &Attributes) -> SubjectAccessReview {
    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let resource = attributes.resource.as_ref().map(|r| ResourceAttributes {
        group: some(&r.group),
        version: some(&r.version),
        resource: some(&r.resource),
        subresource: some(&r.subresource),
        namespace: some(&r.namespace),
        name: some(&r.name),
        verb: some(&attributes.verb),
        ..ResourceAttributes::default()
    });
    let path = NonResourceAttributes {
        path: some(&attributes.path),
        verb: some(&attributes.verb),
    };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: some(&user.name),
            uid: some(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            non_resource_attributes: if resource.is_some() { None } else { Some(path) },
            resource_attributes: resource,
        },
        ..SubjectAccessReview::default()
    }
}

impl Client {
    /// Posts a review and reads the answer.
    pub(super) async fn create_review<K: Kind>(&self, review: &K) -> Result<K, Error> {
        self.with_timeout(REVIEW_TIMEOUT)
            .all::<K>()
            .create(review)
            .await
    }
}

/// How long one review may take; upstream's figure.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries a review again when the server could not do it: five times, 0.5 s apart at first, as
/// upstream's webhooks do.
pub(super) async fn patiently<F, T>(review: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut wait = Duration::from_millis(500);
    for _ in 1..5 {
        match review().await {
            Err(e) if may_pass(&e) => {
                let spread = 1.0 + 0.2 * rand::rng().random::<f64>();
                tokio::time::sleep(wait.mul_f64(spread)).await;
                wait = wait.mul_f64(1.5);
            }
            done => return done,
        }
    }
    review().await
}

fn may_pass(error: &Error) -> bool {
    error.status().is_none() || error.code().is_some_and(|c| c == 429 || c >= 500)
}

#[cfg(test)]
mod tests;
