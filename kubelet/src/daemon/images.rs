//! The node's images: where they come from and when they go.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use component::events::Recorder;
use component::tracing::Tracer;
use component::{Supervisor, Task};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::{Config, KubeletConfiguration};
use crate::container_manager::eviction::Reclaim;
use crate::image::access::Verification;
use crate::image::ensure::{self, Images};
use crate::image::gc::{self, Collector, Policy};
use crate::image::import::{Directory, Reading};
use crate::image::manifest::Platform;
use crate::image::pull::{self, Puller};
use crate::image::registry::{self, Registry, hosts, proxy};
use crate::image::store::Store;

/// Below the kubelet's root: archives dropped here become images.
const ARCHIVES: &str = "archives";
/// Between two looks at unused images; upstream's figure.
const EVERY: Duration = Duration::from_secs(300);
/// Where containerd's users describe their registries.
const HOSTS: &str = "/etc/containerd/certs.d";

/// The images and what belongs to them.
pub(super) struct Own {
    pub(super) store: Arc<Store>,
    pub(super) images: Arc<Images>,
    pub(super) collector: Arc<Garbage>,
}

/// Opens the store, and starts to import and to collect.
pub(super) fn open(
    config: &Config,
    root: &Path,
    tasks: &Supervisor,
    recorder: &Recorder,
    node: &ObjectReference,
    tracer: &Tracer,
) -> anyhow::Result<Own> {
    let kubelet = &config.kubelet;
    let store = Store::open(root).context("cannot open the image store")?;
    let registry = Registry::new(registry::Config {
        hosts: hosts::Config {
            directories: vec![HOSTS.into()],
            ..hosts::Config::default()
        },
        proxies: proxy::Proxies::from_env(|name| std::env::var(name).ok())?,
        ..registry::Config::default()
    });
    let puller = Puller::new(Arc::clone(&store), registry, pull::Config::default());
    let (reading, archives) = watch::channel(Reading::Archives(0));
    let images = Images::new(Arc::clone(&store), puller, pulls(kubelet));
    let images = Arc::new(images.after_archives(archives));
    let directory = Directory {
        store: Arc::clone(&store),
        path: config.node.root.join(ARCHIVES),
        platform: Platform::of_this_machine(),
    };
    tasks.spawn(
        Task::Worker,
        "image-archives",
        directory.run(reading).map(|ended| match ended {
            Ok(never) => match never {},
            Err(e) => Err::<(), _>(e),
        }),
    );
    let collector = Arc::new(Garbage {
        store: Arc::clone(&store),
        collector: Mutex::new(Collector::new(policy(kubelet), Instant::now())),
        tracer: tracer.clone(),
    });
    // 100 means that images are not collected at all, as upstream has it.
    if kubelet.image_gc_high_threshold_percent < 100 {
        let (own, recorder, node) = (Arc::clone(&collector), recorder.clone(), node.clone());
        tasks.spawn(Task::Worker, "image-gc", async move {
            own.run(&recorder, &node).await;
        });
    }
    Ok(Own {
        store,
        images,
        collector,
    })
}

fn pulls(kubelet: &KubeletConfiguration) -> ensure::Config {
    let positive = |n: i32| u32::try_from(n).unwrap_or(0);
    let parallel = match (
        kubelet.serialize_image_pulls,
        kubelet.max_parallel_image_pulls,
    ) {
        (true, _) => 1,
        (false, None) => 0,
        (false, Some(most)) => usize::try_from(most).unwrap_or(1),
    };
    let allowed = &kubelet.preloaded_images_verification_allowlist;
    let verification = match kubelet.image_pull_credentials_verification_policy.as_str() {
        "AlwaysVerify" => Verification::Always,
        "NeverVerifyAllowlistedImages" => Verification::NeverAllowlisted(allowed.clone()),
        "NeverVerifyPreloadedImages" => Verification::NeverPreloaded,
        // Empty where the feature is off.
        _ => Verification::Never,
    };
    ensure::Config {
        parallel,
        qps: positive(kubelet.registry_pull_qps),
        burst: positive(kubelet.registry_burst),
        verification,
        ..ensure::Config::default()
    }
}

fn policy(kubelet: &KubeletConfiguration) -> Policy {
    let percent = |n: i32| u8::try_from(n).unwrap_or(100);
    Policy {
        high: percent(kubelet.image_gc_high_threshold_percent),
        low: percent(kubelet.image_gc_low_threshold_percent),
        min_age: kubelet.image_minimum_gc_age.0,
        max_age: kubelet.image_maximum_gc_age.0,
    }
}

/// Deletes images that nobody uses.
pub(super) struct Garbage {
    store: Arc<Store>,
    collector: Mutex<Collector>,
    tracer: Tracer,
}

impl Garbage {
    async fn run(self: Arc<Self>, recorder: &Recorder, node: &ObjectReference) {
        let mut failed = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let work = self.blocking(|own| own.collect(false));
            let collected = self.tracer.work("Images/GarbageCollect", |_| {}, work);
            match collected.await {
                Ok(_) => failed = false,
                Err(e) if failed => {
                    tracing::error!(error = %e, "Image garbage collection failed multiple times in a row");
                    recorder.warning(node, "ImageGCFailed", &e.to_string());
                }
                Err(e) => {
                    tracing::error!(error = %e, "Image garbage collection failed once");
                    failed = true;
                }
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, gc::Error> + Send + 'static,
    ) -> Result<T, gc::Error> {
        let own = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        done.unwrap_or_else(|e| {
            Err(gc::Error::Deletion {
                wanted: 0,
                freed: 0,
                errors: e.to_string(),
            })
        })
    }

    /// Deletes what the policy says, or all that is unused. Blocks.
    fn collect(&self, all: bool) -> Result<u64, gc::Error> {
        let images = self.store.images();
        let used: BTreeSet<_> = self
            .store
            .snapshots()
            .iter()
            .map(|snapshot| snapshot.image.clone())
            .collect();
        let now = Instant::now();
        let plan = {
            let mut collector = self.collector.lock();
            collector.observe(&images, &used, now);
            if all {
                collector.plan_all(&images, &used)
            } else {
                let disk = self.store.disk().map_err(|_| gc::Error::NoCapacity)?;
                collector.plan(&images, &used, disk, now)?
            }
        };
        let freed = gc::apply(&self.store, &plan)?;
        if freed > 0 {
            tracing::info!(bytes = freed, "Deleted unused images");
        }
        Ok(freed)
    }
}

/// A handle that can delete everything that is unused.
pub(super) struct Unused(pub(super) Arc<Garbage>);

impl Reclaim for Unused {
    fn reclaim(&self) -> BoxFuture<'_, Result<(), gc::Error>> {
        async move {
            let freed = self.0.blocking(|own| own.collect(true)).await?;
            tracing::info!(bytes = freed, "Deleted all unused images");
            Ok(())
        }
        .boxed()
    }
}
