//! What an image is made of, as data.
//!
//! ```toml
//! name = "navarch.local/web:1"      # the reference that pods use
//! base = "busybox"                  # optional: another recipe, whose layers come first
//!
//! [[file]]
//! path = "/bin/web"
//! rust = "web.rs"                   # exactly one of: rust, tool, upstream, copy, text, link, dir
//! mode = "0755"                     # default: 0755 for programs and directories, 0644 for others
//! owner = [1000, 1000]              # uid and gid; default: root
//!
//! [busybox]                         # links for all applets of one of: a program of this machine, a tool
//! program = "/bin/busybox"
//!
//! [debian]                          # a minimal Debian tree below everything else
//! packages = ["curl"]
//!
//! [config]                          # of the image, as in the OCI specification
//! entrypoint = ["/bin/web"]
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use crate::files;

/// Bases of bases: a longer chain is a cycle.
const MAX_BASES: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub name: String,
    pub base: Option<String>,
    #[serde(default, rename = "file")]
    pub files: Vec<Item>,
    pub busybox: Option<Busybox>,
    pub debian: Option<Debian>,
    #[serde(default)]
    pub config: Config,
    /// The recipe's own file.
    #[serde(skip)]
    pub path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "RawItem")]
pub(super) struct Item {
    pub path: String,
    pub source: Source,
    pub mode: u32,
    pub owner: (u64, u64),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A single-file Rust program beside the recipe, linked statically.
    Rust(PathBuf),
    /// A program that `hack/tools` builds.
    Tool(String),
    /// A file of upstream's tree, of the release that `hack/go` pins.
    Upstream(PathBuf),
    /// A file beside the recipe, or of this machine when the path is absolute.
    Copy(PathBuf),
    Text(String),
    /// A symbolic link.
    Link(String),
    Dir,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Busybox {
    Program(PathBuf),
    Tool(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    pub packages: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub workdir: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    path: String,
    rust: Option<PathBuf>,
    tool: Option<String>,
    upstream: Option<PathBuf>,
    copy: Option<PathBuf>,
    text: Option<String>,
    link: Option<String>,
    #[serde(default)]
    dir: bool,
    mode: Option<String>,
    #[serde(default)]
    owner: (u64, u64),
}

impl TryFrom<RawItem> for Item {
    type Error = String;

    fn try_from(raw: RawItem) -> Result<Self, String> {
        let path = raw.path;
        let mut sources = [
            raw.rust.map(Source::Rust),
            raw.tool.map(Source::Tool),
            raw.upstream.map(Source::Upstream),
            raw.copy.map(Source::Copy),
            raw.text.map(Source::Text),
            raw.link.map(Source::Link),
            raw.dir.then_some(Source::Dir),
        ]
        .into_iter()
        .flatten();
        let (Some(source), None) = (sources.next(), sources.next()) else {
            return Err(format!(
                "{path} needs exactly one of rust, tool, upstream, copy, text, link, dir"
            ));
        };
        if !path.starts_with('/') || path.ends_with('/') || path.split('/').any(|part| part == "..")
        {
            return Err(format!("{path} is no absolute path of a file"));
        }
        let mode = match raw.mode {
            Some(text) => u32::from_str_radix(&text, 8)
                .map_err(|_| format!("{path}: mode {text} is not octal"))?,
            None => match source {
                Source::Rust(_) | Source::Tool(_) | Source::Dir => 0o755,
                Source::Link(_) => 0o777,
                Source::Upstream(_) | Source::Copy(_) | Source::Text(_) => 0o644,
            },
        };
        Ok(Self {
            path,
            source,
            mode,
            owner: raw.owner,
        })
    }
}

impl Recipe {
    /// The recipe `name` of `dir` and then the recipes below it, down to the one without a base.
    pub(super) fn with_bases(dir: &Path, name: &str) -> Result<Vec<Self>, Error> {
        let mut recipes = vec![Self::read(dir, name)?];
        while let Some(base) = recipes.last().and_then(|recipe| recipe.base.clone()) {
            let below = Self::read(dir, &base)?;
            if recipes.len() == MAX_BASES {
                return Err(Error::Recipe {
                    path: below.path,
                    reason: "the bases of this image never end".to_owned(),
                });
            }
            recipes.push(below);
        }
        Ok(recipes)
    }

    fn read(dir: &Path, name: &str) -> Result<Self, Error> {
        let path = dir.join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).map_err(files::cannot("read", &path))?;
        let parsed = toml::from_str(&text);
        let mut recipe: Self = parsed.map_err(|error| Error::Recipe {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        recipe.path = path;
        Ok(recipe)
    }

    /// A path that the recipe names, on this machine.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.path
            .parent()
            .expect("a recipe lies in a directory")
            .join(path)
    }

    pub(super) fn tools(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().filter_map(|item| match &item.source {
            Source::Tool(name) => Some(name.as_str()),
            _ => None,
        });
        files.chain(match &self.busybox {
            Some(Busybox::Tool(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it adds anything to its base but a configuration.
    pub(super) fn has_layer(&self) -> bool {
        !self.files.is_empty() || self.busybox.is_some() || self.debian.is_some()
    }

    /// The names of all recipes of `dir` and of their images.
    pub(super) fn all(dir: &Path) -> Result<Vec<(String, String)>, Error> {
        let entries = fs::read_dir(dir).map_err(files::cannot("read", dir))?;
        let mut all = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let recipe = Self::read(dir, &stem)?;
                all.push((stem.into_owned(), recipe.name));
            }
        }
        all.sort();
        Ok(all)
    }
}
