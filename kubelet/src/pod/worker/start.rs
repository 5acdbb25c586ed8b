//! Starting one container: upstream's `kuberuntime_container.startContainer`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio_util::sync::CancellationToken;

use super::kill::How;
use super::sync::Failed;
use super::{SNAPSHOT, Worker};
use crate::hook::Hooked;
use crate::image::store::Image;
use crate::make::{self, Environment, Ingredients, NodeFacts};
use crate::pod::next::{Waiting, Why, exited};
use crate::pod::seen::{self, Seen};
use crate::pod::spec::{self, Kind};
use crate::runtime::sandbox::UserNamespace;
use crate::runtime::{ContainerConfig, ContainerState, Device, ImageConfig, Mount};
use crate::volume::{ContainerMounts, PodVolumes};

/// A container to start, and where.
pub(super) struct Start<'a> {
    pub(super) pod: &'a Arc<Pod>,
    pub(super) kind: Kind,
    pub(super) container: &'a Container,
    pub(super) seen: &'a Seen,
    pub(super) sandbox: &'a str,
    pub(super) ips: &'a [IpAddr],
    pub(super) volumes: &'a PodVolumes,
    pub(super) stop: &'a CancellationToken,
}

fn waiting(reason: &str, message: impl Into<String>) -> Waiting {
    Waiting {
        reason: reason.to_owned(),
        message: message.into(),
    }
}

/// What a container is made of, once everything was read.
struct Made {
    config: ContainerConfig,
    snapshot: String,
}

impl Worker {
    /// Starts it, or says why not in the words of its status.
    pub(super) async fn start(&self, start: &Start<'_>) -> Result<(), Waiting> {
        let began = SystemTime::now();
        let started = self.try_start(start).await;
        // Only now: a status that is told meanwhile must not say that the container waits.
        if let Some(last) = exited(start.seen, &start.container.name) {
            let mut memory = self.memory.lock();
            let finished = last.finished();
            memory.crashes.restarted(start.container, finished, began);
        }
        started
    }

    async fn try_start(&self, start: &Start<'_>) -> Result<(), Waiting> {
        let (pod, name) = (start.pod, &start.container.name);
        let kind = [("container_type", start.kind.metric().to_owned())];
        let started = &self.shared.metrics.started_containers;
        started.get_or_create(&kind).inc();
        let fail = |why: Waiting, text: &str| {
            self.warn_container(pod, name, "Failed", &format!("Error: {text}"));
            why
        };
        let image = self.image(start).await;
        let image = image.map_err(|why| {
            let text = why.reason.clone();
            fail(why, &text)
        })?;
        let permit = self.shared.starts.acquire().await;
        let made = self.make(start, &image).await.map_err(|why| {
            let text = why.message.clone();
            fail(why, &text)
        })?;
        let id = self.create(start, made).await.map_err(|error| {
            let why = waiting("CreateContainerError", error.clone());
            fail(why, &error)
        })?;
        self.note_container(pod, name, "Created", "Container created");
        // Before it runs: whoever sees it run, or collects what it writes, finds the log.
        self.link_log(pod, name, &id).await;
        if let Err(err) = self.shared.parts.runtime.start_container(&id).await {
            let error = component::supervisor::chain(&err);
            return Err(fail(waiting("RunContainerError", error.clone()), &error));
        }
        drop(permit);
        self.note_container(pod, name, "Started", "Container started");
        self.post_start(start, &id).await
    }

    async fn create(&self, start: &Start<'_>, made: Made) -> Result<String, String> {
        let runtime = &self.shared.parts.runtime;
        let created = runtime.create_container(start.sandbox, made.config).await;
        if let Err(err) = &created {
            self.release(made.snapshot).await;
            return Err(component::supervisor::chain(err));
        }
        created.map_err(|err| component::supervisor::chain(&err))
    }

    async fn make(&self, start: &Start<'_>, image: &Image) -> Result<Made, Waiting> {
        let config_error = |message: String| waiting("CreateContainerConfigError", message);
        let facts = self.shared.facts();
        let (pod, container) = (start.pod, start.container);
        let attempt = self.attempt(start, &facts).await;
        let target = target(start).map_err(config_error)?;
        let env = self
            .environment(start, &facts)
            .await
            .map_err(config_error)?;
        let log_path = make::log_path(pod, &container.name, attempt, &facts);
        let user = self.users(pod).await.map_err(config_error)?;
        let ids = user.as_ref().map(UserNamespace::ids).unwrap_or_default();
        let images = self.image_volumes(start, &ids).await?;
        let mounts = self.mounts(start, &facts, &env, &images).await;
        let (mounts, devices) = mounts.map_err(config_error)?;
        let image_config = image_config(image);
        let ingredients = |rootfs: PathBuf| Ingredients {
            pod,
            container,
            facts: &facts,
            env: env.clone(),
            mounts: mounts.clone(),
            devices: devices.clone(),
            volume_groups: start.volumes.groups(),
            user: user.as_ref(),
            image_ref: image.status_id(),
            image_config: image_config.clone(),
            rootfs,
            attempt,
            log_path: log_path.clone(),
            target: target.clone(),
        };
        // What cannot be is found before anything is mounted.
        make::container(ingredients(PathBuf::new()))
            .map_err(|err| config_error(err.to_string()))?;
        let snapshot = format!("{}.{}", self.uid, uuid::Uuid::new_v4().simple());
        let rootfs = self.prepare(&snapshot, image, ids).await;
        let rootfs = rootfs.map_err(|error| waiting("CreateContainerError", error))?;
        let made = make::container(ingredients(rootfs));
        let mut config = made.map_err(|err| config_error(err.to_string()))?;
        config.annotations.insert(SNAPSHOT.into(), snapshot.clone());
        config.image = super::images::shown(container, image);
        Ok(Made { config, snapshot })
    }

    /// How many containers of this name there were: as the runtime knows, else as the logs show.
    async fn attempt(&self, start: &Start<'_>, facts: &NodeFacts) -> u32 {
        let name = &start.container.name;
        if let Some(last) = start.seen.last(name) {
            return last.restarts.saturating_add(1);
        }
        let dir = make::log_dir(start.pod, facts).join(name);
        let count = tokio::task::spawn_blocking(move || {
            let made = std::fs::create_dir_all(&dir);
            if let Err(error) = made {
                tracing::warn!(path = %dir.display(), %error, "Cannot make a directory for logs");
            }
            let files = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let numbers = files.filter_map(|file| {
                let name = file.file_name().into_string().ok()?;
                name.split_once(".log")?.0.parse::<u32>().ok()
            });
            numbers.max().map_or(0, |last| last.saturating_add(1))
        });
        count.await.unwrap_or_default()
    }

    async fn environment(
        &self,
        start: &Start<'_>,
        facts: &NodeFacts,
    ) -> Result<Vec<(String, String)>, String> {
        let informer = self.shared.api.as_ref().map(|api| &api.services);
        let services = informer.filter(|services| services.has_synced());
        let services = services.map(|services| services.lister().list());
        let made = make::environment(Environment {
            pod: start.pod,
            container: start.container,
            facts,
            pod_ips: start.ips,
            objects: self.shared.parts.objects.as_ref(),
            services: services.as_deref(),
            volumes: start.volumes,
        });
        made.await.map_err(|err| err.to_string())
    }

    async fn mounts(
        &self,
        start: &Start<'_>,
        facts: &Arc<NodeFacts>,
        env: &[(String, String)],
        images: &std::collections::BTreeMap<String, PathBuf>,
    ) -> Result<(Vec<Mount>, Vec<Device>), String> {
        let volumes = self.shared.parts.volumes.clone();
        let (pod, container) = (start.pod.clone(), start.container.clone());
        let (made, images, env) = (start.volumes.clone(), images.clone(), env.to_vec());
        let of_volumes = tokio::task::spawn_blocking(move || {
            let expand = |text: &str| make::expand::sub_path(text, &env);
            let of = ContainerMounts {
                pod_uid: spec::uid(&pod),
                container: &container.name,
                mounts: container.volume_mounts.as_deref().unwrap_or_default(),
                devices: container.volume_devices.as_deref().unwrap_or_default(),
                volumes: &made,
                images: &images,
                expand: &expand,
            };
            let devices = volumes.container_devices(&of);
            let mounts = devices.and_then(|d| Ok((volumes.container_mounts(&of)?, d)));
            mounts.map_err(|err| err.to_string())
        });
        let interrupted = |_| "the kubelet is shutting down".to_owned();
        let (mut mounts, devices) = of_volumes.await.map_err(interrupted)??;
        self.add_files(start, facts, &mut mounts).await?;
        Ok((mounts, devices))
    }

    /// Runs the hook; a container whose hook fails is ended.
    async fn post_start(&self, start: &Start<'_>, id: &str) -> Result<(), Waiting> {
        let hooked = Hooked {
            runtime: self.shared.parts.runtime.as_ref(),
            pod: start.pod,
            container: start.container,
            id,
            pod_ip: start.ips.first().copied(),
        };
        let hook = self.shared.hooks.post_start(&hooked);
        let Some(Err(err)) = start.stop.run_until_cancelled(hook).await else {
            return Ok(());
        };
        if let Ok(status) = self.shared.parts.runtime.container_status(id).await {
            let how = How {
                why: Why::Other,
                message: "FailedPostStartHook",
                grace: None,
                order: None,
                pod_ip: start.ips.first().copied(),
            };
            let container = seen::Container::new(status, "");
            let killed = self.kill(start.pod, &container, how);
            if let Some(Err(err)) = start.stop.run_until_cancelled(killed).await {
                self.cannot("end a container whose hook failed", &err);
            }
        }
        Err(waiting("PostStartHookError", err.to_string()))
    }

    /// Removes a container, with its root file system.
    pub(super) async fn remove(&self, container: &seen::Container) -> Result<(), Failed> {
        let status = &container.status;
        let removed = self.shared.parts.runtime.remove_container(&status.id).await;
        match removed {
            Err(err) if !err.is_not_found() => {
                return Err(self.cannot("remove a container", &err));
            }
            _ => {}
        }
        if let Some(snapshot) = status.annotations.get(SNAPSHOT) {
            self.release(snapshot.clone()).await;
        }
        Ok(())
    }
}

/// The container whose processes an ephemeral one is to see.
fn target(start: &Start<'_>) -> Result<Option<String>, String> {
    let mut ephemeral = spec::ephemeral_containers(spec::of(start.pod)).iter();
    let found = ephemeral.find(|c| c.name == start.container.name);
    let found = found.filter(|_| start.kind == Kind::Ephemeral);
    let Some(name) = found.and_then(|c| c.target_container_name.as_deref()) else {
        return Ok(None);
    };
    if name.is_empty() {
        return Ok(None);
    }
    let last = start.seen.last(name);
    let last = last.ok_or_else(|| format!("unable to find target container {name}"))?;
    if last.is(ContainerState::Running) {
        Ok(Some(last.status.id.clone()))
    } else {
        Err(format!("target container {name} is not running"))
    }
}

fn image_config(image: &Image) -> ImageConfig {
    let run = &image.config.config;
    ImageConfig {
        entrypoint: run.entrypoint.clone(),
        cmd: run.cmd.clone(),
        env: run.env.clone(),
        working_dir: run.working_dir.clone(),
        user: run.user.clone(),
        stop_signal: run.stop_signal.parse().ok(),
    }
}
