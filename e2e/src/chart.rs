//! Renders the charts of `charts/` without Helm.
//!
//! Their templates substitute only (`charts/README.md`): `{{ .Values.NAME }}` and `{{ .Release.Namespace }}`. Whatever
//! else stands between braces is an error here, so a chart cannot grow out of what this renders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}: {reason}")]
    Chart { path: PathBuf, reason: String },
}

/// The manifests of the chart in `dir` as one text, with `values` over the chart's own.
pub fn render(dir: &Path, namespace: &str, values: &[(&str, String)]) -> Result<String, Error> {
    let path = dir.join("values.yaml");
    let mut known = parse_values(&read(&path)?).map_err(|reason| Error::Chart {
        path: path.clone(),
        reason,
    })?;
    for (name, value) in values {
        if known.insert((*name).to_owned(), value.clone()).is_none() {
            return Err(Error::Chart {
                path,
                reason: format!("there is no value {name}"),
            });
        }
    }
    let templates = dir.join("templates");
    let failed = |cause| Error::Read {
        path: templates.clone(),
        cause,
    };
    let entries = fs::read_dir(&templates).map_err(failed)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    let mut manifests = String::new();
    for path in paths {
        let text = substitute(&read(&path)?, namespace, &known)
            .map_err(|reason| Error::Chart { path, reason })?;
        manifests.push_str("---\n");
        manifests.push_str(&text);
    }
    Ok(manifests)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })
}

/// `name: value` lines, comments and empty lines.
fn parse_values(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |line: &str| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("{line} is no value"))?;
        match value.trim() {
            nested if nested.is_empty() || name.starts_with(' ') => {
                Err(format!("{name} is not a plain value"))
            }
            value => Ok((name.to_owned(), value.trim_matches('"').to_owned())),
        }
    };
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(pair)
        .collect()
}

fn substitute(
    template: &str,
    namespace: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, String> {
    let mut pieces = template.split("{{");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (action, rest) = piece.split_once("}}").ok_or("braces are not closed")?;
        let value = match action.trim() {
            ".Release.Namespace" => Some(namespace),
            action => action
                .strip_prefix(".Values.")
                .and_then(|name| values.get(name))
                .map(String::as_str),
        };
        text.push_str(
            value.ok_or_else(|| format!("{{{{{action}}}}} is nothing that can be substituted"))?,
        );
        text.push_str(rest);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        parse_values("# comment\nimage: a/b:1\n\nforward: forward . /etc/resolv.conf\nclusterIP: \"10.0.0.10\"\n").unwrap()
    }

    #[test]
    fn values_are_put_where_their_names_stand() {
        let template = "x: {{ .Values.image }}, {{.Release.Namespace}}/{{ .Values.clusterIP }}\n";
        assert_eq!(
            substitute(template, "ns", &values()).unwrap(),
            "x: a/b:1, ns/10.0.0.10\n"
        );
    }

    #[test]
    fn what_is_more_than_substitution_is_an_error() {
        for template in [
            "{{ if .Values.image }}",
            "{{ .Values.missing }}",
            "{{ .Values.image | quote }}",
            "{{ .Values",
        ] {
            assert!(substitute(template, "ns", &values()).is_err(), "{template}");
        }
    }

    #[test]
    fn nested_values_are_an_error() {
        assert!(parse_values("image:\n  name: a\n").is_err());
    }

    #[test]
    fn every_chart_of_the_tree_renders() {
        let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts");
        for chart in fs::read_dir(charts)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
        {
            let text = render(&chart, "kube-system", &[]).unwrap();
            assert!(text.contains("kind:"), "{}", chart.display());
        }
    }
}
