//! Reads the text files. Their formats are described in the comments at their heads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) struct Facts {
    pub(crate) messages: BTreeMap<String, Message>,
    pub(crate) resources: Vec<Resource>,
    /// Group, version, kind, message; sorted.
    pub(crate) kinds: Vec<(String, String, String, String)>,
    pub(crate) gates: Vec<Gate>,
}

pub(crate) struct Message {
    pub(crate) openapi: String,
    pub(crate) atomic: bool,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List,
    Map,
}

#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) omit_empty: bool,
    pub(crate) omit_zero: bool,
    pub(crate) required: bool,
    pub(crate) map_atomic: bool,
    pub(crate) list: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) patch: Vec<String>,
    pub(crate) patch_key: Option<String>,
    pub(crate) go_type: Option<String>,
    pub(crate) default: Option<String>,
    pub(crate) enumeration: Vec<String>,
}

pub(crate) struct Field {
    /// The JSON name; `None` for an embedded struct.
    pub(crate) name: Option<String>,
    pub(crate) tag: u16,
    pub(crate) pointer: bool,
    pub(crate) shape: Shape,
    pub(crate) element_pointer: bool,
    /// A scalar or special in lower case, or the name of a message.
    pub(crate) kind: String,
    pub(crate) attributes: Attributes,
}

impl Field {
    /// The message in the field, if it holds messages.
    pub(crate) fn message(&self) -> Option<&str> {
        self.kind.contains('.').then_some(self.kind.as_str())
    }
}

pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) on: bool,
    pub(crate) message: String,
    pub(crate) list: Option<String>,
    pub(crate) introduced: Release,
    pub(crate) removed: Option<Release>,
    pub(crate) verbs: Vec<String>,
    pub(crate) short: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) flags: Vec<String>,
    pub(crate) gc: String,
    pub(crate) ttl: Option<u32>,
    pub(crate) storage: Option<Storage>,
    pub(crate) reset: Vec<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) columns: Vec<Column>,
    pub(crate) subresources: Vec<Subresource>,
}

pub(crate) struct Storage {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) message: String,
    pub(crate) json: bool,
    pub(crate) prefix: String,
    pub(crate) former: Vec<Former>,
}

pub(crate) struct Former {
    pub(crate) until: Release,
    pub(crate) version: String,
    pub(crate) message: String,
}

pub(crate) struct Column {
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) priority: i32,
    pub(crate) name: String,
}

pub(crate) struct Subresource {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) message: Option<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) reset: Vec<String>,
}

pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) history: Vec<GateSpec>,
    pub(crate) needs: Vec<String>,
}

pub(crate) struct GateSpec {
    pub(crate) since: Release,
    pub(crate) min_compatibility: Option<Release>,
    pub(crate) stage: String,
    pub(crate) on: bool,
    pub(crate) locked: bool,
}

/// Major and minor.
pub(crate) type Release = (u8, u8);

/// A line of a file: how far it is indented, its words, and where it is.
struct Line {
    indent: usize,
    words: Vec<String>,
    place: String,
}

impl Line {
    fn word(&self, i: usize) -> &str {
        self.words
            .get(i)
            .unwrap_or_else(|| self.fail("too few words"))
    }
    fn rest(&self, i: usize) -> Vec<String> {
        self.words[i.min(self.words.len())..].to_vec()
    }
    fn number<T: std::str::FromStr>(&self, i: usize) -> T {
        self.word(i)
            .parse()
            .unwrap_or_else(|_| self.fail("not a number"))
    }
    /// Takes what follows `mark` off the line, which may have spaces.
    fn cut(&mut self, mark: &str) -> Option<String> {
        let i = self.words.iter().position(|w| w.starts_with(mark))?;
        Some(self.words.split_off(i).join(" ")[mark.len()..].to_owned())
    }
    /// One of two words.
    fn choice(&self, i: usize, yes: &str, no: &str) -> bool {
        match self.word(i) {
            w if w == yes => true,
            w if w == no => false,
            _ => self.fail("neither of two words"),
        }
    }
    fn optional(&self, i: usize) -> Option<String> {
        Some(self.word(i)).filter(|w| *w != "-").map(str::to_owned)
    }
    fn fail(&self, what: &str) -> ! {
        panic!("{}: {what}", self.place)
    }
}

fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(i, line)| Line {
            indent: line.len() - line.trim_start().len(),
            words: line.split_whitespace().map(str::to_owned).collect(),
            place: format!("{}:{}", path.display(), i + 1),
        })
        .collect()
}

/// `apps/v1`, or `v1` for the core group.
fn group_version(text: &str) -> (String, String) {
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    (group.to_owned(), version.to_owned())
}

impl Facts {
    pub(crate) fn read(dir: &Path) -> Self {
        let mut resources = read_resources(&lines(&dir.join("resources.txt")));
        resources
            .sort_by(|a, b| (&a.group, &a.version, &a.name).cmp(&(&b.group, &b.version, &b.name)));
        let mut kinds: Vec<_> = lines(&dir.join("kinds.txt"))
            .iter()
            .map(read_kind)
            .collect();
        kinds.sort();
        let mut gates = read_gates(&lines(&dir.join("gates.txt")));
        gates.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            messages: read_messages(lines(&dir.join("messages.txt"))),
            resources,
            kinds,
            gates,
        }
    }
}

fn read_kind(line: &Line) -> (String, String, String, String) {
    let (group, version) = match line.word(0) {
        "*" => ("*".to_owned(), "*".to_owned()),
        gv => group_version(gv),
    };
    (
        group,
        version,
        line.word(1).to_owned(),
        line.word(2).to_owned(),
    )
}

fn read_gates(lines: &[Line]) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    for line in lines {
        if line.indent == 0 {
            let specs = line.rest(1);
            gates.push(Gate {
                name: line.word(0).to_owned(),
                history: specs.iter().map(|spec| read_spec(line, spec)).collect(),
                needs: Vec::new(),
            });
            continue;
        }
        let gate = gates.last_mut();
        let gate = gate.unwrap_or_else(|| line.fail("a fact without a gate"));
        match line.word(0) {
            "needs" => gate.needs = line.rest(1),
            _ => line.fail("a fact that the build does not know"),
        }
    }
    gates
}

fn read_spec(line: &Line, spec: &str) -> GateSpec {
    let mut parts = spec.split(':');
    let mut part = || parts.next().unwrap_or_else(|| line.fail("too few parts"));
    let since = read_release(line, part());
    let stage = part().to_owned();
    let on = match part() {
        "on" => true,
        "off" => false,
        _ => line.fail("neither on nor off"),
    };
    let (mut locked, mut min_compatibility) = (false, None);
    for part in parts {
        match part.strip_prefix("min=") {
            Some(least) => min_compatibility = Some(read_release(line, least)),
            None if part == "locked" => locked = true,
            None => line.fail("a part that the build does not know"),
        }
    }
    GateSpec {
        since,
        min_compatibility,
        stage,
        on,
        locked,
    }
}

fn read_release(line: &Line, text: &str) -> Release {
    let (major, minor) = text.split_once('.').unwrap_or((text, ""));
    let number = |text: &str| text.parse().unwrap_or_else(|_| line.fail("no release"));
    (number(major), number(minor))
}

fn read_messages(lines: Vec<Line>) -> BTreeMap<String, Message> {
    let mut messages: Vec<(String, Message)> = Vec::new();
    for line in lines {
        if line.indent == 0 {
            let atomic = line.words.len() > 3 && line.choice(3, "atomic", "");
            let message = Message {
                openapi: line.word(2).to_owned(),
                atomic,
                fields: Vec::new(),
            };
            messages.push((line.word(1).to_owned(), message));
        } else {
            let (_, message) = messages
                .last_mut()
                .unwrap_or_else(|| line.fail("a field without a message"));
            message.fields.push(read_field(line));
        }
    }
    messages.into_iter().collect()
}

fn read_field(mut line: Line) -> Field {
    let enumeration = line
        .cut("enum=")
        .map(|values| split(&values, '|'))
        .unwrap_or_default();
    let mut kind = line.word(1);
    let mut strip = |prefix| {
        let stripped = kind.strip_prefix(prefix);
        kind = stripped.unwrap_or(kind);
        stripped.is_some()
    };
    let pointer = strip("*");
    let shape = if strip("[]") {
        Shape::List
    } else if strip("map[string]") {
        Shape::Map
    } else {
        Shape::One
    };
    let element_pointer = strip("*");
    Field {
        name: Some(line.word(0)).filter(|n| *n != "+").map(str::to_owned),
        tag: if line.word(2) == "-" {
            0
        } else {
            line.number(2)
        },
        pointer,
        shape,
        element_pointer,
        kind: kind.to_owned(),
        attributes: Attributes {
            enumeration,
            ..read_attributes(&line)
        },
    }
}

fn split(values: &str, by: char) -> Vec<String> {
    values.split(by).map(str::to_owned).collect()
}

fn read_attributes(line: &Line) -> Attributes {
    let mut a = Attributes::default();
    for word in &line.words[3..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "omitempty" => a.omit_empty = true,
            "omitzero" => a.omit_zero = true,
            "required" => a.required = true,
            "map" if value == "atomic" => a.map_atomic = true,
            "list" => a.list = Some(value.to_owned()),
            "keys" => a.keys = split(value, ','),
            "patch" => a.patch = split(value, ','),
            "patch-key" => a.patch_key = Some(value.to_owned()),
            "go" => a.go_type = Some(value.to_owned()),
            "default" => a.default = Some(value.to_owned()),
            _ => line.fail("an attribute that the build does not know"),
        }
    }
    a
}

fn read_resources(lines: &[Line]) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for line in lines {
        if line.indent == 0 {
            resources.push(new_resource(line));
            continue;
        }
        let r = resources
            .last_mut()
            .unwrap_or_else(|| line.fail("a fact without a resource"));
        if line.indent > 2 {
            let sub = r
                .subresources
                .last_mut()
                .unwrap_or_else(|| line.fail("a fact without a subresource"));
            sub.reset = line.rest(1);
        } else {
            add_to_resource(r, line);
        }
    }
    resources
}

fn new_resource(line: &Line) -> Resource {
    let (group, version) = group_version(line.word(1));
    Resource {
        group,
        version,
        name: line.word(2).to_owned(),
        kind: line.word(3).to_owned(),
        singular: line.optional(4).unwrap_or_default(),
        namespaced: line.choice(5, "namespaced", "cluster"),
        on: line.choice(6, "on", "off"),
        message: line.word(7).to_owned(),
        list: line.optional(8),
        introduced: (0, 0),
        removed: None,
        verbs: Vec::new(),
        short: Vec::new(),
        categories: Vec::new(),
        flags: Vec::new(),
        gc: "background".to_owned(),
        ttl: None,
        storage: None,
        reset: Vec::new(),
        labels: Vec::new(),
        columns: Vec::new(),
        subresources: Vec::new(),
    }
}

fn add_to_resource(r: &mut Resource, line: &Line) {
    match line.word(0) {
        "introduced" => r.introduced = read_release(line, line.word(1)),
        "removed" => r.removed = Some(read_release(line, line.word(1))),
        "verbs" => r.verbs = line.rest(1),
        "short" => r.short = line.rest(1),
        "categories" => r.categories = line.rest(1),
        "flags" => r.flags = line.rest(1),
        "reset" => r.reset = line.rest(1),
        "gc" => line.word(1).clone_into(&mut r.gc),
        "ttl" => r.ttl = Some(line.number(1)),
        "label" => r
            .labels
            .push((line.word(1).to_owned(), line.word(2).to_owned())),
        "storage" => {
            let (group, version) = group_version(line.word(1));
            r.storage = Some(Storage {
                group,
                version,
                message: line.word(2).to_owned(),
                json: line.choice(3, "json", "protobuf"),
                prefix: line.word(4).to_owned(),
                former: Vec::new(),
            });
        }
        "former" => {
            let storage = r.storage.as_mut().expect("what is stored comes first");
            let (group, version) = group_version(line.word(2));
            assert_eq!(group, storage.group, "a kind stays in its group");
            storage.former.push(Former {
                until: read_release(line, line.word(1)),
                version,
                message: line.word(3).to_owned(),
            });
        }
        "column" => r.columns.push(Column {
            kind: line.word(1).to_owned(),
            format: line.optional(2).unwrap_or_default(),
            priority: line.number(3),
            name: line.rest(4).join(" "),
        }),
        "sub" => {
            let (group, version) = group_version(line.word(2));
            r.subresources.push(Subresource {
                name: line.word(1).to_owned(),
                group,
                version,
                kind: line.word(3).to_owned(),
                message: line.optional(4),
                verbs: line.rest(5),
                reset: Vec::new(),
            });
        }
        _ => line.fail("a fact that the build does not know"),
    }
}
