//! Who controllers are when they write: the manager itself, or with `--use-service-account-credentials` a service
//! account for each, as upstream's dynamic client builder makes them.
//!
//! Tokens are asked for when they are needed: an idle controller has no connection and no token. They are replaced
//! once a fifth of their life is left, or when the server refuses one.
//!
//! Source: `k8s.io/controller-manager/pkg/clientbuilder/client_builder_dynamic.go`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use component::Supervisor;
use component::client::{self, Client, Config, Kubeconfig, RateLimit};
use component::config::ClientConnection;
use component::metrics::Metrics;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Error;

/// Where the accounts are: normal users must not see into it.
const NAMESPACE: &str = "kube-system";
const LIFETIME_SECONDS: i64 = 3600;
/// A token that seems to live shorter is believed to live so long: clocks differ.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(600);
/// The part of its life that a token is used for.
const USED: f64 = 0.8;

/// The clients of controllers.
pub struct Accounts {
    root: Client,
    limits: (f32, i32),
    kind: Kind,
    accounts: Mutex<HashMap<&'static str, Arc<Account>>>,
}

enum Kind {
    /// All are the manager.
    One,
    Each {
        /// The way to the server, without credentials.
        anonymous: Box<Config>,
        daemon: &'static str,
        tasks: Supervisor,
        metrics: Metrics,
    },
}

/// The client of one controller, while its token is good.
#[derive(Default)]
struct Account {
    current: tokio::sync::Mutex<Option<(Client, Option<Instant>)>>,
}

impl Accounts {
    /// Everybody is the manager; each has a rate limit of its own.
    #[must_use]
    pub fn one(root: Client, connection: &ClientConnection) -> Self {
        Self {
            root,
            limits: (connection.qps, connection.burst),
            kind: Kind::One,
            accounts: Mutex::default(),
        }
    }

    /// Everybody is a service account; `root` makes the accounts and their tokens. `config` is root's.
    #[must_use]
    pub fn each(
        root: Client,
        config: Config,
        daemon: &'static str,
        connection: &ClientConnection,
        tasks: &Supervisor,
    ) -> Self {
        let anonymous = Config {
            certificate: None,
            bearer: None,
            ..config
        };
        let kind = Kind::Each {
            anonymous: Box::new(anonymous),
            daemon,
            tasks: tasks.clone(),
            metrics: root.metrics().clone(),
        };
        Self {
            root,
            limits: (connection.qps, connection.burst),
            kind,
            accounts: Mutex::default(),
        }
    }

    /// The manager itself.
    #[must_use]
    pub fn root(&self) -> &Client {
        &self.root
    }

    fn account(&self, name: &'static str) -> Arc<Account> {
        Arc::clone(self.accounts.lock().entry(name).or_default())
    }

    /// The client of an account, with a token that is good for a while.
    ///
    /// # Errors
    /// If there is no account or no token to be had.
    pub async fn client(&self, name: &'static str) -> Result<Client, Error> {
        let account = self.account(name);
        let mut current = account.current.lock().await;
        if let Some((client, until)) = &*current
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(client.clone());
        }
        let made = self.make(name).await?;
        let client = made.0.clone();
        *current = Some(made);
        Ok(client)
    }

    /// The server refused the account's credentials: the next client gets new ones.
    pub async fn refused(&self, name: &'static str) {
        if matches!(self.kind, Kind::Each { .. }) {
            *self.account(name).current.lock().await = None;
        }
    }

    async fn make(&self, name: &'static str) -> Result<(Client, Option<Instant>), Error> {
        let Kind::Each {
            anonymous,
            daemon,
            tasks,
            metrics,
        } = &self.kind
        else {
            let limit = RateLimit::new(self.limits.0, self.limits.1);
            return Ok((self.root.named(name, limit), None));
        };
        let account = format!("system:serviceaccount:{NAMESPACE}:{name}");
        let failed = |cause| Error::Token {
            account: account.clone(),
            cause,
        };
        self.ensure(name).await.map_err(failed)?;
        let (token, life) = self.token(name).await.map_err(failed)?;
        let config = with_token(anonymous, &token).map_err(|problem| {
            Error::Unusable(format!("the token of {account} cannot be used: {problem}"))
        })?;
        let client = Client::new(config, daemon, tasks, metrics).map_err(|cause| {
            let account = account.clone();
            Error::Config { account, cause }
        })?;
        let limit = RateLimit::new(self.limits.0, self.limits.1);
        let until = Instant::now() + life.max(SHORTEST_LIFETIME).mul_f64(USED);
        Ok((client.named(&account, limit), Some(until)))
    }

    /// A token, and how long it lives.
    async fn token(&self, name: &str) -> Result<(String, Duration), client::Error> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer: TokenRequest = self
            .root
            .namespaced::<ServiceAccount>(NAMESPACE)
            .create_subresource(name, "token", &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        let end = status.expiration_timestamp.map(|t| t.0);
        let life = end.map(|end| end.duration_since(component::clock::now()));
        let life = life.and_then(|life| life.try_into().ok());
        Ok((
            status.token.unwrap_or_default(),
            life.unwrap_or(SHORTEST_LIFETIME),
        ))
    }

    /// Makes the account, and the namespace, if they are not there.
    async fn ensure(&self, name: &str) -> Result<(), client::Error> {
        let accounts = self.root.namespaced::<ServiceAccount>(NAMESPACE);
        if accounts.find(name).await?.is_some() {
            return Ok(());
        }
        let named = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let namespaces = self.root.all::<Namespace>();
        if let Err(e) = namespaces.get(NAMESPACE).await
            && e.is_not_found()
        {
            let namespace = Namespace {
                metadata: named(NAMESPACE),
                ..Namespace::default()
            };
            // Whether it may make namespaces is not known; the account's own error tells.
            let _ = namespaces.create(&namespace).await;
        }
        let account = ServiceAccount {
            metadata: named(name),
            ..ServiceAccount::default()
        };
        match accounts.create(&account).await {
            Err(e) if !e.is_already_exists() => Err(e),
            _ => Ok(()),
        }
    }
}

/// The same way to the server with a token, as a kubeconfig's user would have it.
fn with_token(anonymous: &Config, token: &str) -> Result<Config, String> {
    let text = serde_json::json!({
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": anonymous.server}}],
        "users": [{"name": "one", "user": {"token": token}}],
    });
    let bearer = Kubeconfig::read(text.to_string().as_bytes())?
        .client(None, Path::new(""))?
        .bearer;
    Ok(Config {
        bearer,
        ..anonymous.clone()
    })
}
