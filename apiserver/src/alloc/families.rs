//! IP families of a service: which it gets, from what it and the cluster say.
//!
//! Upstream: `initIPFamilyFields` in `pkg/registry/core/service/storage/alloc.go`.

use ipnet::IpNet;
use proto::catalogue::names as n;
use proto::path::{Errors, FieldError, Reason, quote};
use proto::view::core_v1::Service;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::status::Failure;
use resources::strategies::service::validation;

use super::{cluster_ips, is_headless, type_of};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    #[must_use]
    pub fn of(range: &IpNet) -> Self {
        if matches!(range, IpNet::V4(_)) {
            Self::V4
        } else {
            Self::V6
        }
    }

    fn of_ip(ip: &str) -> Option<Self> {
        ip.parse()
            .ok()
            .map(|a: std::net::IpAddr| if a.is_ipv4() { Self::V4 } else { Self::V6 })
    }

    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// `spec.ipFamilies`.
#[must_use]
pub fn of(service: &Value) -> Vec<Family> {
    let items = service
        .at(&[n::SPEC, n::IP_FAMILIES])
        .and_then(Value::as_list)
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|v| Family::parse(v.as_str()?))
        .collect()
}

fn set(service: &mut Value, families: &[Family]) {
    let items: Vec<Value> = families.iter().map(|f| f.text().into()).collect();
    service.set(&[n::SPEC, n::IP_FAMILIES], items);
}

/// Sets `spec.clusterIPs` and the first of them as `spec.clusterIP`.
pub fn set_cluster_ips(service: &mut Value, ips: &[String]) {
    if let Some(first) = ips.first() {
        service.set(&[n::SPEC, n::CLUSTER_IP], first.as_str());
    }
    service.set(&[n::SPEC, n::CLUSTER_IPS], ips.to_vec());
}

fn policy(service: &Value) -> Option<&str> {
    service
        .at(&[n::SPEC, n::IP_FAMILY_POLICY])
        .and_then(Value::as_str)
}

fn has_selector(service: &Value) -> bool {
    service
        .at(&[n::SPEC, n::SELECTOR])
        .and_then(Value::as_map)
        .is_some_and(|m| !m.is_empty())
}

/// A `PreferDualStack` service keeps what it has until somebody asks for a change: a cluster that
/// becomes dual stack does not change its services by itself.
#[must_use]
pub fn unchanged_prefer_dual_stack(new: &Value, old: &Value) -> bool {
    const PREFER: &str = "PreferDualStack";
    policy(new) == Some(PREFER)
        && policy(old).is_none_or(|p| p == PREFER)
        && type_of(new) == type_of(old)
        && type_of(new) != "ExternalName"
        && cluster_ips(new) == cluster_ips(old)
        && of(new) == of(old)
}

/// Completes policy and families, so that they say what the service will get. `configured` are the
/// cluster's families, the default one first.
pub fn complete(
    new: &mut Value,
    old: Option<&Value>,
    configured: &[Family],
) -> Result<(), Failure> {
    if type_of(new) == "ExternalName"
        || old.is_some_and(|old| unchanged_prefer_dual_stack(new, old))
    {
        return Ok(());
    }
    let selectorless_headless = is_headless(new) && !has_selector(new);
    if policy(new).is_none() {
        let inferred = match old.and_then(policy) {
            Some(policy) => policy,
            None if selectorless_headless => "RequireDualStack",
            None => "SingleStack",
        };
        let inferred = inferred.to_owned();
        new.set(&[n::SPEC, n::IP_FAMILY_POLICY], inferred);
    }
    let policy = policy(new).unwrap_or_default().to_owned();
    refuse(new, related(new, old))?;
    let errors = reconcile(new, old, &policy, configured);
    refuse(new, errors)?;
    let mut families = of(new);
    if selectorless_headless {
        // Headless without selector: the endpoints are somebody else's, so no family is out of reach.
        if families.is_empty() {
            families.extend(configured.first());
        }
        if families.len() == 1 && policy != "SingleStack" {
            families.push(families[0].other());
        }
        set(new, &families);
        return Ok(());
    }
    refuse(new, unserved(&families, &policy, configured))?;
    if families.is_empty() {
        families.extend(configured.first());
    }
    if policy != "SingleStack" && families.len() == 1 && configured.len() == 2 {
        families.push(families[0].other());
    }
    set(new, &families);
    Ok(())
}

fn refuse(service: &Value, errors: Vec<FieldError>) -> Result<(), Failure> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid(
            "",
            "Service",
            meta::name(service),
            &errors,
        ))
    }
}

fn error(field: &str, value: String, detail: &str) -> FieldError {
    FieldError {
        reason: Reason::Invalid,
        field: field.into(),
        value,
        detail: detail.into(),
    }
}

/// What must hold of addresses and families before they can be reconciled; all of it is asked again in
/// the strategy's validation.
fn related(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let spec = |object| Service::of(Node::new(object)).spec();
    let mut errors = Errors::new(service);
    validation::cluster_ips(spec(service), old.map(spec), &mut errors);
    errors.into_vec()
}

/// Policy, families and addresses must go together; families are inferred from addresses.
fn reconcile(
    new: &mut Value,
    old: Option<&Value>,
    policy: &str,
    configured: &[Family],
) -> Vec<FieldError> {
    const FIELD: &str = "spec.ipFamilyPolicy";
    let mut errors = Vec::new();
    let mut ips = cluster_ips(new);
    let mut families = of(new);
    if let Some(old) = old {
        let (old_ips, old_families) = (cluster_ips(old), of(old));
        if policy == "SingleStack" {
            if ips == old_ips && ips.len() > 1 {
                ips.truncate(1);
                set_cluster_ips(new, &ips);
            }
            if families == old_families && families.len() > 1 {
                families.truncate(1);
                set(new, &families);
            }
        } else {
            if !ips.is_empty() && ips.len() < old_ips.len() {
                errors.push(error(
                    FIELD,
                    quote(policy),
                    "must be 'SingleStack' to release the secondary cluster IP",
                ));
            }
            if !families.is_empty() && families.len() < old_families.len() {
                errors.push(error(
                    FIELD,
                    quote(policy),
                    "must be 'SingleStack' to release the secondary IP family",
                ));
            }
        }
    }
    if policy == "SingleStack" {
        let detail = |what: &str| {
            format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            )
        };
        if ips.len() == 2 {
            errors.push(error(FIELD, quote(policy), &detail("cluster IPs")));
        }
        if families.len() == 2 {
            errors.push(error(FIELD, quote(policy), &detail("IP families")));
        }
    }
    for (i, ip) in ips.iter().enumerate() {
        let Some(family) = Family::of_ip(ip) else {
            break;
        };
        if i >= families.len() {
            if configured.contains(&family) {
                families.push(family);
            } else {
                let detail = format!("{} is not configured on this cluster", family.text());
                errors.push(error(
                    &format!("spec.clusterIPs[{i}]"),
                    super::list_text(&ips),
                    &detail,
                ));
            }
        }
    }
    if errors.is_empty() && !families.is_empty() {
        set(new, &families);
    }
    errors
}

/// Families and policies that this cluster cannot serve.
fn unserved(families: &[Family], policy: &str, configured: &[Family]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && configured.len() < 2 {
        errors.push(error(
            "spec.ipFamilyPolicy",
            quote(policy),
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (i, family) in families.iter().enumerate() {
        if !configured.contains(family) {
            errors.push(error(
                &format!("spec.ipFamilies[{i}]"),
                quote(family.text()),
                "not configured on this cluster",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(json: &str) -> Value {
        proto::codec::json::parse(json.as_bytes()).expect("JSON")
    }

    fn completed(json: &str, configured: &[Family]) -> Result<(String, Vec<Family>), String> {
        let mut s = service(json);
        complete(&mut s, None, configured).map_err(|f| f.message().to_owned())?;
        Ok((policy(&s).unwrap_or_default().to_owned(), of(&s)))
    }

    #[test]
    fn families_follow_policy_cluster_and_addresses() {
        use Family::{V4, V6};
        let cases: &[(&str, &[Family], &str, &[Family])] = &[
            (r#"{"spec":{}}"#, &[V4], "SingleStack", &[V4]),
            (
                r#"{"spec":{"ipFamilyPolicy":"PreferDualStack"}}"#,
                &[V4],
                "PreferDualStack",
                &[V4],
            ),
            (
                r#"{"spec":{"ipFamilyPolicy":"PreferDualStack"}}"#,
                &[V6, V4],
                "PreferDualStack",
                &[V6, V4],
            ),
            (
                r#"{"spec":{"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6"]}}"#,
                &[V4, V6],
                "RequireDualStack",
                &[V6, V4],
            ),
            (
                r#"{"spec":{"clusterIP":"fd00::5","clusterIPs":["fd00::5"]}}"#,
                &[V4, V6],
                "SingleStack",
                &[V6],
            ),
            (
                r#"{"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#,
                &[V4],
                "RequireDualStack",
                &[V4, V6],
            ),
            (
                r#"{"spec":{"clusterIP":"None","clusterIPs":["None"],"selector":{"a":"b"}}}"#,
                &[V4],
                "SingleStack",
                &[V4],
            ),
        ];
        for (json, configured, policy, families) in cases {
            assert_eq!(
                completed(json, configured),
                Ok(((*policy).to_owned(), families.to_vec())),
                "{json}"
            );
        }
    }

    #[test]
    fn what_a_cluster_does_not_have_is_refused() {
        use Family::V4;
        for (json, text) in [
            (
                r#"{"spec":{"ipFamilyPolicy":"RequireDualStack"}}"#,
                "not configured for dual-stack",
            ),
            (
                r#"{"spec":{"ipFamilies":["IPv6"]}}"#,
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured",
            ),
            (
                r#"{"spec":{"clusterIP":"fd00::5","clusterIPs":["fd00::5"]}}"#,
                "IPv6 is not configured on this cluster",
            ),
            (
                r#"{"spec":{"clusterIPs":["10.0.0.1"]}}"#,
                "must be empty when `clusterIP`",
            ),
        ] {
            let refused = completed(json, &[V4]).expect_err(json);
            assert!(refused.contains(text), "{refused}");
        }
    }
}
