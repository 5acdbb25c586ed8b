//! What a Service becomes in nftables: a function from a Service port with its endpoints to elements of sets.
//!
//! There is no chain per Service. A map leads from address, protocol and port to the number of a chain:
//! there is one per *number* of endpoints, shared by all Services with that many; the chain draws a number and finds the endpoint under
//! it, with the same address, protocol and port, in a data map. Adding a Service adds elements only.
//!
//! Source of the rules: `pkg/proxy/nftables/proxier.go`, `pkg/proxy/topology.go`.

use std::net::IpAddr;

use crate::elements::{Claim, Data, Dispatch, Key, Kind, SetId, Value};
use crate::service::{Frontend, Protocol, ServicePort};

mod topology;

pub(crate) use topology::Usable;

/// What the kernel holds for a Service.
pub(crate) fn claims(frontend: &Frontend, node_ip: IpAddr) -> Vec<Claim> {
    let mut claims = Claims(Vec::new());
    for port in &frontend.ports {
        claims.port(port, node_ip);
    }
    claims.0
}

struct Claims(Vec<Claim>);

/// Where packets come in: an address or, without one, any of the node's.
#[derive(Clone, Copy)]
struct Entry {
    ip: Option<IpAddr>,
    protocol: Protocol,
    port: u16,
}

impl Entry {
    fn key(self) -> Key {
        match self.ip {
            Some(ip) => Key::new().ip(ip).protocol(self.protocol).port(self.port),
            None => Key::new().protocol(self.protocol).port(self.port),
        }
    }

    fn is_node_port(self) -> bool {
        self.ip.is_none()
    }
}

impl Claims {
    fn add(&mut self, set: SetId, key: Key, value: Value) {
        self.0.push(Claim { set, key, value });
    }

    fn port(&mut self, port: &ServicePort, node_ip: IpAddr) {
        let usable = Usable::of(port);
        let (ip, protocol) = (port.cluster_ip, port.protocol);
        self.add(SetId::ClusterIps, Key::new().ip(ip), Value::Nothing);
        let inside = Entry {
            ip: Some(ip),
            protocol,
            port: port.port,
        };
        self.inside(port, &usable, inside);
        for ip in port.outside_ips() {
            let entry = Entry {
                ip: Some(ip),
                ..inside
            };
            self.outside(port, &usable, entry);
        }
        if port.node_port != 0 {
            let entry = Entry {
                ip: None,
                protocol,
                port: port.node_port,
            };
            self.outside(port, &usable, entry);
        }
        if !port.source_ranges.is_empty() {
            self.firewall(port, node_ip);
        }
        for endpoint in usable.all().filter(|e| e.local) {
            // What comes back to its sender has to come from the node.
            let pair = Key::new().ip(endpoint.ip).ip(endpoint.ip);
            let key = pair.protocol(protocol).port(endpoint.port);
            self.add(SetId::Hairpin, key, Value::Nothing);
        }
    }

    /// Traffic to the cluster IP.
    fn inside(&mut self, port: &ServicePort, usable: &Usable<'_>, entry: Entry) {
        let endpoints = if port.internal_local {
            &usable.local
        } else {
            &usable.cluster
        };
        if endpoints.is_empty() {
            self.refuse(entry, usable);
            return;
        }
        let to = self.dispatch(port, entry, Kind::Inside, endpoints);
        self.add(SetId::ServiceIps, entry.key(), Value::Goto(to));
    }

    /// Traffic to node ports, external and load balancer addresses.
    fn outside(&mut self, port: &ServicePort, usable: &Usable<'_>, entry: Entry) {
        let (services, bypass) = if entry.is_node_port() {
            (SetId::NodePorts, SetId::LocalSourceNodePorts)
        } else {
            (SetId::ServiceIps, SetId::LocalSourceIps)
        };
        if !port.external_local {
            if usable.cluster.is_empty() {
                self.refuse(entry, usable);
                return;
            }
            let to = self.dispatch(port, entry, Kind::Outside, &usable.cluster);
            self.add(services, entry.key(), Value::Goto(to));
            return;
        }
        if usable.any {
            // Clients on the node itself are not held to the policy.
            let to = self.dispatch(port, entry, Kind::Inside, &usable.cluster);
            self.add(bypass, entry.key(), Value::Goto(to));
            let to = self.dispatch(port, entry, Kind::Local, &usable.local);
            self.add(services, entry.key(), Value::Goto(to));
        }
        if usable.local.is_empty() {
            self.refuse(entry, usable);
        }
    }

    /// Rejected if no endpoint is anywhere, dropped if there are some that the policy keeps away.
    fn refuse(&mut self, entry: Entry, usable: &Usable<'_>) {
        let set = if entry.is_node_port() {
            SetId::NoEndpointNodePorts
        } else {
            SetId::NoEndpointIps
        };
        let verdict = if usable.any {
            Value::Drop
        } else {
            Value::Reject
        };
        self.add(set, entry.key(), verdict);
    }

    /// Lists the endpoints under the entry's key; the chain that draws one of them.
    fn dispatch(
        &mut self,
        port: &ServicePort,
        entry: Entry,
        kind: Kind,
        endpoints: &[&crate::service::Endpoint],
    ) -> Dispatch {
        let to = Dispatch {
            kind,
            node_port: entry.is_node_port(),
            count: endpoints.len() as u32,
            sticky: port.affinity.is_some(),
        };
        for (index, endpoint) in endpoints.iter().enumerate() {
            let key = entry.key().numbered(index as u32);
            let data = Data::endpoint(endpoint.ip, endpoint.port);
            self.add(to.endpoints(), key, Value::Endpoint(data));
            let sticky = port.affinity.zip(entry.key().followed_by(data.as_bytes()));
            if let Some((seconds, key)) = sticky {
                let set = SetId::Sticky {
                    node_port: entry.is_node_port(),
                    seconds,
                };
                self.add(set, key, Value::Nothing);
            }
        }
        to
    }

    /// Who may come by the load balancer's addresses.
    fn firewall(&mut self, port: &ServicePort, node_ip: IpAddr) {
        let ranges = &port.source_ranges;
        let node_may = ranges.iter().any(|range| range.contains(&node_ip));
        for ip in port.load_balancer_ips.iter().copied() {
            let key = Key::new().ip(ip).protocol(port.protocol).port(port.port);
            self.add(SetId::FirewallIps, key, Value::Nothing);
            for range in ranges {
                let from = key.ip(range.network());
                self.add(
                    SetId::FirewallSources,
                    from,
                    Value::Until(Data::new().ip(range.broadcast())),
                );
            }
            if node_may {
                // A node that talks to such an address of its own has that address as its source.
                for own in port.load_balancer_ips.iter().copied() {
                    if !ranges.iter().any(|range| range.contains(&own)) {
                        let from = key.ip(own);
                        self.add(
                            SetId::FirewallSources,
                            from,
                            Value::Until(Data::new().ip(own)),
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
