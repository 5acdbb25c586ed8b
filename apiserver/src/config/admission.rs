//! The flags of admission, checked as upstream checks them
//! (`apiserver/pkg/server/options/admission.go`, `pkg/kubeapiserver/options/admission.go`).

use std::path::PathBuf;

use anyhow::bail;
use component::args::{Args, Flag, Group};

use crate::admission::{PLUGINS, Plugin};

flags! {
    ENABLE: Vec<String> = "enable-admission-plugins", "", "Admission plugins beside the default ones.";
    DISABLE: Vec<String> = "disable-admission-plugins", "", "Default admission plugins that are off.";
    ALL: Vec<String> = "admission-control", "", "All admission plugins that run.", deprecated("use --enable-admission-plugins and --disable-admission-plugins");
    CONFIG_FILE: Option<PathBuf> = "admission-control-config-file", "", "The configuration of admission plugins.";
    NOT_READY_TOLERATION: i64 = "default-not-ready-toleration-seconds", "300", "How long pods stay on a node that is not ready.";
    UNREACHABLE_TOLERATION: i64 = "default-unreachable-toleration-seconds", "300", "How long pods stay on a node that is unreachable.";
}

/// Which plugins run, and where they find what they cannot know otherwise.
#[derive(Clone)]
pub struct AdmissionConfig {
    /// In upstream's order.
    pub plugins: Vec<&'static Plugin>,
    pub file: Option<PathBuf>,
    /// Seconds.
    pub not_ready_toleration: i64,
    pub unreachable_toleration: i64,
}

pub(super) fn group() -> Group {
    Group::new(
        "Admission",
        &[
            &ENABLE,
            &DISABLE,
            &ALL,
            &CONFIG_FILE,
            &NOT_READY_TOLERATION,
            &UNREACHABLE_TOLERATION,
        ],
    )
}

impl AdmissionConfig {
    pub(super) fn from_args(args: &Args) -> anyhow::Result<Self> {
        let (enable, disable) = (args.get(&ENABLE), args.get(&DISABLE));
        let mut problems = Vec::new();
        let mut known = |flag: &Flag<Vec<String>>, names: &[String]| {
            let unknown = names
                .iter()
                .filter(|n| !PLUGINS.iter().any(|p| p.name == **n));
            let said = unknown.map(|name| format!("{} plugin {name:?} is unknown", flag.name()));
            problems.extend(said);
        };
        let all = args.given(&ALL);
        known(&ALL, all.as_deref().unwrap_or_default());
        known(&ENABLE, &enable);
        known(&DISABLE, &disable);
        if all.is_some() && !(enable.is_empty() && disable.is_empty()) {
            let why = "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive";
            problems.insert(0, why.to_owned());
        }
        let mut both: Vec<&str> = { enable.iter() }
            .filter(|name| disable.contains(name))
            .map(String::as_str)
            .collect();
        both.sort_unstable();
        both.dedup();
        if !both.is_empty() {
            problems.push(format!(
                "[{}] in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(" ")
            ));
        }
        if !problems.is_empty() {
            bail!(proto::path::aggregate(&problems));
        }
        let runs = |plugin: &&Plugin| match &all {
            Some(all) => all.iter().any(|name| name == plugin.name),
            None => {
                plugin.on_by_default && !disable.iter().any(|name| name == plugin.name)
                    || enable.iter().any(|name| name == plugin.name)
            }
        };
        Ok(Self {
            plugins: PLUGINS.iter().filter(runs).collect(),
            file: args.get(&CONFIG_FILE),
            not_ready_toleration: args.get(&NOT_READY_TOLERATION),
            unreachable_toleration: args.get(&UNREACHABLE_TOLERATION),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins(flags: &[&str]) -> Result<Vec<&'static str>, String> {
        let args = Args::parse("kube-apiserver", "", &[group()], flags.iter().copied());
        let config = AdmissionConfig::from_args(&args.unwrap()).map_err(|e| e.to_string())?;
        Ok(config.plugins.iter().map(|p| p.name).collect())
    }

    #[test]
    fn flags_switch_plugins_on_and_off_and_their_order_does_not_matter() {
        let running = plugins(&[
            "--enable-admission-plugins=AlwaysDeny,NodeRestriction",
            "--disable-admission-plugins=Priority",
        ])
        .unwrap();
        let at = |name: &str| running.iter().position(|n| *n == name);
        assert!(at("ServiceAccount") < at("NodeRestriction"));
        assert_eq!(at("AlwaysDeny"), Some(running.len() - 1));
        assert_eq!((at("Priority"), at("AlwaysPullImages")), (None, None));
        let all = plugins(&["--admission-control=ResourceQuota,NamespaceExists"]).unwrap();
        assert_eq!(all, ["NamespaceExists", "ResourceQuota"]);
    }

    #[test]
    fn what_is_unknown_or_contradicts_itself_is_refused() {
        let says = |flags: &[&str]| plugins(flags).unwrap_err();
        assert_eq!(
            says(&[
                "--enable-admission-plugins=A",
                "--disable-admission-plugins=B"
            ]),
            "[enable-admission-plugins plugin \"A\" is unknown, disable-admission-plugins plugin \"B\" is unknown]"
        );
        assert_eq!(
            says(&[
                "--enable-admission-plugins=Priority,LimitRanger",
                "--disable-admission-plugins=LimitRanger,Priority"
            ]),
            "[LimitRanger Priority] in enable-admission-plugins and disable-admission-plugins overlapped"
        );
        let exclusive = says(&[
            "--admission-control=Priority",
            "--enable-admission-plugins=LimitRanger",
        ]);
        assert!(exclusive.contains("mutually exclusive"), "{exclusive}");
    }
}
