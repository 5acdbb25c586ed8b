//! Files of one volume that would go where others are, or where others need a directory.
//!
//! Upstream: `warningsForOverlappingVirtualPaths`.

use proto::Value;
use proto::catalogue::names as n;
use proto::path::quote;
use proto::view::core_v1::{Volume, VolumeProjection};
use proto::view::{List, Node, View};

use crate::warnings::Warnings;

/// Where a file goes, and what it is from, if that has to be said.
struct File<'a> {
    path: &'a str,
    source: String,
}

impl<'a> File<'a> {
    fn new(path: &'a str, source: String) -> Self {
        let path = path.trim_end_matches('/');
        Self { path, source }
    }

    /// One is where the other is, or above it.
    fn overlaps(&self, other: &Self) -> bool {
        let above = |a: &str, b: &str| {
            b.strip_prefix(a)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty()
            && !other.path.is_empty()
            && (above(self.path, other.path) || above(other.path, self.path))
    }

    fn show(&self) -> String {
        if self.source.is_empty() {
            quote(self.path)
        } else {
            format!("{} ({})", quote(self.path), self.source)
        }
    }
}

pub(super) fn virtual_paths<'a>(w: &mut Warnings<'_>, volumes: List<'a, Volume<'a>>) {
    for volume in volumes {
        if let Some(map) = volume.config_map() {
            let described = format!("ConfigMap {}", quote(map.name()));
            let files = items_of(map.node().items(n::ITEMS), "");
            Taken::new(volume, described).take(w, files);
        }
        if let Some(secret) = volume.secret() {
            let described = format!("Secret {}", quote(secret.secret_name()));
            let files = items_of(secret.node().items(n::ITEMS), "");
            Taken::new(volume, described).take(w, files);
        }
        if let Some(downward) = volume.downward_api() {
            let files = items_of(downward.node().items(n::ITEMS), "");
            Taken::new(volume, "DownwardAPI".into()).take(w, files);
        }
        let mut taken = Taken::new(volume, "Projected".into());
        for source in volume.projected().into_iter().flat_map(|p| p.sources()) {
            let map = source.node().map();
            if map.is_none_or(|m| m.iter().all(|(_, v)| v.is_null())) {
                let name = quote(volume.name());
                w.push(format!("volume {name} (Projected) has no sources provided"));
            } else {
                taken.take(w, projected(source));
            }
        }
    }
}

/// Where files of a volume go.
struct Taken<'a> {
    volume: Volume<'a>,
    described: String,
    files: Vec<File<'a>>,
}

impl<'a> Taken<'a> {
    fn new(volume: Volume<'a>, described: String) -> Self {
        Self {
            volume,
            described,
            files: Vec::new(),
        }
    }

    /// Warns of each file that overlaps one before it.
    fn take(&mut self, w: &mut Warnings<'_>, files: Vec<File<'a>>) {
        for file in files {
            for other in self.files.iter().filter(|other| file.overlaps(other)) {
                w.push(format!(
                    "volume {} ({}): overlapping paths: {} with {}",
                    quote(self.volume.name()),
                    self.described,
                    file.show(),
                    other.show()
                ));
            }
            self.files.push(file);
        }
    }
}

fn items_of<'a>(items: &'a [Value], source: &str) -> Vec<File<'a>> {
    let file = |item| File::new(Node::new(item).str(n::PATH), source.to_owned());
    items.iter().map(file).collect()
}

fn projected(source: VolumeProjection<'_>) -> Vec<File<'_>> {
    if let Some(map) = source.config_map() {
        let of = format!("ConfigMap {}", quote(map.name()));
        items_of(map.node().items(n::ITEMS), &of)
    } else if let Some(secret) = source.secret() {
        let of = format!("Secret {}", quote(secret.name()));
        items_of(secret.node().items(n::ITEMS), &of)
    } else if let Some(downward) = source.downward_api() {
        items_of(downward.node().items(n::ITEMS), "DownwardAPI")
    } else if let Some(token) = source.service_account_token() {
        vec![File::new(token.path(), "ServiceAccountToken".into())]
    } else if let Some(bundle) = source.cluster_trust_bundle() {
        let name = bundle.name().or(bundle.signer_name()).unwrap_or_default();
        let of = format!("ClusterTrustBundle {}", quote(name));
        vec![File::new(bundle.path(), of)]
    } else if let Some(certificate) = source.pod_certificate() {
        [
            (certificate.certificate_chain_path(), "PodCertificate chain"),
            (certificate.key_path(), "PodCertificate key"),
            (
                certificate.credential_bundle_path(),
                "PodCertificate credential bundle",
            ),
        ]
        .into_iter()
        .filter(|(path, _)| !path.is_empty())
        .map(|(path, of)| File::new(path, of.into()))
        .collect()
    } else {
        Vec::new()
    }
}
