//! The slices that say what an Endpoints object says: one for each of its subsets and families.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::MANAGER;
use crate::endpoints::repack::repack;
use crate::endpointslice::endpoint::{Family, prefix};
use crate::endpointslice::pack::{Changes, Update, endpoints as endpoints_of};
use crate::endpointslice::set::{EndpointSet, Ports, equal};
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME};
use crate::members::{TRIGGER_TIME, parse_ip};

/// Annotations that are about the Endpoints object itself.
const NOT_MIRRORED: [&str; 2] = [
    TRIGGER_TIME,
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// What is to be done.
#[derive(Default, Debug)]
pub struct Plan {
    pub changes: Changes,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses that were left out, those included.
    pub skipped: usize,
}

#[derive(Default)]
struct Wanted {
    ports: Vec<SlicePort>,
    endpoints: EndpointSet,
}

/// Makes the plan. A slice holds at most `most` endpoints, and there is one for each set of ports.
#[must_use]
pub fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], most: usize) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = wanted(endpoints, most, &mut plan);
    let mut groups = BTreeMap::<(String, Ports), Vec<Arc<EndpointSlice>>>::new();
    for slice in existing {
        let ports = Ports::of(slice.ports.as_deref().unwrap_or_default());
        let key = (slice.address_type.clone(), ports);
        groups.entry(key).or_default().push(Arc::clone(slice));
    }
    wanted.retain(|_, wanted| !wanted.endpoints.is_empty());
    for ((family, ports), wanted) in wanted {
        let mut slices = groups
            .remove(&(family.name().to_owned(), ports))
            .unwrap_or_default()
            .into_iter();
        let first = slices.next();
        plan.changes.delete.extend(slices);
        mirror(endpoints, family, wanted, first, &mut plan.changes);
    }
    plan.changes.delete.extend(groups.into_values().flatten());
    recycle(&mut plan.changes);
    plan
}

fn wanted(
    endpoints: &Endpoints,
    most: usize,
    plan: &mut Plan,
) -> BTreeMap<(Family, Ports), Wanted> {
    let mut all = BTreeMap::<(Family, Ports), Wanted>::new();
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<_> = subset.ports.iter().flatten().map(slice_port).collect();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|a| (a, false));
        let mut added = 0;
        for (address, ready) in ready.chain(unready) {
            if added >= most {
                plan.skipped += 1;
                continue;
            }
            let Some((family, endpoint)) = endpoint(address, ready) else {
                plan.invalid += 1;
                plan.skipped += 1;
                continue;
            };
            added += 1;
            let group = all.entry((family, Ports::of(&ports))).or_default();
            group.ports.clone_from(&ports);
            group.endpoints.insert(endpoint);
        }
    }
    all
}

fn slice_port(port: &EndpointPort) -> SlicePort {
    SlicePort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(Family, Endpoint)> {
    let ip = parse_ip(&address.ip)?;
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((if ip.is_ipv6() { Family::V6 } else { Family::V4 }, endpoint))
}

/// Makes the slice of one group, or changes the one that there is.
fn mirror(
    endpoints: &Endpoints,
    family: Family,
    mut wanted: Wanted,
    existing: Option<Arc<EndpointSlice>>,
    changes: &mut Changes,
) {
    if let Some(slice) = &existing
        && is_mirror(endpoints, &wanted.endpoints, slice)
    {
        changes.unchanged.push(Arc::clone(slice));
        return;
    }
    let mut list = Vec::new();
    while let Some(endpoint) = wanted.endpoints.pop() {
        list.push(endpoint);
    }
    let new = EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: Some(list),
        metadata: metadata(endpoints),
        ports: Some(wanted.ports),
    };
    match existing {
        Some(old) => changes.update.push(replaced(old, new)),
        None => changes.create.push(new),
    }
}

/// The old slice with all that the new one says.
fn replaced(old: Arc<EndpointSlice>, new: EndpointSlice) -> Update {
    let metadata = ObjectMeta {
        labels: new.metadata.labels,
        annotations: new.metadata.annotations,
        owner_references: new.metadata.owner_references,
        ..old.metadata.clone()
    };
    let new = EndpointSlice { metadata, ..new };
    Update { old, new }
}

/// Whether a slice says all that the object says, and nothing else.
fn is_mirror(endpoints: &Endpoints, wanted: &EndpointSet, slice: &EndpointSlice) -> bool {
    let has = endpoints_of(slice);
    let name = endpoints.metadata.name.as_deref().unwrap_or_default();
    let uid = endpoints.metadata.uid.as_deref().unwrap_or_default();
    let mut owners = slice.metadata.owner_references.iter().flatten();
    let of_another = owners.any(|o| o.kind == "Endpoints" && o.name == name && o.uid != uid);
    let meta = metadata(endpoints);
    has.len() == wanted.len()
        && has
            .iter()
            .all(|e| wanted.get(e).is_some_and(|w| equal(w, e)))
        && slice.metadata.labels == meta.labels
        && slice.metadata.annotations.clone().unwrap_or_default()
            == meta.annotations.unwrap_or_default()
        && !of_another
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Endpoints".to_owned(),
        name: name.clone(),
        uid: endpoints.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        generate_name: Some(prefix(&name)),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Where a slice of a family would be deleted and another created, the one becomes the other.
fn recycle(changes: &mut Changes) {
    let create = std::mem::take(&mut changes.create);
    for new in create {
        let fits = |old: &Arc<EndpointSlice>| old.address_type == new.address_type;
        match changes.delete.iter().position(fits) {
            Some(at) => {
                let old = changes.delete.remove(at);
                changes.update.push(replaced(old, new));
            }
            None => changes.create.push(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(subsets: &serde_json::Value) -> Endpoints {
        proto::typed::from_json_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "e-1", "labels": {"app": "web"},
                         "annotations": {"a": "b", "endpoints.kubernetes.io/last-change-trigger-time": "x"}},
            "subsets": subsets
        }))
        .unwrap()
    }

    fn made(plan: Plan) -> Vec<Arc<EndpointSlice>> {
        plan.changes.create.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn each_family_and_set_of_ports_has_its_slice() {
        let object = endpoints(&json!([
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
             "ports": [{"port": 80, "protocol": "TCP"}]}
        ]));
        let first = plan(&object, &[], 1000);
        assert_eq!(first.changes.create.len(), 2);
        let v4 = &first.changes.create[0];
        assert_eq!(v4.address_type, "IPv4");
        let ready: Vec<_> = endpoints_of(v4)
            .iter()
            .map(|e| e.conditions.clone().unwrap().ready)
            .collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(v4.metadata.annotations.as_ref().unwrap().len(), 1);
        assert_eq!(v4.metadata.labels.as_ref().unwrap()["app"], "web");
        let again = plan(&object, &made(first), 1000);
        assert!(again.changes.is_empty());
    }

    #[test]
    fn what_is_no_address_or_too_much_is_left_out() {
        let object = endpoints(&json!([
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}, {"ip": "bad"}]}
        ]));
        let plan = plan(&object, &[], 2);
        assert_eq!(endpoints_of(&plan.changes.create[0]).len(), 2);
        assert_eq!((plan.invalid, plan.skipped), (0, 2));
        let bad = endpoints(&json!([{"addresses": [{"ip": "bad"}]}]));
        let plan = super::plan(&bad, &[], 2);
        assert_eq!(
            (plan.invalid, plan.skipped, plan.changes.create.len()),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_slice_of_other_ports_is_used_again() {
        let before = endpoints(
            &json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]),
        );
        let slices = made(plan(&before, &[], 10));
        let after = endpoints(
            &json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 81, "protocol": "TCP"}]}]),
        );
        let plan = plan(&after, &slices, 10);
        assert_eq!((plan.changes.update.len(), plan.changes.len()), (1, 1));
        let none = super::plan(&endpoints(&json!([])), &slices, 10);
        assert_eq!((none.changes.delete.len(), none.changes.len()), (1, 1));
    }
}
