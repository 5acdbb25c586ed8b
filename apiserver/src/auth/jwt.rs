//! Tokens of other issuers (OpenID Connect), which the `--oidc-*` flags or a file name.
//!
//! A token says who issued it; the authenticator of that issuer verifies it by the keys that the issuer
//! publishes ([`provider`]) and makes a user of its claims ([`claims`], [`expressions`]). A file that changes takes
//! effect once the keys of all its issuers are there; issuers that stay keep theirs. Upstream:
//! `apiserver/plugin/pkg/authenticator/token/oidc`, `pkg/kubeapiserver/authenticator`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use component::metrics::Metrics;
use component::{Supervisor, Task};
use parking_lot::{Mutex, RwLock};
use proto::path::FieldError;

use self::claims::Claims;
use self::config::{Anonymous, JwtSettings};
use self::distributed::Sources;
use self::jws::Jws;
use self::metrics::Counted;
use self::provider::{Provider, Web};
use super::User;
use super::service_account;
use crate::config::authentication::{Authentication, Issuers};
use crate::reload::{self, ConfigFile};

pub mod claims;
pub mod config;
mod distributed;
mod expressions;
pub mod jws;
pub mod keys;
mod metrics;
mod provider;

/// How long the issuers of a changed file may take to answer, between two tries, and before the file
/// is tried once more.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(10);
const ONCE_MORE: Duration = Duration::from_secs(60);

/// The authenticators of all issuers.
pub struct Jwts {
    current: Arc<RwLock<Arc<Set>>>,
    file: Option<Arc<File>>,
}

type Set = Vec<Arc<Jwt>>;

/// What authenticators are built from; it stays the same.
struct Parts {
    /// Issuers of service accounts.
    own: Vec<String>,
    tasks: Supervisor,
    metrics: Metrics,
    counted: Counted,
    /// Whether fetches of keys are counted as well.
    counts_keys: bool,
}

/// The file, and what it said of anonymous requests at the start.
struct File {
    file: ConfigFile,
    anonymous: Option<Anonymous>,
    parts: Parts,
    busy: Mutex<bool>,
}

impl Jwts {
    /// The authenticators that the configuration names, and who may be anonymous. `own` are the
    /// issuers of service accounts, `server` is this server's identity.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn open(
        given: &Authentication,
        own: &[String],
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> anyhow::Result<(Self, Anonymous)> {
        let parts = Parts {
            own: own.to_vec(),
            tasks: tasks.clone(),
            metrics: Metrics::new(),
            counted: Counted::register(metrics, server),
            counts_keys: given.counts_keys,
        };
        let fixed = |set| Self {
            current: Arc::new(RwLock::new(Arc::new(set))),
            file: None,
        };
        match &given.issuers {
            Issuers::None => Ok((fixed(Vec::new()), given.anonymous.clone())),
            Issuers::Flags(settings) => {
                let settings = config::Settings {
                    jwt: vec![(**settings).clone()],
                    anonymous: None,
                };
                settings.check(own).map_err(config::Error::Invalid)?;
                let set = parts.set(&settings.jwt, &[]);
                Ok((fixed(set), given.anonymous.clone()))
            }
            Issuers::File {
                path,
                anonymous_by_flag,
            } => {
                let what = || format!("--authentication-config {}", path.display());
                let subsystem = "authentication_config_controller";
                let (file, text) =
                    ConfigFile::open(path, metrics, subsystem, server).with_context(what)?;
                let settings = config::read(&text, own).with_context(what)?;
                if settings.anonymous.is_some() && *anonymous_by_flag {
                    anyhow::bail!(
                        "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is \
                         configured in authentication configuration file"
                    );
                }
                let anonymous = settings.anonymous.clone();
                let jwts = Self {
                    current: Arc::new(RwLock::new(Arc::new(parts.set(&settings.jwt, &[])))),
                    file: Some(Arc::new(File {
                        file,
                        anonymous: anonymous.clone(),
                        parts,
                        busy: Mutex::new(false),
                    })),
                };
                Ok((jwts, anonymous.unwrap_or_else(|| given.anonymous.clone())))
            }
        }
    }

    /// Looks whether the file changed; for every request, also those without a token.
    pub fn look(&self) {
        if let Some(file) = &self.file {
            file.look(&self.current);
        }
    }

    /// Whose a token is; none if it is of none of the issuers.
    ///
    /// # Errors
    /// If it is of one of them, and not good.
    pub async fn user(&self, token: &str) -> Result<Option<User>, String> {
        let set = Arc::clone(&self.current.read());
        if set.is_empty() {
            return Ok(None);
        }
        let Some(issuer) = claims::unverified_issuer(token) else {
            return Ok(None);
        };
        let Some(jwt) = set.iter().find(|jwt| jwt.settings.issuer == issuer) else {
            return Ok(None);
        };
        let started = Instant::now();
        let user = jwt.user(token).await;
        jwt.counted
            .verified(&jwt.issuer_hash, user.is_ok(), started.elapsed());
        user.map(Some).map_err(|why| format!("oidc: {why}"))
    }
}

impl Parts {
    /// The authenticators of these issuers. Those that are the same as in `old` are taken from there.
    fn set(&self, settings: &[JwtSettings], old: &[Arc<Jwt>]) -> Set {
        let of = |settings: &JwtSettings| match old.iter().find(|jwt| jwt.settings == *settings) {
            Some(same) => Arc::clone(same),
            None => Arc::new(self.jwt(settings, old)),
        };
        settings.iter().map(of).collect()
    }

    fn jwt(&self, settings: &JwtSettings, old: &[Arc<Jwt>]) -> Jwt {
        let web = Web {
            authorities: settings.authorities.clone(),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
        };
        let (issuer, discovery) = (settings.issuer.as_str(), settings.discovery.as_deref());
        // Keys are kept where nothing changed of the way to them.
        let same = old.iter().find(|jwt| {
            let of = &jwt.settings;
            of.issuer == issuer
                && of.discovery.as_deref() == discovery
                && of.authorities == settings.authorities
        });
        let provider = match same {
            Some(jwt) => Arc::clone(&jwt.provider),
            None => {
                let fetches = self.counts_keys.then(|| self.counted.fetches(issuer));
                Arc::new(Provider::new(issuer, discovery, web.clone(), fetches))
            }
        };
        Jwt {
            issuer_hash: reload::hash(issuer),
            settings: settings.clone(),
            provider,
            sources: Sources::new(web),
            counted: self.counted.clone(),
        }
    }
}

/// The authenticator of one issuer.
struct Jwt {
    settings: JwtSettings,
    issuer_hash: String,
    provider: Arc<Provider>,
    /// Where groups come from that a token only refers to.
    sources: Sources,
    counted: Counted,
}

impl Jwt {
    async fn user(&self, token: &str) -> Result<User, String> {
        let mut claims = verify(token, &self.provider, &self.settings, &self.settings.issuer)
            .await
            .map_err(|why| format!("verify token: {why}"))?;
        if let Some(claim) = self.settings.mappings.groups_claim() {
            let expanded = self.sources.expand(&mut claims, claim, &self.settings);
            expanded
                .await
                .map_err(|why| format!("could not expand distributed claims: {why}"))?;
        }
        claims.user(&self.settings.mappings)
    }
}

/// The claims of a token that its issuer has signed, that is good now and for one of the audiences.
async fn verify(
    token: &str,
    provider: &Arc<Provider>,
    settings: &JwtSettings,
    issuer: &str,
) -> Result<Claims, String> {
    let jws = Jws::parse(token, &settings.algorithms).map_err(|e| e.to_string())?;
    provider.verify(&jws).await?;
    let payload = jws.payload().map_err(|e| e.to_string())?;
    let claims = Claims::read(&payload).ok_or("failed to unmarshal claims")?;
    claims.check(issuer, &settings.audiences, service_account::now())?;
    Ok(claims)
}

impl File {
    fn look(self: &Arc<Self>, current: &Arc<RwLock<Arc<Set>>>) {
        if *self.busy.lock() {
            return;
        }
        let Some(text) = self.file.changed() else {
            return;
        };
        let settings = match self.read(&text) {
            Ok(settings) => settings,
            Err(error) => return self.file.failed(&error),
        };
        *self.busy.lock() = true;
        let (this, current) = (Arc::clone(self), Arc::clone(current));
        { &self.parts.tasks }.spawn(Task::Background, "authentication-config", async move {
            let old = Arc::clone(&current.read());
            let set = this.parts.set(&settings, &old);
            match ready(&set).await {
                Ok(()) => {
                    this.forget(&old, &set);
                    *current.write() = Arc::new(set);
                    tracing::info!("The configuration of authentication was read again");
                    this.file.succeeded(&text);
                }
                Err(error) => {
                    this.file.failed(&error);
                    this.file.once_more(ONCE_MORE);
                }
            }
            *this.busy.lock() = false;
        });
    }

    fn read(&self, text: &str) -> Result<Vec<JwtSettings>, config::Error> {
        let settings = config::read(text, &self.parts.own)?;
        if settings.anonymous != self.anonymous {
            let why = "changed from initial configuration file";
            return Err(config::Error::Invalid(vec![FieldError::forbidden(
                "anonymous",
                why,
            )]));
        }
        Ok(settings.jwt)
    }

    fn forget(&self, old: &Set, new: &Set) {
        let stays = |of: &Arc<Jwt>| {
            new.iter()
                .any(|jwt| jwt.settings.issuer == of.settings.issuer)
        };
        for gone in old.iter().filter(|jwt| !stays(jwt)) {
            self.parts.counted.forget(&gone.settings.issuer);
        }
    }
}

/// Waits until all issuers have keys.
async fn ready(set: &Set) -> Result<(), provider::Error> {
    let end = Instant::now() + READY_TIMEOUT;
    loop {
        let all = set.iter().map(|jwt| jwt.provider.ready());
        match futures::future::try_join_all(all).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() + RETRY > end => return Err(error),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
