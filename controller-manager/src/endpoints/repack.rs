//! The canonical form of the subsets of an Endpoints object, and its limit.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// Addresses in one object.
pub const MOST: usize = 1000;

/// What makes two addresses the same.
type AddressKey = (String, Option<String>);
/// The fields of a port, to compare.
type PortKey = (String, i32, String, Option<String>);

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address.target_ref.as_ref().and_then(|t| t.uid.clone());
    (address.ip.clone(), uid)
}

/// Subsets with the same meaning in one order: addresses with the same ports together, each once. An
/// address that is not ready in one place is not ready.
#[must_use]
pub fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses = BTreeMap::<AddressKey, EndpointAddress>::new();
    // The ports, each with the addresses that serve it and whether they are ready. No port is a port too.
    let mut serving = BTreeMap::<Option<PortKey>, BTreeMap<AddressKey, bool>>::new();
    for subset in subsets {
        let ports: Vec<_> = subset
            .ports
            .iter()
            .flatten()
            .map(|p| Some(port_key(p)))
            .collect();
        let ports = if ports.is_empty() { vec![None] } else { ports };
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|a| (a, false));
        for (address, ready) in ready.chain(unready) {
            let key = address_key(address);
            addresses
                .entry(key.clone())
                .or_insert_with(|| address.clone());
            for port in &ports {
                let known = serving.entry(port.clone()).or_default();
                let state = known.entry(key.clone()).or_insert(ready);
                *state &= ready;
            }
        }
    }
    let mut by_addresses = BTreeMap::<Vec<(AddressKey, bool)>, Vec<EndpointPort>>::new();
    for (port, keys) in serving {
        let ports = by_addresses.entry(keys.into_iter().collect()).or_default();
        ports.extend(port.map(port_of));
    }
    let pick = |keys: &[(AddressKey, bool)], wanted: bool| {
        let picked: Vec<_> = keys
            .iter()
            .filter(|(_, ready)| *ready == wanted)
            .filter_map(|(key, _)| addresses.get(key).cloned())
            .collect();
        (!picked.is_empty()).then_some(picked)
    };
    by_addresses
        .into_iter()
        .map(|(keys, ports)| EndpointSubset {
            addresses: pick(&keys, true),
            not_ready_addresses: pick(&keys, false),
            ports: (!ports.is_empty()).then_some(ports),
        })
        .collect()
}

fn port_key(port: &EndpointPort) -> PortKey {
    (
        port.name.clone().unwrap_or_default(),
        port.port,
        port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port.app_protocol.clone(),
    )
}

fn port_of((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    EndpointPort {
        app_protocol,
        name: (!name.is_empty()).then_some(name),
        port,
        protocol: Some(protocol),
    }
}

/// How many addresses there are.
#[must_use]
pub fn count(subsets: &[EndpointSubset]) -> usize {
    subsets.iter().map(|s| ready(s) + unready(s)).sum()
}

fn ready(subset: &EndpointSubset) -> usize {
    subset.addresses.as_ref().map_or(0, Vec::len)
}

fn unready(subset: &EndpointSubset) -> usize {
    subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
}

/// Takes addresses away until no more than [`MOST`] are left, of each subset in proportion, those that
/// are not ready first. Says whether there were too many.
pub fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    if count(subsets) <= MOST {
        return false;
    }
    let total_ready: usize = subsets.iter().map(ready).sum();
    let total_unready: usize = subsets.iter().map(unready).sum();
    let too_many_ready = total_ready > MOST;
    let (most, total) = if too_many_ready {
        (MOST, total_ready)
    } else {
        (MOST - total_ready, total_unready)
    };
    let mut left = most;
    for subset in subsets {
        let has = if too_many_ready {
            ready(subset)
        } else {
            unready(subset)
        };
        let share = (has * most).div_ceil(total.max(1)).min(left);
        if too_many_ready {
            subset.not_ready_addresses = None;
        }
        let list = if too_many_ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        if let Some(addresses) = list {
            addresses.truncate(share);
            left -= addresses.len();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subsets(value: serde_json::Value) -> Vec<EndpointSubset> {
        proto::typed::from_json_value(value).unwrap()
    }

    #[test]
    fn addresses_with_the_same_ports_come_together() {
        let packed = repack(&subsets(json!([
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "b", "port": 2, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "a", "port": 1, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 1, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "b", "port": 2, "protocol": "TCP"}]},
            {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "a", "port": 1, "protocol": "TCP"}]},
        ])));
        assert_eq!(
            serde_json::to_value(&packed).unwrap(),
            json!([
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "b", "port": 2, "protocol": "TCP"}]},
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "notReadyAddresses": [{"ip": "10.0.0.3"}],
                 "ports": [{"name": "a", "port": 1, "protocol": "TCP"}]},
            ])
        );
        assert_eq!(repack(&packed), packed);
    }

    #[test]
    fn what_is_not_ready_anywhere_is_not_ready() {
        let packed = repack(&subsets(json!([
            {"notReadyAddresses": [{"ip": "10.0.0.1"}]},
            {"addresses": [{"ip": "10.0.0.1"}]},
        ])));
        assert_eq!(
            serde_json::to_value(&packed).unwrap(),
            json!([{"notReadyAddresses": [{"ip": "10.0.0.1"}]}])
        );
    }

    fn many(ready: usize, unready: usize) -> EndpointSubset {
        let list = |n: usize, net: usize| {
            let address = |i| EndpointAddress {
                ip: format!("10.{net}.{}.{}", i / 256, i % 256),
                ..EndpointAddress::default()
            };
            Some((0..n).map(address).collect())
        };
        EndpointSubset {
            addresses: list(ready, 1),
            not_ready_addresses: list(unready, 2),
            ports: None,
        }
    }

    #[test]
    fn truncation_keeps_what_is_ready_and_shares_what_is_left() {
        let mut all = [many(500, 400), many(300, 100)];
        assert!(truncate(&mut all));
        let sizes: Vec<_> = all.iter().map(|s| (ready(s), unready(s))).collect();
        assert_eq!(sizes, [(500, 160), (300, 40)]);
        let mut all = [many(900, 10), many(300, 10)];
        assert!(truncate(&mut all));
        let sizes: Vec<_> = all.iter().map(|s| (ready(s), unready(s))).collect();
        assert_eq!(sizes, [(750, 0), (250, 0)]);
        assert!(!truncate(&mut [many(1000, 0)]));
    }
}
