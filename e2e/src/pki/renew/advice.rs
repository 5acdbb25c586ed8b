//! What is left to do once files are renewed: who reads them again by itself, and who has to be restarted.
//!
//! The same for our daemons and for upstream's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::survey::{Entry, Survey};
use super::{Roll, SIGNING};

/// By name of a leaf's file: who uses it, and whether he reads it again.
const READERS: &[(&str, &str)] = &[
    (
        "apiserver",
        "kube-apiserver reads its serving certificate again by itself, within a minute",
    ),
    (
        "apiserver-kubelet-client",
        "kube-apiserver reads its certificate for kubelets again by itself",
    ),
    (
        "front-proxy-client",
        "kube-apiserver reads its certificate for aggregated servers again by itself",
    ),
    (
        "apiserver-etcd-client",
        "kube-apiserver reads its certificate for etcd for each new connection",
    ),
    (
        "controller-manager-server",
        "kube-controller-manager reads its serving certificate again by itself",
    ),
    (
        "scheduler-server",
        "kube-scheduler reads its serving certificate again by itself",
    ),
    (
        "etcd/server",
        "etcd reads its certificates for each new connection",
    ),
    (
        "etcd/peer",
        "etcd reads its certificates for each new connection",
    ),
];

pub(super) fn after_leaves(survey: &Survey, written: &[PathBuf]) -> Vec<String> {
    let (mut next, mut restart) = (BTreeSet::new(), Vec::new());
    for path in written {
        let mut entries = survey.entries.iter();
        let Some(entry) = entries.find(|entry| entry.path == *path) else {
            continue;
        };
        let known = READERS.iter().find(|(name, _)| entry.name == *name);
        if let Some((_, text)) = known {
            next.insert((*text).to_owned());
        } else if entry.name.ends_with("-server") {
            let name = entry.told();
            next.insert(format!(
                "the kubelet that serves with {name} reads it again by itself"
            ));
        } else {
            restart.push(path.display().to_string());
        }
    }
    let mut next: Vec<String> = next.into_iter().collect();
    if !restart.is_empty() {
        next.push(format!(
            "restart what uses these, which is read at the start only: {}",
            restart.join(", ")
        ));
    }
    if !next.is_empty() {
        next.push("copy what is used on other machines there, keys with mode 0600".to_owned());
    }
    next
}

pub(super) fn after_authority(
    survey: &Survey,
    name: &str,
    entry: &Entry,
    roll: Roll,
) -> Vec<String> {
    let (dir, file) = (survey.dir.display(), entry.path.display());
    let everywhere = format!("copy {file} to each machine that has it");
    match roll {
        Roll::SameKey => vec![
            format!(
                "what {name} signed stays valid, with the old certificate of {name} as with the new one"
            ),
            everywhere,
            restarts(name).to_owned(),
        ],
        Roll::NewKey => vec![
            format!(
                "signers take no bundle: start kube-controller-manager with --cluster-signing-cert-file={}",
                signing(&entry.path).display()
            ),
            everywhere,
            restarts(name).to_owned(),
            format!(
                "only then: hack/pki renew {dir} {}",
                signed(survey, entry).join(" ")
            ),
            format!(
                "at the end, hack/pki renew {dir} --authority {name} --drop-old, and copy and restart once more"
            ),
        ],
        Roll::DropOld => vec![
            everywhere,
            restarts(name).to_owned(),
            format!("{file} is no bundle any more: signers can be started with it again"),
        ],
    }
}

/// The names of what an authority, or one that is trusted beside it, signed.
fn signed(survey: &Survey, authority: &Entry) -> Vec<String> {
    let bundle = survey.entries.iter();
    let bundle: Vec<&Entry> = bundle.filter(|one| one.path == authority.path).collect();
    let by_it = |entry: &&Entry| {
        let mut above = bundle.iter().map(|one| &one.certificate);
        let own = entry.is_leaf() && !entry.is_kubelets() && !entry.elsewhere;
        own && above.any(|above| entry.certificate.is_signed_by(above))
    };
    let names: BTreeSet<String> = survey
        .entries
        .iter()
        .filter(by_it)
        .map(Entry::told)
        .collect();
    names.into_iter().collect()
}

fn signing(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}{SIGNING}.crt"))
}

/// Who trusts an authority.
fn restarts(name: &str) -> &'static str {
    match name {
        "etcd/ca" => {
            "restart each etcd, one after the other, then each kube-apiserver: they read authorities at the start"
        }
        "front-proxy-ca" => "kube-apiserver reads the authority again by itself",
        "ca" => {
            "restart kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy and the kubelets, one after the \
             other: some of what they trust is read at the start. Then restart pods that talk to the API server, to \
             which kube-controller-manager hands the authority out (--root-ca-file)"
        }
        _ => "restart whatever trusts it",
    }
}
