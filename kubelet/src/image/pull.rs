//! Pulls images: who wants the same one waits for the same download.
//!
//! A pull lives as long as somebody waits for it; when the last waiter is gone its connections end,
//! and what was downloaded stays for the next try. Layers are fetched several at a time, each
//! unpacked as soon as it is complete, and put into the store in order.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{BoxFuture, Shared, WeakShared};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};

use super::access::Access;
use super::auth::Credential;
use super::layer::{self, Unpacked};
use super::manifest::{self, Descriptor, Document, ImageConfig, Manifest, Platform, choose};
use super::reference::{Digest, Reference};
use super::registry::{self, Registry, Session};
use super::store::{self, Image, LayerPin, NewImage, Staged, Store};

mod download;

/// How pulls are made.
#[derive(Clone, Debug)]
pub struct Config {
    pub platform: Platform,
    /// Layers fetched at once, over all pulls.
    pub parallel_layers: usize,
    /// Times that a registry is asked again after an error that may pass.
    pub retries: u32,
    /// Before the first of them; each next wait is twice as long.
    pub retry_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            platform: Platform::of_this_machine(),
            parallel_layers: 6,
            retries: 4,
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// Why an image was not pulled.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("layer {digest}: {source}")]
    Layer {
        digest: Digest,
        source: layer::Error,
    },
    #[error("layer {digest}: {source}")]
    Write { digest: Digest, source: io::Error },
    #[error("layer {digest} ended after {got} of {expected} bytes")]
    Short {
        digest: Digest,
        got: u64,
        expected: u64,
    },
    #[error("layer {digest} is {found}")]
    Digest { digest: Digest, found: Digest },
    #[error("the image has {0} layers, which is more than can be mounted")]
    TooManyLayers(usize),
    #[error("an index points to another index")]
    NestedIndex,
    #[error("the pull was interrupted")]
    Interrupted,
}

impl Error {
    fn is_transient(&self) -> bool {
        match self {
            Self::Registry(err) => err.is_transient(),
            Self::Short { .. } | Self::Digest { .. } => true,
            _ => false,
        }
    }

    /// Whether the registry itself says that it is down.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry(err) if err.is_unavailable())
    }

    fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::Registry(registry::Error::Denied { .. } | registry::Error::NotFound { .. })
        )
    }
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub layers: usize,
    pub layers_done: usize,
    /// Compressed bytes of all layers, and of those already here.
    pub bytes: u64,
    pub bytes_done: u64,
}

/// What a pull gave.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub image: Arc<Image>,
    /// The credential that the registry accepted; none if it asked for none.
    pub credential: Option<Credential>,
}

type Outcome = Result<Pulled, Arc<Error>>;

/// A pull under way.
pub struct Pull {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    progress: watch::Receiver<Progress>,
}

impl Pull {
    /// What changes as the pull goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the end. Nothing happens unless somebody waits.
    pub async fn finish(self) -> Outcome {
        self.outcome.await
    }
}

/// What makes two pulls the same: the name, and as whom.
type Key = (String, Vec<Credential>);

/// The pulls of a node.
pub struct Puller {
    store: Arc<Store>,
    registry: Arc<Registry>,
    config: Config,
    permits: Semaphore,
    under_way: Mutex<HashMap<Key, UnderWay>>,
    /// One fetch of a layer at a time, whichever image it is for.
    layers: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

struct UnderWay {
    outcome: WeakShared<BoxFuture<'static, Outcome>>,
    progress: watch::Receiver<Progress>,
}

impl Puller {
    pub fn new(store: Arc<Store>, registry: Arc<Registry>, config: Config) -> Arc<Self> {
        let permits = Semaphore::new(config.parallel_layers.max(1));
        let (under_way, layers) = Default::default();
        Arc::new(Self {
            store,
            registry,
            config,
            permits,
            under_way,
            layers,
        })
    }

    /// Pulls an image, or joins a pull of it. Credentials are tried in turn; without any, nobody's.
    pub fn pull(self: &Arc<Self>, reference: &Reference, credentials: Vec<Credential>) -> Pull {
        let key: Key = (reference.to_string(), credentials.clone());
        let mut under_way = self.under_way.lock();
        if let Some(known) = under_way.get(&key)
            && let Some(outcome) = known.outcome.upgrade()
            && outcome.peek().is_none()
        {
            return Pull {
                outcome,
                progress: known.progress.clone(),
            };
        }
        let (tell, progress) = watch::channel(Progress::default());
        let (this, reference) = (self.clone(), reference.clone());
        let outcome = async move {
            this.run(&reference, credentials, &tell)
                .await
                .map_err(Arc::new)
        };
        let outcome = outcome.boxed().shared();
        under_way.retain(|_, pull| pull.outcome.upgrade().is_some());
        if let Some(weak) = outcome.downgrade() {
            under_way.insert(
                key,
                UnderWay {
                    outcome: weak,
                    progress: progress.clone(),
                },
            );
        }
        Pull { outcome, progress }
    }

    async fn run(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: Vec<Credential>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Pulled, Error> {
        let mut tries: Vec<_> = credentials.into_iter().map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut last = None;
        for credential in tries {
            let session = self.registry.session(reference, credential.clone())?;
            let pull = One {
                puller: self,
                reference,
                session,
                credential: &credential,
                progress,
            };
            match pull.run().await {
                Ok(image) => return Ok(Pulled { image, credential }),
                Err(err) if err.is_denied() => last = Some(err),
                Err(err) => return Err(err),
            }
        }
        Err(last.unwrap_or(Error::Interrupted))
    }

    /// Runs something that asks a registry, again if its error may pass.
    async fn again<T, F: Future<Output = Result<T, Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut delay = self.config.retry_delay;
        for _ in 0..self.config.retries {
            match ask().await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, ?delay, "asking the registry again");
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                other => return other,
            }
        }
        ask().await
    }

    /// Waits until nobody else fetches this layer.
    async fn lock_layer(&self, diff_id: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut layers = self.layers.lock();
            layers.retain(|_, lock| lock.strong_count() > 0);
            let lock = layers
                .get(diff_id)
                .and_then(Weak::upgrade)
                .unwrap_or_default();
            layers.insert(diff_id.clone(), Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }
}

/// One pull as one user.
struct One<'a> {
    puller: &'a Arc<Puller>,
    reference: &'a Reference,
    session: Session,
    credential: &'a Option<Credential>,
    progress: &'a watch::Sender<Progress>,
}

/// A layer that is ready to go into the store, or already there.
enum Fetched {
    Here(LayerPin),
    /// The lock keeps others from fetching it as well until it is in the store.
    Staged(Staged, Unpacked, OwnedMutexGuard<()>),
}

impl One<'_> {
    async fn run(&self) -> Result<Arc<Image>, Error> {
        let target = self.ask(|| self.session.resolve()).await?;
        let manifest = self.manifest(&target.bytes).await?;
        let config_digest = &manifest.config.digest;
        let config = self.ask(|| self.session.config(config_digest)).await?;
        let parsed = ImageConfig::parse(&config.bytes, &manifest)?;
        if manifest.layers.len() > crate::sys::mount::MAX_LOWER {
            return Err(Error::TooManyLayers(manifest.layers.len()));
        }
        let pins = self
            .layers(&manifest.layers, &parsed.rootfs.diff_ids)
            .await?;
        let repository = self.reference.repository();
        let image = NewImage {
            id: config_digest.clone(),
            config: parsed,
            tags: self.reference.tagged().into_iter().collect(),
            digests: [self.reference.at(&target.digest)].into(),
            pinned: false,
            access: [(repository, Access::of(self.credential.as_ref()))].into(),
        };
        let store = self.puller.store.clone();
        let committed = blocking(move || Ok(store.commit(image, &pins)?));
        let image = committed.await?;
        let store = self.puller.store.clone();
        // The image can be used at once; what makes it last does not concern who waits for it.
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = store.sync() {
                tracing::warn!(%error, "cannot sync pulled layers");
            }
        }));
        Ok(image)
    }

    /// The manifest for this platform: the document itself, or the one that it points to.
    async fn manifest(&self, bytes: &[u8]) -> Result<Manifest, Error> {
        match Document::parse(bytes)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(index) => {
                let entry = choose(&index, &self.puller.config.platform)?;
                let found = self.ask(|| self.session.manifest(&entry.digest)).await?;
                match Document::parse(&found.bytes)? {
                    Document::Manifest(manifest) => Ok(manifest),
                    Document::Index(_) => Err(Error::NestedIndex),
                }
            }
        }
    }

    async fn ask<T, F: Future<Output = Result<T, registry::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Error> {
        self.puller
            .again(|| ask().map(|answer| answer.map_err(Error::from)))
            .await
    }

    /// Fetches what is missing and returns all layers, the lowest first, held.
    async fn layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<Vec<LayerPin>, Error> {
        self.progress.send_replace(Progress {
            layers: layers.len(),
            bytes: layers.iter().map(|layer| layer.size).sum(),
            ..Progress::default()
        });
        let mut fetches = Vec::with_capacity(layers.len());
        for (n, layer) in layers.iter().enumerate() {
            fetches.push(self.fetch(layer, &diff_ids[..=n]));
        }
        let parallel = self.puller.config.parallel_layers.max(1);
        let mut fetches = futures::stream::iter(fetches).buffered(parallel);
        let mut pins: Vec<LayerPin> = Vec::with_capacity(layers.len());
        while let Some(fetched) = fetches.next().await {
            let stack = &diff_ids[..=pins.len()];
            let pin = match fetched? {
                Fetched::Here(pin) => pin,
                Fetched::Staged(staged, unpacked, lock) => {
                    let (store, stack) = (self.puller.store.clone(), stack.to_vec());
                    let (below, adopted) = blocking(move || {
                        let adopted = store.adopt(staged, &unpacked, &stack, &pins)?;
                        Ok((pins, adopted))
                    })
                    .await?;
                    pins = below;
                    drop(lock);
                    adopted
                }
            };
            pins.push(pin);
            self.progress
                .send_modify(|progress| progress.layers_done += 1);
        }
        Ok(pins)
    }

    async fn fetch(&self, layer: &Descriptor, stack: &[Digest]) -> Result<Fetched, Error> {
        let done = |bytes| {
            self.progress
                .send_modify(|progress| progress.bytes_done += bytes)
        };
        let Some(diff_id) = stack.last() else {
            return Err(Error::NestedIndex);
        };
        let lock = self.puller.lock_layer(diff_id).await;
        if let Some(pin) = self.puller.store.find_layer(stack) {
            done(layer.size);
            return Ok(Fetched::Here(pin));
        }
        let permit = self
            .puller
            .permits
            .acquire()
            .await
            .map_err(|_| Error::Interrupted)?;
        let path = self.puller.store.ingest_path(&layer.digest);
        let counted = Mutex::new(0);
        self.puller
            .again(|| download::download(&self.session, layer, &path, &counted, self.progress))
            .await?;
        let store = self.puller.store.clone();
        let (digest, diff_id) = (layer.digest.clone(), diff_id.clone());
        let unpacked = blocking(move || unpack(&store, &path, digest, &diff_id)).await;
        drop(permit);
        unpacked.map(|(staged, unpacked)| Fetched::Staged(staged, unpacked, lock))
    }
}

fn unpack(
    store: &Store,
    blob: &Path,
    digest: Digest,
    diff_id: &Digest,
) -> Result<(Staged, Unpacked), Error> {
    let staged = store.stage()?;
    let file = fs::File::open(blob).map_err(|source| Error::Write {
        digest: digest.clone(),
        source,
    })?;
    let unpacked = layer::unpack(file, diff_id, &staged.fs()).map_err(|source| Error::Layer {
        digest: digest.clone(),
        source,
    });
    // Unpacked or not, it has served: a blob that does not unpack never will.
    remove(blob, digest)?;
    Ok((staged, unpacked?))
}

fn remove(blob: &Path, digest: Digest) -> Result<(), Error> {
    crate::sys::file::remove_all(blob).map_err(|source| Error::Write { digest, source })
}

/// Runs blocking work to its end, whether or not somebody still waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Interrupted)?
}
