use proto::catalogue::{GateId, Release};

use super::*;
use crate::object;
use crate::strategies;

#[allow(
    dead_code,
    reason = "proto's own tests use all of it: the golden objects of upstream's API module"
)]
#[path = "../../../../proto/tests/golden/corpus.rs"]
mod corpus;

/// The decoder of the resource that keeps objects of a kind.
fn decoder(group: &str, kind: &str) -> Option<Objects> {
    decoder_with(group, kind, Gates::defaults())
}

fn decoder_with(group: &str, kind: &str, gates: Gates) -> Option<Objects> {
    let heir = |of: &str| match group {
        "extensions" => ["apps", "networking.k8s.io"].contains(&of),
        group => group == of,
    };
    let resource = catalogue::resources()
        .iter()
        .find(|r| r.kind == kind && r.storage.is_some() && heir(r.group))?;
    let (_, hub) = object::types(resource, Release::COMPATIBLE)?;
    Some(Objects::new(hub, strategies::of(resource), resource, gates))
}

fn sealed(hub: Type, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::protobuf::envelope(raw, &hub.api_version(), hub.kind, &mut out);
    out
}

/// What the object is once it has been read.
fn read(decoder: &Objects, value: &[u8]) -> Bytes {
    let entry = decoder.unversioned("a/b", value);
    entry
        .unwrap_or_else(|e| panic!("{}: {e}", decoder.hub.kind))
        .body
}

/// Every object of every release that is kept, by its decoder. Versions that upstream's scheme has no more are left out.
fn goldens() -> Vec<(corpus::Golden, Objects)> {
    let releases = corpus::EARLIER.into_iter().chain([corpus::HEAD]);
    let all = releases.flat_map(corpus::corpus);
    all.filter_map(|golden| {
        let (group, _) = meta::parse_api_version(&golden.api_version)?;
        golden.message()?;
        let decoder = decoder(group, &golden.kind)?;
        Some((golden, decoder))
    })
    .collect()
}

#[test]
fn what_can_be_selected_on_is_found_in_the_object() {
    let mut lost = Vec::new();
    for resource in catalogue::resources() {
        let Some((_, hub)) = object::types(resource, Release::COMPATIBLE) else {
            continue;
        };
        for (label, attr) in resource.field_labels {
            if ways(hub, strategies::of(resource), attr).is_empty() {
                lost.push((resource.name, *label));
            }
        }
    }
    // Upstream takes the label and never has a value for it.
    assert_eq!(lost, [("pods", "status.podIPs")]);
}

#[test]
fn what_is_no_object_of_its_resource_is_refused_and_never_guessed() {
    let decoder = decoder("", "ConfigMap").unwrap();
    let entry = |value: &[u8]| decoder.entry("a/b", Bytes::copy_from_slice(value), 7);
    let stored = |kind: &str, raw: &[u8]| {
        // runtime.Unknown: the type (version and kind), then the object.
        let field = |tag: u8, text: &[u8]| [&[tag, text.len() as u8], text].concat();
        let types = [field(0x0a, b"v1"), field(0x12, kind.as_bytes())].concat();
        [&b"k8s\0"[..], &field(0x0a, &types), &field(0x12, raw)].concat()
    };
    // metadata: {name: "b"}, data: {"k": "v"}
    let raw = b"\x0a\x03\x0a\x01b\x12\x06\x0a\x01k\x12\x01v";
    let good = stored("ConfigMap", raw);
    assert!(entry(&good).is_ok());
    // Between its two fields an envelope is whole, around an object that has nothing.
    let between = good.len() - 2 - raw.len();
    for cut in (0..good.len()).filter(|cut| *cut != between) {
        assert!(entry(&good[..cut]).is_err(), "cut after {cut} bytes");
    }
    for (value, why) in [
        (&b"k8s:enc:aescbc:v1:key1:0123456789"[..], "sealed"),
        (
            b"k8s:enc:kms:v9:name:0123456789",
            "sealed by what is not known",
        ),
        (
            b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"",
            "JSON that ends early",
        ),
        (
            b"{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}",
            "another kind in JSON",
        ),
        (b"{}", "JSON of no kind"),
        (&stored("Secret", raw), "another kind"),
        (&stored("Nobody", raw), "a kind that nobody knows"),
        (&stored("ConfigMap", b"\xff\xff\xff\xff"), "no message"),
    ] {
        assert!(entry(value).is_err(), "{why}");
    }
}

#[test]
fn every_version_that_any_release_wrote_is_read() {
    let goldens = goldens();
    for (golden, decoder) in &goldens {
        let body = read(decoder, &golden.protobuf);
        // What was read is what is stored when it is written again, and needs no more mending.
        let again = decoder
            .unversioned("a/b", &sealed(decoder.hub, &body))
            .unwrap();
        assert!(!again.mended, "{}", golden.name);
        assert_eq!(again.body, body, "{}", golden.name);
    }
    assert!(goldens.len() > 500, "{}", goldens.len());
}

#[test]
fn an_object_in_json_is_read_as_the_same_in_protobuf() {
    for (golden, decoder) in goldens() {
        let json = corpus::compact(&golden.json);
        assert_eq!(
            read(&decoder, &json),
            read(&decoder, &golden.protobuf),
            "{}",
            golden.name
        );
    }
}

/// Upstream's scheme read the object with its defaults, converted it and wrote it in the version of today.
#[test]
fn older_versions_become_what_upstream_makes_of_them() {
    let cases = include_str!("cases.txt").lines();
    let mut n = 0;
    for line in cases.filter(|line| !line.starts_with('#')) {
        let case = codec::json::parse(line.as_bytes()).unwrap();
        let [version, _, kind, object, expected] = case.as_list().unwrap() else {
            panic!("{line}")
        };
        let (version, kind) = (version.as_str().unwrap(), kind.as_str().unwrap());
        let (group, _) = meta::parse_api_version(version).unwrap();
        let decoder = decoder(group, kind).unwrap();
        let mut object = object.clone();
        object.set(&[n::API_VERSION], version);
        object.set(&[n::KIND], kind);
        let mut text = Vec::new();
        codec::json::write(&object, &mut text);
        let mut want = Vec::new();
        codec::json::write(expected, &mut want);
        let lenient = codec::json::Strictness::Lenient;
        let want = codec::json::decode(&want, decoder.hub.message, lenient).unwrap();
        let mut raw = Vec::new();
        codec::protobuf::encode(&want.value, decoder.hub.message, &mut raw);
        let tree = |raw: &[u8]| {
            let tree = codec::protobuf::decode(raw, decoder.hub.message).unwrap();
            let mut json = Vec::new();
            codec::json::encode(&tree, decoder.hub.message, &mut json);
            String::from_utf8(json).unwrap()
        };
        assert_eq!(tree(&read(&decoder, &text)), tree(&raw), "{line}");
        n += 1;
    }
    assert!(n > 15, "{n}");
}

/// Services always take the way over a tree, Deployments while they name a revision to go back to.
const UNSETTLED: [&str; 2] = ["Deployment", "Service"];

#[test]
fn what_was_read_once_needs_no_tree() {
    let unsettled = |(golden, decoder): (corpus::Golden, Objects)| {
        let body = read(&decoder, &golden.protobuf);
        (!decoder.is_settled(&body)).then_some(golden.kind)
    };
    let mut unsettled: Vec<String> = goldens().into_iter().filter_map(unsettled).collect();
    unsettled.sort();
    unsettled.dedup();
    assert_eq!(unsettled, UNSETTLED);
}

/// Calls `each` with every object that comes of taking one thing out of a tree, or emptying it.
fn lessened(object: &Value, each: &mut impl FnMut(&Value)) {
    fn ways(value: &Value, way: &mut Vec<Step>, all: &mut Vec<Vec<Step>>) {
        all.push(way.clone());
        match value {
            Value::Map(map) => {
                // Pods are the same below everything that makes some.
                let fresh =
                    |name: &str| !matches!(name, "template" | "jobTemplate" | "managedFields");
                for (name, inner) in map.iter().filter(|(name, _)| fresh(name.as_str())) {
                    way.push(Step::Name(name.as_str().to_owned()));
                    ways(inner, way, all);
                    way.pop();
                }
            }
            Value::List(items) => {
                for (i, inner) in items.iter().enumerate() {
                    way.push(Step::Item(i));
                    ways(inner, way, all);
                    way.pop();
                }
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    ways(object, &mut Vec::new(), &mut all);
    for way in all.iter().filter(|way| !way.is_empty()) {
        let (last, above) = way.split_last().expect("it is not empty");
        let mut without = object.clone();
        let holder = follow(&mut without, above);
        match last {
            Step::Name(name) => drop(holder.make_map().remove(name.as_str())),
            Step::Item(i) => drop(holder.make_list().remove(*i)),
        }
        each(&without);
        let mut empty = object.clone();
        let place = follow(&mut empty, way);
        *place = match place {
            Value::String(_) => Value::from(""),
            Value::Int(_) => Value::Int(0),
            Value::Bool(true) => Value::Bool(false),
            _ => continue,
        };
        each(&empty);
    }
}

#[derive(Clone)]
enum Step {
    Name(String),
    Item(usize),
}

fn follow<'a>(value: &'a mut Value, way: &[Step]) -> &'a mut Value {
    way.iter().fold(value, |value, step| match step {
        Step::Name(name) => value
            .get_mut(name.as_str())
            .expect("the way was found in it"),
        Step::Item(i) => &mut value.as_list_mut().expect("the way was found in it")[*i],
    })
}

/// The gates of today, those of the oldest release that is emulated, and all.
fn sets_of_gates() -> [Gates; 3] {
    let oldest = Release::CURRENT.before(3);
    let all = GateId::all().fold(Gates::default(), |all, gate| all.with(gate, true));
    [Gates::defaults(), Gates::at(oldest, oldest), all]
}

#[test]
fn what_is_said_to_be_settled_is_what_a_tree_makes_of_it() {
    for gates in sets_of_gates() {
        settled_with(gates);
    }
}

fn settled_with(gates: Gates) {
    let mut asked = 0;
    for golden in corpus::corpus(corpus::HEAD) {
        let Some((group, _)) = meta::parse_api_version(&golden.api_version) else {
            continue;
        };
        let Some(decoder) = decoder_with(group, &golden.kind, gates) else {
            continue;
        };
        let hub = decoder.hub;
        if golden.api_version != hub.api_version() {
            continue;
        }
        let body = read(&decoder, &golden.protobuf);
        let object = codec::protobuf::decode(&body, hub.message).unwrap();
        lessened(&object, &mut |less: &Value| {
            let mut raw = Vec::new();
            codec::protobuf::encode(less, hub.message, &mut raw);
            if decoder.is_settled(&raw) {
                asked += 1;
                let value = sealed(hub, &raw);
                let mended = decoder.mend(&Stored::open(&value).unwrap()).unwrap();
                if mended != raw {
                    let show = |raw: &[u8]| {
                        let mut out = Vec::new();
                        let value = codec::protobuf::decode(raw, hub.message).unwrap();
                        codec::json::encode(&value, hub.message, &mut out);
                        String::from_utf8(out).unwrap()
                    };
                    panic!("{} {}\n{}", golden.kind, show(&raw), show(&mended));
                }
            }
        });
    }
    assert!(asked > 500, "{asked}");
}
