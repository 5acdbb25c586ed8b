//! The configuration of Pod Security: defaults, and who is exempt; and what is counted.
//!
//! Upstream: `pod-security-admission/admission/api`, `pod-security-admission/metrics`.

use component::config::Versioned;
use component::metrics::{Counters, Metrics};
use prometheus_client::metrics::family::Family;
use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{FieldError, Reason, quote};
use serde::Deserialize;

use super::super::Attributes;
use super::super::config::Refused;
use super::NEWEST;
use super::policy::{Level, Policy, Standard, version};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Configuration {
    defaults: Defaults,
    exemptions: Exemptions,
}

impl Versioned for Configuration {
    const API_VERSIONS: &'static [&'static str] = &[
        "pod-security.admission.config.k8s.io/v1",
        "pod-security.admission.config.k8s.io/v1beta1",
        "pod-security.admission.config.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "PodSecurityConfiguration";
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

/// Whom no standard is for.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

/// What the plugin is told, and what it counts.
pub(in super::super) struct Settings {
    pub(super) defaults: Policy,
    exempt: Exemptions,
    evaluations: Counters<7>,
    exemptions: Counters<3>,
    errors: Counters<4>,
}

impl Settings {
    pub(in super::super) fn new(metrics: &Metrics) -> Self {
        Self {
            defaults: Policy::PRIVILEGED,
            exempt: Exemptions::default(),
            evaluations: metrics.registered(
                "pod_security_evaluations_total",
                "Pods and templates that were held against a standard, without ignored and exempt requests",
                Family::default(),
            ),
            exemptions: metrics.registered(
                "pod_security_exemptions_total",
                "Requests that are exempt from all standards",
                Family::default(),
            ),
            errors: metrics.registered(
                "pod_security_errors_total",
                "Requests that could not be held against the standard that was meant",
                Family::default(),
            ),
        }
    }

    pub(super) fn configure(&mut self, told: Option<&[u8]>) -> Result<(), Refused> {
        let Some(text) = told.filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let file: Configuration = component::config::read(text)?;
        let mut errors = Vec::new();
        self.defaults = file.defaults.policy(&mut errors);
        file.exemptions.check(&mut errors);
        self.exempt = file.exemptions;
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refused::Invalid(errors))
        }
    }

    pub(super) fn is_exempt_namespace(&self, name: &str) -> bool {
        self.exempt.namespaces.iter().any(|n| n == name)
    }

    pub(super) fn is_exempt_user(&self, name: &str) -> bool {
        self.exempt.usernames.iter().any(|n| n == name)
    }

    /// Whether a pod runs in a class that is exempt.
    pub(super) fn is_exempt_pod(&self, pod: &Value) -> bool {
        let class = pod.at(&[n::SPEC, n::RUNTIME_CLASS_NAME]);
        let class = class.and_then(Value::as_str).filter(|c| !c.is_empty());
        class.is_some_and(|class| self.exempt.runtime_classes.iter().any(|c| c == class))
    }

    pub(super) fn evaluated(
        &self,
        allowed: bool,
        standard: Standard,
        mode: &str,
        write: &Attributes<'_>,
    ) {
        let version = match standard.minor {
            _ if standard.is_privileged() => "latest".to_owned(),
            None => "latest".to_owned(),
            Some(minor) if minor <= NEWEST => format!("v1.{minor}"),
            Some(_) => "future".to_owned(),
        };
        let decision = if allowed { "allow" } else { "deny" };
        let [operation, resource, subresource] = about(write);
        let labels = [
            ("decision", decision.to_owned()),
            ("mode", mode.to_owned()),
            ("policy_level", standard.level.name().to_owned()),
            ("policy_version", version),
            operation,
            resource,
            subresource,
        ];
        self.evaluations.get_or_create(&labels).inc();
    }

    pub(super) fn exempted(&self, write: &Attributes<'_>) {
        self.exemptions.get_or_create(&about(write)).inc();
    }

    /// A fatal error refuses or lets pass without a look; others are held against a stricter standard.
    pub(super) fn failed(&self, fatal: bool, write: &Attributes<'_>) {
        let [operation, resource, subresource] = about(write);
        let fatal = ("fatal", fatal.to_string());
        let labels = [fatal, operation, resource, subresource];
        self.errors.get_or_create(&labels).inc();
    }
}

fn about(write: &Attributes<'_>) -> [(&'static str, String); 3] {
    let resource = match (write.resource.group, write.resource.name) {
        ("", "pods") => "pod",
        ("", "namespaces") => "namespace",
        _ => "controller",
    };
    [
        ("request_operation", write.operation.text().to_lowercase()),
        ("resource", resource.to_owned()),
        ("subresource", write.subresource.to_owned()),
    ]
}

impl Defaults {
    fn policy(&self, errors: &mut Vec<FieldError>) -> Policy {
        let mut policy = Policy::PRIVILEGED;
        let modes = [
            ("enforce", &self.enforce, &self.enforce_version),
            ("warn", &self.warn, &self.warn_version),
            ("audit", &self.audit, &self.audit_version),
        ];
        let [enforce, warn, audit] = modes.map(|(mode, level, minor)| {
            let mut standard = Standard::PRIVILEGED;
            let mut problem = |field: &str, value: &str, why: &str| {
                errors.push(FieldError::invalid(format!("defaults.{field}"), value, why));
            };
            match Level::named(level) {
                _ if level.is_empty() => {}
                Ok(level) => standard.level = level,
                Err(why) => problem(mode, level, why),
            }
            match version(minor) {
                _ if minor.is_empty() => {}
                Ok(minor) => standard.minor = minor,
                Err(why) => problem(&format!("{mode}-version"), minor, why),
            }
            standard
        });
        (policy.enforce, policy.warn, policy.audit) = (enforce, warn, audit);
        policy
    }
}

impl Exemptions {
    fn check(&self, errors: &mut Vec<FieldError>) {
        type Rule = fn(&str) -> String;
        let lists: [(&str, &[String], Rule); 3] = [
            ("namespaces", &self.namespaces, |name| {
                names::dns_label_problems(name).join(", ")
            }),
            ("runtimeClasses", &self.runtime_classes, |name| {
                names::dns_subdomain_problems(name).join(", ")
            }),
            ("usernames", &self.usernames, |name| {
                let empty = name.is_empty().then_some("username must not be empty");
                empty.unwrap_or_default().to_owned()
            }),
        ];
        for (field, list, rule) in lists {
            for (i, name) in list.iter().enumerate() {
                let at = format!("exemptions.{field}[{i}]");
                let problem = rule(name);
                if !problem.is_empty() {
                    errors.push(FieldError::invalid(at, name.as_str(), problem));
                } else if list[..i].contains(name) {
                    errors.push(FieldError::new(Reason::Duplicate, at, quote(name), ""));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(fields: &str) -> Result<Settings, String> {
        let text = format!(
            "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n{fields}"
        );
        let mut settings = Settings::new(&Metrics::new());
        let configured = settings.configure(Some(text.as_bytes()));
        configured.map(|()| settings).map_err(|e| e.to_string())
    }

    #[test]
    fn the_cluster_has_defaults_and_exemptions() {
        let settings = configured(
            "defaults: {enforce: baseline, enforce-version: v1.30, audit: restricted}\n\
             exemptions: {usernames: [ann], namespaces: [kube-system], runtimeClasses: [vm]}\n",
        )
        .unwrap();
        let Policy {
            enforce,
            audit,
            warn,
        } = settings.defaults;
        assert_eq!(
            [enforce, audit, warn].map(|s| s.to_string()),
            ["baseline:v1.30", "restricted:latest", "privileged:latest"]
        );
        assert!(settings.is_exempt_user("ann") && !settings.is_exempt_user("bob"));
        assert!(settings.is_exempt_namespace("kube-system"));
        let pod = |class: &str| {
            let mut pod = Value::object();
            pod.set(&[n::SPEC, n::RUNTIME_CLASS_NAME], class);
            pod
        };
        assert!(settings.is_exempt_pod(&pod("vm")) && !settings.is_exempt_pod(&pod("runc")));
        assert!(!settings.is_exempt_pod(&Value::object()));
    }

    #[test]
    fn a_configuration_that_is_not_understood_is_refused() {
        let says = |fields: &str| configured(fields).err().unwrap_or_default();
        assert_eq!(says(""), "");
        assert_eq!(
            says("defaults: {enforce: loose, warn-version: '1.3'}\n"),
            "[defaults.enforce: Invalid value: \"loose\": must be one of privileged, baseline, restricted, \
             defaults.warn-version: Invalid value: \"1.3\": must be \"latest\" or \"v1.x\"]"
        );
        assert_eq!(
            says("exemptions: {usernames: [a, a, '']}\n"),
            "[exemptions.usernames[1]: Duplicate value: \"a\", \
             exemptions.usernames[2]: Invalid value: \"\": username must not be empty]"
        );
        assert!(says("exemptions: {namespaces: [A]}\n").starts_with("exemptions.namespaces[0]"));
        assert!(says("default: {}\n").contains("unknown field"));
    }
}
