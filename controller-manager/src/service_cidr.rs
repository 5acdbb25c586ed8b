//! Ranges of Service addresses (`service-cidr-controller`): they are ready, and go once no address needs them.
//!
//! Source: `pkg/controller/servicecidrs`, `pkg/api/servicecidr`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use component::client::{Api, Patch};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Key, Lister};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::conditions::made;
use crate::context::Context;
use crate::error::Error;
use crate::finalizer::{Need, need};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const READY: &str = "Ready";

/// How long after its deletion a range goes: all API servers have to know that they must not use it any more.
const GRACE: Duration = Duration::from_secs(10);

/// The ranges of an object; what is none is left out, as validation refuses it.
fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let spec = cidr.spec.as_ref();
    let texts = spec.and_then(|s| s.cidrs.as_ref()).into_iter().flatten();
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn name(cidr: &ServiceCIDR) -> &str {
    cidr.metadata.name.as_deref().unwrap_or_default()
}

/// The address, if the API server's allocator owns it.
fn allocated(address: &IPAddress) -> Option<IpAddr> {
    let labels = address.metadata.labels.as_ref()?;
    let owned = labels.get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR);
    address
        .metadata
        .name
        .as_ref()?
        .parse()
        .ok()
        .filter(|_| owned)
}

/// Whether a Service can have that address out of a range: networks' and broadcast addresses are never given.
fn gives(range: &IpNet, address: IpAddr) -> bool {
    range.contains(&address)
        && range.network() != address
        && (address.is_ipv6() || range.broadcast() != address)
}

fn contains(range: &IpNet, other: &IpNet) -> bool {
    range.prefix_len() <= other.prefix_len() && range.contains(&other.network())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    contains(one, other) || contains(other, one)
}

/// The objects of which a range is such.
fn those(
    all: &[Arc<ServiceCIDR>],
    such: impl Fn(&IpNet) -> bool,
) -> impl Iterator<Item = &Arc<ServiceCIDR>> {
    all.iter()
        .filter(move |cidr| ranges(cidr).iter().any(&such))
}

/// Whether each address of an object has another range to be in.
fn may_go(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl IntoIterator<Item = IpAddr>,
) -> bool {
    let own = ranges(cidr);
    let is_other = |other: &&Arc<ServiceCIDR>| name(other) != name(cidr);
    let has_parent = |range: &IpNet| those(all, |r| contains(r, range)).any(|o| is_other(&o));
    if own.iter().all(has_parent) {
        return true;
    }
    let needs = |address: &IpAddr| {
        own.iter().any(|range| gives(range, *address))
            && !those(all, |r| gives(r, *address)).any(|o| is_other(&o))
    };
    !addresses.into_iter().any(|address| needs(&address))
}

/// What is to be done with an object.
#[derive(PartialEq, Debug)]
enum Step {
    /// Give it the finalizer, if it has none, and say this.
    Tell(Condition),
    Wait(Duration),
    Release,
}

fn step(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl IntoIterator<Item = IpAddr>,
    now: Timestamp,
) -> Step {
    let Some(since) = &cidr.metadata.deletion_timestamp else {
        let text = "Kubernetes Service CIDR is ready";
        return Step::Tell(made(READY, true, "", text, now));
    };
    if !may_go(cidr, all, addresses) {
        let text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return Step::Tell(made(READY, false, "Terminating", text, now));
    }
    let gone = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
    match GRACE.saturating_sub(gone) {
        Duration::ZERO => Step::Release,
        left => Step::Wait(left),
    }
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("ipaddresses");
    let (cidrs, addresses) = (cx.informer::<ServiceCIDR>(), cx.informer::<IPAddress>());
    let this = Arc::new(Ranges {
        cx: cx.clone(),
        cidrs: cidrs.lister(),
        addresses: addresses.lister(),
        recorder: cx.recorder().clone(),
    });
    let (wake, all) = (queue.clone(), cidrs.lister());
    cidrs.subscribe(move |key, event| {
        wake.add(key.clone());
        if !matches!(event, Event::Updated { .. }) {
            let own = ranges(event.object());
            for other in those(&all.list(), |r| own.iter().any(|o| overlap(o, r))) {
                wake.add(Key::of(&other.metadata));
            }
        }
    });
    let (wake, all) = (queue.clone(), cidrs.lister());
    addresses.subscribe(move |_, event| {
        if matches!(event, Event::Updated { .. }) {
            return;
        }
        if let Some(address) = allocated(event.object()) {
            for cidr in those(&all.list(), |r| gives(r, address)) {
                // Only what is being deleted waits for addresses.
                if cidr.metadata.deletion_timestamp.is_some() {
                    wake.add(Key::of(&cidr.metadata));
                }
            }
        }
    });
    cx.run(5, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

struct Ranges {
    cx: Context,
    cidrs: Lister<ServiceCIDR>,
    addresses: Lister<IPAddress>,
    recorder: Recorder,
}

impl Ranges {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(cidr) = self.cidrs.by_key(key) else {
            return Ok(Next::Done);
        };
        let step = if cidr.metadata.deletion_timestamp.is_some() {
            let addresses = self.addresses.list();
            let addresses = addresses.iter().filter_map(|a| allocated(a));
            step(&cidr, &self.cidrs.list(), addresses, self.cx.now())
        } else {
            step(&cidr, &[], [], self.cx.now())
        };
        let api = self.cx.client().await?.all::<ServiceCIDR>();
        match step {
            Step::Wait(left) => return Ok(Next::After(left)),
            Step::Release => finalize(&api, &cidr, false).await?,
            Step::Tell(condition) => {
                finalize(&api, &cidr, true).await?;
                self.tell(&api, &cidr, &condition).await?;
            }
        }
        Ok(Next::Done)
    }

    async fn tell(
        &self,
        api: &Api<ServiceCIDR>,
        cidr: &ServiceCIDR,
        new: &Condition,
    ) -> Result<(), Error> {
        let conditions = cidr.status.as_ref().and_then(|s| s.conditions.as_ref());
        let mut known = conditions.into_iter().flatten();
        let told = |c: &Condition| {
            (&c.type_, &c.status, &c.reason, &c.message)
                == (&new.type_, &new.status, &new.reason, &new.message)
        };
        if known.any(told) {
            return Ok(());
        }
        let wanted = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": cidr.metadata.name},
            "status": {"conditions": [new]},
        });
        let patch = Patch::apply(self.cx.name(), true, &wanted)?;
        match api.patch_status(name(cidr), &patch).await {
            Err(e) if !e.is_not_found() => {
                if new.status == "True" {
                    let text = "The ServiceCIDR Status can not be set to Ready=True";
                    self.recorder
                        .warning(&reference(cidr), "KubernetesServiceCIDRError", text);
                }
                Err(e.into())
            }
            _ => Ok(()),
        }
    }
}

/// Gives the finalizer or takes it.
async fn finalize(api: &Api<ServiceCIDR>, cidr: &ServiceCIDR, add: bool) -> Result<(), Error> {
    let key = match (need(&cidr.metadata, FINALIZER), add) {
        (Need::Add, true) => "finalizers",
        (Need::Remove, false) => "$deleteFromPrimitiveList/finalizers",
        _ => return Ok(()),
    };
    let patch = Patch::strategic(&json!({"metadata": {key: [FINALIZER]}}))?;
    match api.patch(name(cidr), &patch).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, ranges: &[&str], deleted: Option<&str>) -> Arc<ServiceCIDR> {
        Arc::new(
            proto::typed::from_json_value(json!({
                "metadata": {"name": name, "deletionTimestamp": deleted},
                "spec": {"cidrs": ranges},
            }))
            .unwrap(),
        )
    }

    fn may_go_with(others: &[Arc<ServiceCIDR>], addresses: &[&str]) -> bool {
        let own = cidr("own", &["10.0.0.0/24", "fd00::/120"], None);
        let mut all = others.to_vec();
        all.push(Arc::clone(&own));
        may_go(&own, &all, addresses.iter().map(|a| a.parse().unwrap()))
    }

    #[test]
    fn a_range_stays_while_it_alone_has_an_address() {
        assert!(may_go_with(&[], &[]));
        assert!(may_go_with(&[], &["10.1.0.1", "10.0.0.0", "10.0.0.255"]));
        assert!(!may_go_with(&[], &["10.0.0.1"]));
        assert!(!may_go_with(&[], &["fd00::ff"]));
        let half = cidr("half", &["10.0.0.0/25"], None);
        assert!(may_go_with(std::slice::from_ref(&half), &["10.0.0.1"]));
        assert!(!may_go_with(&[half], &["10.0.0.200"]));
    }

    #[test]
    fn a_range_within_others_may_go_at_once() {
        let four = cidr("four", &["10.0.0.0/8"], None);
        let six = cidr("six", &["fd00::/64"], None);
        assert!(may_go_with(&[four, six], &["10.0.0.1", "fd00::1"]));
    }

    #[test]
    fn a_deleted_range_waits_until_all_servers_know() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let gone = cidr("own", &["10.0.0.0/24"], Some("2026-01-01T00:00:00Z"));
        let all = [Arc::clone(&gone)];
        let now = at("2026-01-01T00:00:04Z");
        assert_eq!(
            step(&gone, &all, [], now),
            Step::Wait(Duration::from_secs(6))
        );
        let later = at("2026-01-01T00:00:10Z");
        assert_eq!(step(&gone, &all, [], later), Step::Release);
        let used = step(&gone, &all, ["10.0.0.9".parse().unwrap()], later);
        assert!(matches!(used, Step::Tell(c) if c.status == "False" && c.reason == "Terminating"));
        let there = cidr("own", &["10.0.0.0/24"], None);
        assert!(matches!(step(&there, &all, [], now), Step::Tell(c) if c.status == "True"));
    }
}
