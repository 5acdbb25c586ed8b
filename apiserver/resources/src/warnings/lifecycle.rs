//! Served versions of which every answer says that they go away.
//!
//! Upstream: `APILifecycle…` methods beside the types of `k8s.io/api`, and
//! `apiserver/pkg/endpoints/deprecation`.

use proto::catalogue::{Resource, group_version};

/// Kinds of a served version that go away, and what takes their place.
pub struct Lifecycle {
    group: &'static str,
    version: &'static str,
    kinds: &'static [&'static str],
    /// The minor release of 1.x since which clients are warned.
    deprecated: u8,
    /// The first that will not serve them, if that is settled.
    removed: Option<u8>,
    replacement: Replacement,
}

enum Replacement {
    None,
    /// The kind of the same name in the group's first stable version.
    Stable,
    Other(&'static str),
}

/// Of the versions that release 1.37 serves, those that it warns of.
const TABLE: &[Lifecycle] = &[
    ends("", "v1", &["ComponentStatus"], 19, None, Replacement::None),
    ends(
        "",
        "v1",
        &["Endpoints"],
        33,
        None,
        Replacement::Other("discovery.k8s.io/v1 EndpointSlice"),
    ),
    ends(
        "admissionregistration.k8s.io",
        "v1alpha1",
        &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"],
        35,
        Some(38),
        Replacement::None,
    ),
    ends(
        "admissionregistration.k8s.io",
        "v1beta1",
        &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"],
        37,
        Some(40),
        Replacement::Stable,
    ),
    ends(
        "certificates.k8s.io",
        "v1beta1",
        &["ClusterTrustBundle", "PodCertificateRequest"],
        37,
        Some(40),
        Replacement::Stable,
    ),
    ends(
        "coordination.k8s.io",
        "v1alpha2",
        &["LeaseCandidate"],
        35,
        Some(38),
        Replacement::None,
    ),
    ends(
        "coordination.k8s.io",
        "v1beta1",
        &["LeaseCandidate"],
        36,
        Some(39),
        Replacement::None,
    ),
    ends(
        "resource.k8s.io",
        "v1alpha3",
        &["DeviceTaintRule"],
        36,
        Some(39),
        Replacement::None,
    ),
    ends(
        "resource.k8s.io",
        "v1beta1",
        DEVICES,
        35,
        Some(38),
        Replacement::None,
    ),
    ends(
        "resource.k8s.io",
        "v1beta2",
        DEVICES,
        36,
        Some(39),
        Replacement::None,
    ),
    ends(
        "storagemigration.k8s.io",
        "v1beta1",
        &["StorageVersionMigration"],
        37,
        Some(40),
        Replacement::Stable,
    ),
];

const DEVICES: &[&str] = &[
    "DeviceClass",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceSlice",
];

const fn ends(
    group: &'static str,
    version: &'static str,
    kinds: &'static [&'static str],
    deprecated: u8,
    removed: Option<u8>,
    replacement: Replacement,
) -> Lifecycle {
    Lifecycle {
        group,
        version,
        kinds,
        deprecated,
        removed,
        replacement,
    }
}

/// What there is to say of a served version that goes away.
#[must_use]
pub fn of(resource: &Resource) -> Option<&'static Lifecycle> {
    TABLE.iter().find(|of| {
        of.group == resource.group
            && of.version == resource.version
            && of.kinds.contains(&resource.kind)
    })
}

impl Lifecycle {
    /// The release that will not serve it, if that is settled.
    #[must_use]
    pub fn removal(&self) -> Option<String> {
        self.removed.map(|minor| format!("1.{minor}"))
    }

    /// The warning of each answer about a resource of this kind.
    #[must_use]
    pub fn warning(&self, kind: &str) -> String {
        let version = group_version(self.group, self.version);
        let mut text = format!("{version} {kind} is deprecated in v1.{}+", self.deprecated);
        if let Some(removed) = self.removed {
            text.push_str(&format!(", unavailable in v1.{removed}+"));
        }
        match self.replacement {
            Replacement::None => {}
            Replacement::Stable => text.push_str(&format!("; use {}/v1 {kind}", self.group)),
            Replacement::Other(other) => text.push_str(&format!("; use {other}")),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_that_go_away_should_say_so() {
        let of = |group: &str, version: &str, name: &str| {
            let mut all = proto::catalogue::resources().iter();
            all.find(|r| (r.group, r.version, r.name) == (group, version, name))
                .and_then(|r| Some(super::of(r)?.warning(r.kind)))
        };
        assert_eq!(
            of("", "v1", "endpoints").as_deref(),
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        );
        assert_eq!(
            of("certificates.k8s.io", "v1beta1", "clustertrustbundles").as_deref(),
            Some(
                "certificates.k8s.io/v1beta1 ClusterTrustBundle is deprecated in v1.37+, unavailable in v1.40+; use certificates.k8s.io/v1 ClusterTrustBundle"
            )
        );
        assert_eq!(
            of("resource.k8s.io", "v1beta1", "resourceclaims").as_deref(),
            Some(
                "resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+"
            )
        );
        assert_eq!(of("", "v1", "pods"), None);
        assert_eq!(of("resource.k8s.io", "v1", "resourceclaims"), None);
    }
}
