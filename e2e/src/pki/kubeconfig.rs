//! Kubeconfig files: written with everything embedded, so that one file is enough to hand to somebody; read whoever
//! wrote them, and changed in place, so that all the rest of them stays as it is.

use std::ops::Range;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser};

pub(super) struct Parts<'a> {
    pub server: &'a str,
    pub user: &'a str,
    /// PEM texts.
    pub authority: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

pub(super) fn render(parts: &Parts<'_>) -> String {
    let Parts { server, user, .. } = parts;
    let [authority, certificate, key] =
        [parts.authority, parts.certificate, parts.key].map(|pem| STANDARD.encode(pem));
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: navarch
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: navarch
  context:
    cluster: navarch
    user: {user}
current-context: navarch
"
    )
}

/// Where a kubeconfig has a certificate or key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// In itself: the text in PEM, and the bytes of the file that stand for it.
    Embedded {
        pem: String,
        span: Range<usize>,
    },
    File(PathBuf),
}

#[derive(Clone, Debug, Default)]
pub(super) struct User {
    pub(super) certificate: Option<Data>,
    pub(super) key: Option<Data>,
}

/// A kubeconfig that was read.
#[derive(Clone, Debug)]
pub(super) struct Kubeconfig {
    text: String,
    pub(super) users: Vec<User>,
    /// What each cluster is trusted by.
    pub(super) authorities: Vec<Data>,
}

/// Why a file is no kubeconfig, or cannot be changed.
#[derive(thiserror::Error, Debug)]
pub enum Unusable {
    #[error("line {line}: {problem}")]
    Syntax { line: usize, problem: String },
    #[error("it is not a kubeconfig")]
    Other,
    #[error("{0} is not PEM in base64")]
    Data(String),
    #[error(
        "its certificates are written in a way that cannot be replaced; write each on one line"
    )]
    Form,
}

/// A value of a YAML file, and where it stands.
struct Scalar {
    /// Keys and positions that lead to it.
    path: Vec<String>,
    value: String,
    span: Range<usize>,
}

impl Kubeconfig {
    /// Reads a kubeconfig; files that it names are below `dir`.
    pub(super) fn read(text: &str, dir: &Path) -> Result<Self, Unusable> {
        let scalars = scalars(text)?;
        let is = |scalar: &Scalar| scalar.path == ["kind"] && scalar.value == "Config";
        if !scalars.iter().any(is) {
            return Err(Unusable::Other);
        }
        let embedded = |scalar: &Scalar| {
            let compact: String = scalar.value.split_whitespace().collect();
            let pem = STANDARD.decode(compact).ok();
            let pem = pem.and_then(|pem| String::from_utf8(pem).ok());
            match pem {
                Some(pem) => Ok(Data::Embedded {
                    pem,
                    span: scalar.span.clone(),
                }),
                None => Err(Unusable::Data(scalar.path.join("."))),
            }
        };
        let file = |scalar: &Scalar| Data::File(dir.join(&scalar.value));
        let (mut users, mut authorities) = (Vec::<(String, User)>::new(), Vec::new());
        // Data is stronger than a file, as in client-go: files are looked at first.
        let (data, files): (Vec<_>, Vec<_>) = scalars
            .iter()
            .filter(|scalar| !scalar.value.is_empty())
            .partition(|scalar| scalar.path.last().is_some_and(|key| key.ends_with("-data")));
        for scalar in files.into_iter().chain(data) {
            let path: Vec<&str> = scalar.path.iter().map(String::as_str).collect();
            let (list, at, key) = match path[..] {
                [list @ ("users" | "clusters"), at, "user" | "cluster", key] => (list, at, key),
                _ => continue,
            };
            let value = match key {
                "client-certificate" | "client-key" | "certificate-authority" => file(scalar),
                "client-certificate-data" | "client-key-data" | "certificate-authority-data" => {
                    embedded(scalar)?
                }
                _ => continue,
            };
            if list == "clusters" {
                authorities.push((at.to_owned(), value));
                continue;
            }
            let position = users.iter().position(|(known, _)| known == at);
            let position = position.unwrap_or_else(|| {
                users.push((at.to_owned(), User::default()));
                users.len() - 1
            });
            let user = &mut users[position].1;
            match key.starts_with("client-key") {
                true => user.key = Some(value),
                false => user.certificate = Some(value),
            }
        }
        let stronger = |(at, data): &(String, Data)| {
            matches!(data, Data::Embedded { .. })
                || !authorities
                    .iter()
                    .any(|(other, data)| other == at && matches!(data, Data::Embedded { .. }))
        };
        let keep: Vec<bool> = authorities.iter().map(stronger).collect();
        let authorities = authorities.into_iter().zip(keep).filter(|(_, keep)| *keep);
        Ok(Self {
            text: text.to_owned(),
            users: users.into_iter().map(|(_, user)| user).collect(),
            authorities: authorities.map(|((_, data), _)| data).collect(),
        })
    }

    /// The text with other PEM in these places.
    pub(super) fn with(&self, mut places: Vec<(Range<usize>, String)>) -> Result<String, Unusable> {
        let wanted = places.len();
        places.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
        let mut text = self.text.clone();
        for (span, pem) in &places {
            if span.start > span.end || text.get(span.clone()).is_none() {
                return Err(Unusable::Form);
            }
            text.replace_range(span.clone(), &STANDARD.encode(pem));
        }
        // YAML has many ways to write a text; what was written has to be read again, or it stays away.
        let again = Self::read(&text, Path::new("")).map_err(|_| Unusable::Form)?;
        let found = places
            .iter()
            .filter(|(_, pem)| again.embedded().any(|has| has == pem));
        if found.count() == wanted && again.embedded().count() == self.embedded().count() {
            Ok(text)
        } else {
            Err(Unusable::Form)
        }
    }

    fn embedded(&self) -> impl Iterator<Item = &str> {
        let of_users = self
            .users
            .iter()
            .flat_map(|user| [&user.certificate, &user.key]);
        let all = of_users.flatten().chain(&self.authorities);
        all.filter_map(|data| match data {
            Data::Embedded { pem, .. } => Some(pem.as_str()),
            Data::File(_) => None,
        })
    }
}

/// A list or map that is not at its end yet.
enum Open {
    List(usize),
    /// With the key that waits for its value.
    Map(Option<String>),
}

/// All scalars of the first document.
fn scalars(text: &str) -> Result<Vec<Scalar>, Unusable> {
    // The parser counts characters.
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let byte = |at: usize| starts.get(at).copied().unwrap_or(text.len());
    let (mut found, mut open) = (Vec::new(), Vec::<Open>::new());
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Unusable::Syntax {
            line: error.marker().line(),
            problem: error.info().to_owned(),
        })?;
        let scalar = match event {
            Event::SequenceStart(..) => {
                open.push(Open::List(0));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                None
            }
            Event::Scalar(value, ..) => Some(value.into_owned()),
            Event::Alias(_) => Some(String::new()),
            Event::DocumentEnd => break,
            _ => continue,
        };
        if let (Some(Open::Map(key @ None)), Some(scalar)) = (open.last_mut(), &scalar) {
            *key = Some(scalar.clone());
            continue;
        }
        if let Some(value) = scalar {
            let (start, mut end) = (byte(span.start.index()), byte(span.end.index()));
            // The parser's end may be where the next thing begins, after a comment.
            for quote in ["", "'", "\""] {
                let written = format!("{quote}{value}{quote}");
                if text[start..].starts_with(&written) {
                    end = start + written.len();
                }
            }
            found.push(Scalar {
                path: open.iter().map(step).collect(),
                value,
                span: start..end,
            });
        }
        match open.last_mut() {
            Some(Open::List(at)) => *at += 1,
            Some(Open::Map(key)) => *key = None,
            None => {}
        }
    }
    Ok(found)
}

fn step(open: &Open) -> String {
    match open {
        Open::List(at) => at.to_string(),
        Open::Map(key) => key.clone().unwrap_or_default(),
    }
}
