//! Bearer tokens: whose they are.
//!
//! Authenticators are tried in upstream's order, local ones first: a file of tokens, service accounts,
//! bootstrap tokens, issuers of the configuration, a webhook. The first that knows the token decides;
//! if none does, all that went wrong is told. What a request's token turned out to be is remembered
//! for a few seconds, and requests with the same token share one look ([`cache`]). Upstream:
//! `pkg/kubeapiserver/authenticator`, `apiserver/pkg/authentication/token/{union,cache}`.

use std::sync::Arc;

use anyhow::Context;
use component::Supervisor;
use component::metrics::Metrics;

use self::cache::Cache;
use self::file::TokenFile;
use self::webhook::TokenWebhook;
use super::anonymous::Anonymous;
use super::jwt::Jwts;
use super::service_account::{self, Invalid, Issuer};
use super::{User, bootstrap_token};
use crate::config::authentication::Authentication;
use crate::server::Server;

pub mod cache;
pub(crate) mod file;
mod webhook;

/// What a token turned out to be.
#[derive(Clone, Debug)]
pub struct Verified {
    pub user: User,
    /// Those asked for that it is for.
    pub audiences: Vec<String>,
    /// What whoever uses it should know.
    pub warnings: Vec<String>,
    /// What the events of a request with it should say.
    pub annotations: Vec<Annotation>,
}

/// An annotation of audit events.
pub type Annotation = (&'static str, String);

/// Nobody knows the token: what those said who should.
#[derive(thiserror::Error, Clone, Debug)]
#[error("{}", text(.0))]
pub struct Refused(Vec<String>);

/// The first of them is this server's own client, whose token it was not.
fn text(errors: &[String]) -> String {
    let theirs = errors.iter().map(String::as_str);
    proto::path::aggregate(std::iter::once("invalid bearer token").chain(theirs))
}

/// All authenticators of tokens.
pub struct Tokens {
    file: Option<TokenFile>,
    accounts: Arc<Issuer>,
    bootstrap: bool,
    jwt: Jwts,
    webhook: Option<TokenWebhook>,
    known: Arc<Cache>,
}

impl Tokens {
    /// What the configuration names, and who may be anonymous. `server` is this server's identity.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn open(
        given: &Authentication,
        accounts: &Arc<Issuer>,
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> anyhow::Result<(Self, Anonymous)> {
        let file = given.token_file.as_deref().map(|path| {
            TokenFile::read(path).with_context(|| format!("--token-auth-file {}", path.display()))
        });
        let webhook = given.webhook.as_ref().map(|given| {
            let what = || {
                let path = given.kubeconfig.display();
                format!("--authentication-token-webhook-config-file {path}")
            };
            let own = accounts.audiences();
            TokenWebhook::open(given, own, tasks, metrics).with_context(what)
        });
        let own = &accounts.config().issuers;
        let (jwt, anonymous) = Jwts::open(given, own, tasks, metrics, server)?;
        let tokens = Self {
            file: file.transpose()?,
            accounts: Arc::clone(accounts),
            bootstrap: given.bootstrap_tokens,
            jwt,
            webhook: webhook.transpose()?,
            known: Arc::new(Cache::new(metrics)),
        };
        Ok((tokens, Anonymous::new(anonymous)))
    }

    /// Looks whether the configuration changed.
    pub fn look(&self) {
        self.jwt.look();
    }

    /// Whose the token of a request is. The answer may be a few seconds old.
    ///
    /// # Errors
    /// Why the token is not good.
    pub async fn of_request(
        &self,
        server: &Arc<Server>,
        token: &str,
    ) -> Result<Arc<Verified>, Refused> {
        let look = || {
            let (server, token) = (Arc::clone(server), token.to_owned());
            async move {
                let tokens = &server.authenticators.tokens;
                let audiences = tokens.accounts.audiences();
                tokens.review(&server, &token, audiences).await
            }
        };
        self.known.get(token, look).await
    }

    /// Whose a token for one of these audiences is: what a `TokenReview` asks. Nothing is remembered.
    ///
    /// # Errors
    /// Why the token is not good.
    pub async fn review(
        &self,
        server: &Arc<Server>,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, Refused> {
        let own = self.accounts.audiences();
        // Most tokens say nothing of audiences: they are for this server.
        let shared: Vec<String> = own
            .iter()
            .filter(|a| audiences.contains(a))
            .cloned()
            .collect();
        let agnostic = |user| Verified {
            user,
            audiences: shared.clone(),
            warnings: Vec::new(),
            annotations: Vec::new(),
        };
        let for_us = !shared.is_empty();
        let mut errors = Vec::new();
        if let Some(user) = server.loopback.user(token)
            && for_us
        {
            return Ok(agnostic(user));
        }
        if let Some(user) = self.file.as_ref().and_then(|file| file.user(token))
            && for_us
        {
            return Ok(agnostic(user));
        }
        match self.account(server, token, audiences).await {
            Ok(Some(verified)) => return Ok(verified),
            Ok(None) => {}
            Err(error) => errors.push(error.to_string()),
        }
        if self.bootstrap && for_us {
            match bootstrap_token::user(server, token).await {
                Ok(Some(user)) => return Ok(agnostic(user)),
                Ok(None) => {}
                Err(failure) => errors.push(failure.message().to_owned()),
            }
        }
        if for_us {
            match self.jwt.user(token).await {
                Ok(Some(user)) => return Ok(agnostic(user)),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if let Some(webhook) = &self.webhook {
            match webhook.review(token, audiences).await {
                Ok(Some(verified)) => return Ok(verified),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Err(Refused(errors))
    }

    /// The service account of a token; none if the token is none of ours.
    async fn account(
        &self,
        server: &Arc<Server>,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Verified>, Invalid> {
        if !self.accounts.is_ours(token) {
            return Ok(None);
        }
        self.accounts.learn(token).await;
        if self.accounts.is_legacy(token) {
            let old = self.legacy(server, token, audiences).await;
            // The cluster's issuer may have that name.
            let is_own = |issuer: &String| issuer == service_account::legacy::ISSUER;
            if old.is_ok() || !self.accounts.config().issuers.iter().any(is_own) {
                return old.map(Some);
            }
        }
        let now = service_account::now();
        let (claims, audiences) = self.accounts.verify(token, audiences, now)?;
        Ok(Some(Verified {
            user: service_account::user(server, &claims).await?,
            audiences,
            warnings: Vec::new(),
            annotations: service_account::stale(&claims, now).into_iter().collect(),
        }))
    }

    async fn legacy(
        &self,
        server: &Arc<Server>,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, Invalid> {
        let (claims, audiences) = self.accounts.verify_legacy(token, audiences)?;
        let (user, kind) = service_account::legacy::user(server, token, &claims).await?;
        Ok(Verified {
            user,
            audiences,
            warnings: kind.warning().map(str::to_owned).into_iter().collect(),
            annotations: claims.annotations(kind),
        })
    }
}
