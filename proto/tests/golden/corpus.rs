//! Where the golden objects are, and how to compare with them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use proto::codec::json;
use proto::{Value, catalogue};

pub(crate) const HEAD: &str = "HEAD";
pub(crate) const EARLIER: [&str; 4] = ["v1.33.0", "v1.34.0", "v1.35.0", "v1.36.0"];

/// The module whose test data this is, at the version that the catalogue was made from.
const MODULE: &str = "k8s.io/api@v0.37.1";

static TESTDATA: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir("/")
        .output();
    let output = output.expect("these tests need go for `go mod download`");
    assert!(
        output.status.success(),
        "go mod download {MODULE}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let about = json::parse(&output.stdout).expect("go prints JSON");
    let dir = about
        .get("Dir")
        .and_then(Value::as_str)
        .expect("go says where the module is");
    PathBuf::from(dir).join("testdata")
});

/// One object in its three forms.
pub(crate) struct Golden {
    /// `apps.v1.Deployment`
    pub(crate) name: String,
    release: String,
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) json: Vec<u8>,
    pub(crate) yaml: Vec<u8>,
    pub(crate) protobuf: Vec<u8>,
}

impl Golden {
    fn read(release: &str, name: &str) -> Self {
        let form = |extension| file(release, name, extension).expect("an object has three forms");
        let json = form("json");
        let head = json::parse(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = |key: &str| {
            head.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            name: name.to_owned(),
            release: release.to_owned(),
            api_version: text("apiVersion"),
            kind: text("kind"),
            yaml: form("yaml"),
            protobuf: form("pb"),
            json,
        }
    }

    /// What becomes of the object in this release; form by form, as only those that change are kept.
    pub(crate) fn after(&self) -> Self {
        let form = |extension, before: &Vec<u8>| {
            let after = file(
                &self.release,
                &format!("{}.after_roundtrip", self.name),
                extension,
            );
            after.unwrap_or_else(|| before.clone())
        };
        Self {
            name: self.name.clone(),
            release: self.release.clone(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            json: form("json", &self.json),
            yaml: form("yaml", &self.yaml),
            protobuf: form("pb", &self.protobuf),
        }
    }

    pub(crate) fn message(&self) -> Option<proto::MsgId> {
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version));
        catalogue::message_of(group, version, &self.kind)
    }
}

fn file(release: &str, name: &str, extension: &str) -> Option<Vec<u8>> {
    std::fs::read(TESTDATA.join(release).join(format!("{name}.{extension}"))).ok()
}

/// The objects of a release, sorted by name.
pub(crate) fn corpus(release: &str) -> Vec<Golden> {
    let dir = std::fs::read_dir(TESTDATA.join(release)).expect("the module has the test data");
    let names = dir.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .filter(|name| !name.ends_with(".after_roundtrip"))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| Golden::read(release, name))
        .collect()
}

/// JSON without the space between its tokens. The golden files are indented; raw fields would keep
/// that in protobuf.
pub(crate) fn compact(json: &[u8]) -> Vec<u8> {
    let (mut string, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        if string {
            string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            return true;
        }
        string = *byte == b'"';
        !byte.is_ascii_whitespace()
    };
    json.iter().copied().filter(keep).collect()
}

/// The tree with the keys of its raw JSON sorted.
pub(crate) fn sorted_raw(value: Value) -> Value {
    match value {
        Value::Raw(raw) => {
            let mut out = Vec::new();
            json::write(&json::parse(&raw).expect("raw fields are JSON"), &mut out);
            Value::Raw(out.into())
        }
        Value::List(items) => Value::List(items.into_iter().map(sorted_raw).collect()),
        Value::Map(map) => Value::Map(
            map.into_iter()
                .map(|(name, value)| (name, sorted_raw(value)))
                .collect(),
        ),
        other => other,
    }
}

pub(crate) fn first_difference(got: &[u8], want: &[u8]) -> String {
    let at = got
        .iter()
        .zip(want)
        .position(|(a, b)| a != b)
        .unwrap_or(got.len().min(want.len()));
    let around = |bytes: &[u8]| {
        let piece = &bytes[at.saturating_sub(60)..bytes.len().min(at + 60)];
        String::from_utf8_lossy(piece).into_owned()
    };
    format!(
        "at byte {at}\n got {:?}\nwant {:?}",
        around(got),
        around(want)
    )
}
