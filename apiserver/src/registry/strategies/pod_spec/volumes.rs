//! Volumes of a pod: unique names, exactly one source each, and that source complete.

use std::collections::HashSet;

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{PodSpec, Volume};
use proto::view::{Node, View};

use super::projected;
use crate::registry::rules;

pub(super) fn volumes(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let mut seen = HashSet::new();
    for volume in spec.volumes() {
        source(e, volume);
        if rules::required(e, volume, n::NAME) {
            let problems = names::dns_label_problems(volume.name());
            if problems.is_empty() && !seen.insert(volume.name()) {
                e.duplicate(Spot::of(volume).field(n::NAME), volume.name());
            }
            rules::each(e, volume, n::NAME, problems);
        }
    }
}

/// Exactly one source.
fn source(e: &mut Errors<'_>, volume: Volume<'_>) {
    let at = Spot::of(volume);
    let sources: Vec<NameId> = volume
        .node()
        .map()
        .into_iter()
        .flat_map(proto::Map::iter)
        .filter(|(_, v)| !v.is_null())
        .filter_map(|(name, _)| name.known())
        .filter(|name| *name != n::NAME)
        .collect();
    match sources.as_slice() {
        [] => e.required(at, "must specify a volume type"),
        [_] => {}
        [_, more @ ..] => {
            for name in more {
                e.forbidden(at.field(*name), "may not specify more than 1 volume type");
            }
        }
    }
    if let Some(config_map) = volume.config_map() {
        rules::required(e, config_map, n::NAME);
        mode(e, config_map.node(), n::DEFAULT_MODE);
        keys(e, config_map.items().iter().map(|i| (i, i.key(), i.path())));
    }
    if let Some(secret) = volume.secret() {
        rules::required(e, secret, n::SECRET_NAME);
        mode(e, secret.node(), n::DEFAULT_MODE);
        keys(e, secret.items().iter().map(|i| (i, i.key(), i.path())));
    }
    if let Some(host) = volume.host_path() {
        if rules::required(e, host, n::PATH) && host.path().split('/').any(|p| p == "..") {
            e.invalid(
                Spot::of(host).field(n::PATH),
                host.path(),
                "must not contain '..'",
            );
        }
        let types = [
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ];
        if let Some(kind) = host.r#type()
            && !types.contains(&kind)
        {
            e.not_supported(Spot::of(host).field(n::TYPE), kind, &types);
        }
    }
    if let Some(projected) = volume.projected() {
        mode(e, projected.node(), n::DEFAULT_MODE);
        projected::sources(e, projected);
    }
    if let Some(claim) = volume.persistent_volume_claim() {
        rules::required(e, claim, n::CLAIM_NAME);
    }
    if let Some(downward) = volume.downward_api() {
        mode(e, downward.node(), n::DEFAULT_MODE);
        for item in downward.items() {
            path(e, item, item.path());
        }
    }
}

/// Bits of a file's mode.
pub(super) fn mode(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if let Some(mode) = node.opt_int(field)
        && !(0..=0o777).contains(&mode)
    {
        e.invalid(
            Spot::node(node.value()).field(field),
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn keys<'a, V: View<'a>>(e: &mut Errors<'_>, items: impl Iterator<Item = (V, &'a str, &'a str)>) {
    for (item, _, to) in items {
        rules::required(e, item, n::KEY);
        path(e, item, to);
        mode(e, item.node(), n::MODE);
    }
}

/// A path below the volume.
fn path<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, path: &str) {
    if !rules::required(e, view, n::PATH) {
        return;
    }
    local_path(e, Spot::of(view).field(n::PATH), path);
}

/// A path that stays below where it begins, and that the atomic writer does not use itself.
pub(super) fn local_path(e: &mut Errors<'_>, at: Spot<'_>, path: &str) {
    if path.starts_with('/') {
        e.invalid(at, path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        e.invalid(at, path, "must not contain '..'");
    }
    if path.starts_with("..") && !path.starts_with("../") && path != ".." {
        e.invalid(at, path, "must not start with '..'");
    }
}
