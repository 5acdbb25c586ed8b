//! Chains that draw endpoints, what leads to them, and clients that stay with theirs.

use std::collections::BTreeSet;

use super::steps::{compare, lookup, port, rule, to_port};
use super::{AFFINITY, Chain, Layout, NODE_PORT_AFFINITY, REMEMBER};
use crate::elements::{Dispatch, Kind, SetId};
use crate::nft::{CT_IPV4, CT_IPV6, CT_PORT, Expr, Family, Lookup, META_L4PROTO, Rule, reg};

impl Layout {
    /// The rules of a chain that draws one of a number of endpoints.
    pub(crate) fn dispatch(&self, dispatch: Dispatch) -> Chain {
        let mut rules = Vec::new();
        if dispatch.kind == Kind::Outside {
            rules.push(self.mark());
        }
        if dispatch.kind == Kind::Local {
            rules.extend(self.local_sources(dispatch.node_port));
        }
        if dispatch.count > 0 {
            if dispatch.sticky {
                rules.push(self.sticky(dispatch));
            }
            let (mut draw, value) = self.draw(dispatch);
            draw.push(self.destination(value));
            rules.push(draw);
        }
        Chain {
            name: dispatch.name(),
            hook: None,
            rules,
        }
    }

    /// The node's pods go anywhere, as if they had come from outside and back; so does the node itself,
    /// under the node's address.
    fn local_sources(&self, node_port: bool) -> Vec<Rule> {
        let anywhere = || {
            self.go(if node_port {
                SetId::LocalSourceNodePorts
            } else {
                SetId::LocalSourceIps
            })
        };
        let from_node = || {
            vec![
                Expr::AddressType {
                    to: reg(0),
                    source: true,
                },
                compare(0, true, u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec()),
            ]
        };
        let from_pods = self.pods_traffic(true).map(|pods| rule([pods, anywhere()]));
        let mut rules: Vec<Rule> = from_pods.into_iter().collect();
        rules.push(rule([from_node(), self.mark()]));
        rules.push(rule([from_node(), anywhere()]));
        rules
    }

    /// Goes to the chain whose number a map holds for the packet's entry.
    ///
    /// `nft` knows no lookup of what was looked up: older ones abort when they list one. So the number is
    /// put where the entry began, and they list a lookup of that, with words that say what it is: the map's
    /// value begins one register before the entry, and the number is its second half.
    pub(super) fn go(&self, map: SetId) -> Rule {
        let node_port = matches!(map, SetId::NodePorts | SetId::LocalSourceNodePorts);
        let inside = matches!(map, SetId::LocalSourceIps | SetId::LocalSourceNodePorts);
        let entry = if node_port {
            to_port(1)
        } else {
            self.to_entry(1)
        };
        let words = match (node_port, inside) {
            (false, false) => "not the address: the number that service-ips holds for it",
            (false, true) => "not the address: the number that local-source-ips holds for it",
            (true, false) => {
                "not the protocol: the number that service-nodeports holds for the port"
            }
            (true, true) => {
                "not the protocol: the number that local-source-nodeports holds for the port"
            }
        };
        let steps = vec![
            lookup(map, 1, Lookup::Value(reg(0))),
            lookup(SetId::Chains { node_port, inside }, 1, Lookup::Verdict),
            Expr::Comment(words),
        ];
        rule([entry, steps])
    }

    /// Goes to the endpoint that is remembered for the client, if there is one.
    fn sticky(&self, dispatch: Dispatch) -> Rule {
        let (map, entry, words) = self.affinity(dispatch.node_port);
        let found = words + self.words();
        let go = vec![
            self.from(words),
            Expr::Lookup {
                set: map.to_owned(),
                key: reg(0),
                what: Lookup::Value(reg(found)),
            },
            self.destination(found),
        ];
        rule([entry, go])
    }

    /// The map of remembered clients, the entry that begins its key, and how many registers that takes.
    fn affinity(&self, node_port: bool) -> (&'static str, Rule, u32) {
        match node_port {
            false => (AFFINITY, self.to_entry(0), self.words() + 2),
            true => (NODE_PORT_AFFINITY, to_port(0), 2),
        }
    }

    /// Remembers where new connections to sticky Services went, once that is known; for clients that are
    /// remembered already, only their time begins anew.
    ///
    /// Not done where the endpoint is drawn: older `nft` cannot print such a rule, and then prints none.
    pub(crate) fn remember(&self, periods: &BTreeSet<u32>) -> Chain {
        let both = periods
            .iter()
            .flat_map(|seconds| [(false, *seconds), (true, *seconds)]);
        Chain {
            name: REMEMBER.to_owned(),
            hook: None,
            rules: both
                .map(|(node_port, seconds)| self.remember_rule(node_port, seconds))
                .collect(),
        }
    }

    fn remember_rule(&self, node_port: bool, seconds: u32) -> Rule {
        let (map, _, words) = self.affinity(node_port);
        let address = match self.family {
            Family::Ipv4 => CT_IPV4,
            Family::Ipv6 => CT_IPV6,
        };
        let mut steps = Vec::new();
        if !node_port {
            steps.push(Expr::FirstSentTo {
                to: reg(0),
                key: address,
            });
        }
        let value = words + self.words();
        steps.extend([
            Expr::Meta {
                to: reg(words - 2),
                key: META_L4PROTO,
            },
            Expr::FirstSentTo {
                to: reg(words - 1),
                key: CT_PORT,
            },
            // Only what was sent to an endpoint of the Service counts.
            self.to(words),
            port(words + self.words()),
            lookup(SetId::Sticky { node_port, seconds }, 0, Lookup::In),
            self.from(words),
            self.to(value),
            port(value + self.words()),
            Expr::Remember {
                map: map.to_owned(),
                key: reg(0),
                value: reg(value),
                seconds,
            },
        ]);
        steps
    }

    /// Draws an endpoint; the register of the value, without its base.
    fn draw(&self, dispatch: Dispatch) -> (Rule, u32) {
        let (entry, entry_words) = match dispatch.node_port {
            false => (self.to_entry(1), self.words() + 2),
            true => (to_port(1), 2),
        };
        let value = 1 + entry_words;
        let random = Expr::Random {
            to: reg(0),
            below: dispatch.count,
        };
        let find = lookup(dispatch.endpoints(), 0, Lookup::Value(reg(value)));
        (rule([vec![random], entry, vec![find]]), value)
    }

    fn destination(&self, value: u32) -> Expr {
        Expr::Destination {
            family: self.family,
            address: reg(value),
            port: reg(value + self.words()),
        }
    }
}
