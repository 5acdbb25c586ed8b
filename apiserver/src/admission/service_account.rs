//! `ServiceAccount`: every pod runs as an account that exists, and gets its token, the cluster's
//! authorities and the name of its namespace mounted.
//!
//! Upstream: `plugin/pkg/admission/serviceaccount`.

use std::time::Duration;

use proto::catalogue::names as n;
use proto::view::core_v1::{Pod, PodSpec, ServiceAccount};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};
use resources::status::Failure;

use super::{Attributes, Operation, Plugin, WRITES};
use crate::auth::service_account::PROJECTED_SECONDS;
use crate::authz::node::references::{self, Environment, is_mirror};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "ServiceAccount",
    on_by_default: true,
    operations: WRITES,
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Upstream's `ProjectedVolumeSourceDefaultMode`, 0644.
const MODE: i64 = 0o644;
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Create || !write.is("", "pods") {
        return Ok(());
    }
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    if is_mirror(pod) {
        // A kubelet deletes a mirror pod whose spec is not the one of its file.
        return Ok(());
    }
    let spec = pod.ensure(&[n::SPEC]);
    if PodSpec::of(Node::new(spec))
        .service_account_name()
        .is_empty()
    {
        spec.set(&[n::SERVICE_ACCOUNT_NAME], DEFAULT);
        spec.set(&[n::SERVICE_ACCOUNT], DEFAULT);
    }
    let name = PodSpec::of(Node::new(spec))
        .service_account_name()
        .to_owned();
    let account = account(server, write, &name).await?;
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    let spec = pod.ensure(&[n::SPEC]);
    let view = ServiceAccount::of(Node::new(&account));
    let own = PodSpec::of(Node::new(spec)).automount_service_account_token();
    if own
        .or(view.automount_service_account_token())
        .unwrap_or(true)
    {
        mount_token(spec, &mut || rand::random());
    }
    if PodSpec::of(Node::new(spec)).image_pull_secrets().is_empty()
        && !view.image_pull_secrets().is_empty()
    {
        let secrets: Vec<Value> = view
            .image_pull_secrets()
            .iter()
            .map(|s| fields(&[(n::NAME, s.name().into())]))
            .collect();
        spec.set(&[n::IMAGE_PULL_SECRETS], secrets);
    }
    Ok(())
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let ephemeral =
        write.operation == Operation::Update && write.subresource == "ephemeralcontainers";
    if !write.is_any("", "pods")
        || !(ephemeral || write.operation == Operation::Create && write.subresource.is_empty())
    {
        return Ok(());
    }
    let Some(object) = write.object.as_deref() else {
        return Ok(());
    };
    let spec = Pod::of(Node::new(object)).spec();
    if !ephemeral && is_mirror(object) {
        return mirror_problem(spec).map_or(Ok(()), |why| Err(write.forbid(why)));
    }
    let name = spec.service_account_name();
    if name.is_empty() {
        let why = format!(
            "no service account specified for pod {}/{}",
            write.namespace,
            meta::name(object)
        );
        return Err(write.forbid(&why));
    }
    let account = account(server, write, name).await?;
    let enforced = meta::annotation(&account, ENFORCE_MOUNTABLE).is_some_and(go_true);
    let problem = if enforced {
        unlisted_secret(spec, &account, ephemeral)
    } else {
        None
    };
    problem.map_or(Ok(()), |why| Err(write.forbid(&why)))
}

/// Whether Go's `strconv.ParseBool` reads true.
fn go_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// The account of a pod. The default one is waited for: a controller makes it, a moment after the
/// namespace.
async fn account(server: &Server, write: &Attributes<'_>, name: &str) -> Result<Value, Failure> {
    const ATTEMPTS: u32 = 10;
    let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
    let pause = Duration::from_millis(rand::random_range(100..200));
    let looking_up = |why: &str| {
        write.forbid(&format!(
            "error looking up service account {}/{name}: {why}",
            write.namespace
        ))
    };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
        }
        match server
            .lookup("", "serviceaccounts", write.namespace, name)
            .await
        {
            Ok(Some(account)) => return Ok(account),
            Ok(None) => {}
            Err(failure) => return Err(looking_up(failure.message())),
        }
    }
    Err(looking_up(&format!("serviceaccount \"{name}\" not found")))
}

fn mirror_problem(spec: PodSpec<'_>) -> Option<&'static str> {
    if !spec.service_account_name().is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if references::secrets(spec).next().is_some() {
        return Some("a mirror pod may not reference secrets");
    }
    let mut sources = spec
        .volumes()
        .iter()
        .filter_map(|v| v.projected())
        .flat_map(|p| p.sources().iter());
    sources
        .any(|s| s.service_account_token().is_some())
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// The first secret of a pod that its account does not list, as a refusal.
fn unlisted_secret(spec: PodSpec<'_>, account: &Value, only_ephemeral: bool) -> Option<String> {
    let view = ServiceAccount::of(Node::new(account));
    let owner = meta::name(account);
    let listed = |name: &str| view.secrets().iter().any(|s| s.name() == name);
    if only_ephemeral {
        let mut containers = spec.ephemeral_containers().iter().map(Environment::from);
        return containers
            .find_map(|c| unlisted_environment("ephemeral container", c, owner, &listed));
    }
    let volume = spec
        .volumes()
        .iter()
        .filter_map(|v| v.secret())
        .map(|s| s.secret_name())
        .find(|name| !listed(name));
    if let Some(name) = volume {
        return Some(format!(
            "volume with secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
        ));
    }
    let mut init = spec.init_containers().iter().map(Environment::from);
    let mut usual = spec.containers().iter().map(Environment::from);
    init.find_map(|c| unlisted_environment("init container", c, owner, &listed))
        .or_else(|| usual.find_map(|c| unlisted_environment("container", c, owner, &listed)))
        .or_else(|| {
            let pulled = |name: &str| view.image_pull_secrets().iter().any(|s| s.name() == name);
            let (i, secret) = spec.image_pull_secrets().iter().enumerate().find(|(_, s)| !pulled(s.name()))?;
            Some(format!(
                "imagePullSecrets[{i}].name=\"{}\" is not allowed because service account {owner} does not reference that imagePullSecret",
                secret.name()
            ))
        })
}

fn unlisted_environment(
    what: &str,
    c: Environment<'_>,
    owner: &str,
    listed: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let refusal = |way: String, name: &str| {
        format!(
            "{what} {} with {way} referencing secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret",
            c.name
        )
    };
    for variable in c.env {
        if let Some(secret) = variable
            .value_from()
            .and_then(|f| f.secret_key_ref())
            .filter(|s| !listed(s.name()))
        {
            return Some(refusal(
                format!("envVar {}", variable.name()),
                secret.name(),
            ));
        }
    }
    let mut from = c.from.iter().filter_map(|f| f.secret_ref());
    from.find(|s| !listed(s.name()))
        .map(|s| refusal("envFrom".into(), s.name()))
}

/// Mounts the token into every container that has nothing of its own at its place.
fn mount_token(spec: &mut Value, random: &mut dyn FnMut() -> u64) {
    let volumes = spec
        .get(n::VOLUMES)
        .and_then(Value::as_list)
        .unwrap_or_default();
    let name_of = |v: &Value| {
        v.get(n::NAME)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let there = volumes
        .iter()
        .map(name_of)
        .find(|name| name.starts_with(VOLUME_PREFIX));
    let name = there
        .clone()
        .unwrap_or_else(|| meta::generated_name(VOLUME_PREFIX, random));
    let mut mounted = false;
    for kind in [n::INIT_CONTAINERS, n::CONTAINERS] {
        let containers = spec
            .get_mut(kind)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten();
        for container in containers {
            let mounts = container.ensure(&[n::VOLUME_MOUNTS]).make_list();
            if mounts
                .iter()
                .any(|m| m.get(n::MOUNT_PATH).and_then(Value::as_str) == Some(MOUNT_PATH))
            {
                continue;
            }
            let mount = [
                (n::NAME, name.as_str().into()),
                (n::READ_ONLY, true.into()),
                (n::MOUNT_PATH, MOUNT_PATH.into()),
            ];
            mounts.push(fields(&mount));
            mounted = true;
        }
    }
    if mounted && there.is_none() {
        spec.ensure(&[n::VOLUMES])
            .make_list()
            .push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    let token = fields(&[
        (n::PATH, "token".into()),
        (n::EXPIRATION_SECONDS, PROJECTED_SECONDS.into()),
    ]);
    let authorities = fields(&[(n::KEY, "ca.crt".into()), (n::PATH, "ca.crt".into())]);
    let authorities = fields(&[
        (n::NAME, "kube-root-ca.crt".into()),
        (n::ITEMS, vec![authorities].into()),
    ]);
    let field = fields(&[
        (n::API_VERSION, "v1".into()),
        (n::FIELD_PATH, "metadata.namespace".into()),
    ]);
    let namespace = fields(&[(n::PATH, "namespace".into()), (n::FIELD_REF, field)]);
    let namespace = fields(&[(n::ITEMS, vec![namespace].into())]);
    let sources = vec![
        fields(&[(n::SERVICE_ACCOUNT_TOKEN, token)]),
        fields(&[(n::CONFIG_MAP, authorities)]),
        fields(&[(n::DOWNWARD_API, namespace)]),
    ];
    let projected = fields(&[(n::DEFAULT_MODE, MODE.into()), (n::SOURCES, sources.into())]);
    fields(&[(n::NAME, name.into()), (n::PROJECTED, projected)])
}

fn fields(of: &[(NameId, Value)]) -> Value {
    let mut value = Value::object();
    for (name, field) in of {
        value.set(&[*name], field.clone());
    }
    value
}

#[cfg(test)]
mod tests;
