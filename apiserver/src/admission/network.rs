//! Ingresses and services: the default class of an ingress, and services without external addresses
//! where those are not wanted.
//!
//! Upstream: `plugin/pkg/admission/network`.

use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::status::Failure;
use resources::strategies::{networking, newest_default};

use super::{Attributes, CREATE, Operation, Plugin, WRITES};
use crate::server::Server;

pub(super) const DEFAULT_INGRESS_CLASS: Plugin = Plugin {
    name: "DefaultIngressClass",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|server, write| Box::pin(std::future::ready(default_class(server, write)))),
    ..Plugin::OFF
};

pub(super) const DENY_EXTERNAL_IPS: Plugin = Plugin {
    name: "DenyServiceExternalIPs",
    operations: WRITES,
    validate: Some(|_, write| Box::pin(std::future::ready(deny_external(write)))),
    ..Plugin::OFF
};

const GROUP: &str = "networking.k8s.io";

fn default_class(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.operation != Operation::Create || !write.is(GROUP, "ingresses") {
        return Ok(());
    }
    let Some(ingress) = write.object.as_deref_mut() else {
        return Ok(());
    };
    let named = ingress
        .at(&[n::SPEC, n::INGRESS_CLASS_NAME])
        .is_some_and(|v| !v.is_null());
    if named || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some() {
        return Ok(());
    }
    let classes = server.objects(GROUP, "ingressclasses");
    if let Some(name) = newest_default(&classes, &[networking::DEFAULT_CLASS]) {
        ingress.set(&[n::SPEC, n::INGRESS_CLASS_NAME], name);
    }
    Ok(())
}

fn deny_external(write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "services") {
        return Ok(());
    }
    let addresses = |service: Option<&Value>| -> Vec<Value> {
        service
            .and_then(|s| s.at(&[n::SPEC, n::EXTERNAL_IPS]))
            .and_then(Value::as_list)
            .unwrap_or_default()
            .to_vec()
    };
    let old = addresses(write.old);
    if addresses(write.object.as_deref())
        .iter()
        .all(|a| old.contains(a))
    {
        return Ok(());
    }
    Err(write.forbid("Use of external IPs is denied by admission control"))
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;

    use super::super::testing::{Asked, decode};
    use super::*;

    /// CVE-2020-8554.
    #[test]
    fn a_service_gets_no_new_addresses_from_outside() {
        let service = |addresses: &str| {
            let text = format!(r#"{{"spec":{{"externalIPs":{addresses}}}}}"#);
            decode(&text, core_v1::SERVICE)
        };
        let (none, one, two) = ("[]", r#"["192.0.2.1"]"#, r#"["192.0.2.1","192.0.2.2"]"#);
        let create = |new| Asked::create("services", service(new)).ask(deny_external);
        assert!(create(none).is_ok() && create(one).is_err());
        let update =
            |new, old| Asked::update("services", service(new), service(old)).ask(deny_external);
        assert!(update(one, one).is_ok() && update(one, two).is_ok());
        assert!(update(two, one).is_err() && update(one, none).is_err());
    }
}
