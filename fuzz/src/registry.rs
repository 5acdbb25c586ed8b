//! Writes of objects of every resource, from their body to what would be stored.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use component::serving::User;
use proto::Value;
use proto::catalogue::{Release, Resource};
use proto::codec::json;
use resources::Cx;
use resources::object;
use resources::rehearsal::Rehearsal;

use crate::codec::written;
use crate::objects::{Object, objects};
use crate::{Target, mutation};

const NOW: &str = "2026-01-01T00:00:00Z";
const NOW_SECONDS: i64 = 1_767_225_600;
const UID: &str = "5eed0000-0000-4000-8000-000000000001";

/// An object that is created, or written over a good one, or over one of its parts.
pub(crate) const REGISTRY: Target = Target {
    name: "registry",
    run: |mut input| {
        let all = objects();
        let choice = usize::from(input.number()) % all.len();
        let object = &all[choice];
        let way = input.byte();
        let resource = object.resource;
        let Some(rehearsal) = Rehearsal::of(resource.group, resource.version, resource.name) else {
            return;
        };
        let mut tree = json::parse(&object.json).expect("seeds are JSON");
        mutation::edit(&mut tree, resource.message, &mut input);
        let body = written(&tree);
        let user = User {
            name: "fuzz".into(),
            groups: vec!["system:authenticated".into()],
            ..User::default()
        };
        let cx = context(&user, resource);
        if way & 1 == 0 {
            if let Ok(created) = rehearsal.create(&cx, UID, &body) {
                stays(&rehearsal, &cx, resource, &created.json());
            }
            return;
        }
        let Ok(stored) = rehearsal.create(&cx, UID, &object.json) else {
            return;
        };
        let stored = stored.json();
        let parts = resource.subresources;
        let part = match usize::from(way >> 1) % (parts.len() + 1) {
            0 => "",
            n => parts[n - 1].name,
        };
        if let Ok(updated) = rehearsal.update(&cx, part, &body, &stored) {
            let _ = updated.json();
        }
    },
    seeds: || {
        let numbers = (0_u16..).zip(objects());
        numbers
            .flat_map(|(i, _)| (0..8).map(move |way| [&i.to_le_bytes()[..], &[way, 1, 0]].concat()))
            .collect()
    },
};

fn context<'a>(user: &'a User, resource: &Resource) -> Cx<'a> {
    Cx {
        user,
        namespace: if resource.namespaced { "default" } else { "" },
        now: NOW,
        now_seconds: NOW_SECONDS,
        gates: proto::catalogue::Gates::defaults(),
        allow_privileged: true,
        objections: &[],
        dry_run: false,
    }
}

/// What is stored can be written again as it is, which changes nothing.
fn stays(rehearsal: &Rehearsal, cx: &Cx<'_>, resource: &'static Resource, stored: &[u8]) {
    // In the version in which it is stored, which is not always that of the request.
    let types = object::types(resource, Release::COMPATIBLE);
    let same = types.is_some_and(|(served, hub)| served.message == hub.message);
    if !same || !resource.can("update") {
        return;
    }
    if let Ok(again) = rehearsal.update(cx, "", stored, stored) {
        assert_eq!(
            String::from_utf8_lossy(&again.json()),
            String::from_utf8_lossy(stored),
            "an update with what is there changes it"
        );
    }
}

/// A field of an object that holds what certificate authorities and their clients exchange.
#[derive(Clone, Copy)]
struct Encoded {
    kind: &'static str,
    path: &'static [&'static str],
    /// The part of the object that is written.
    part: &'static str,
    /// The label of its PEM block; empty where it holds the bytes themselves.
    label: &'static str,
    /// Whether the block is in base64 once more, as all bytes are in JSON.
    is_bytes: bool,
}

const ENCODED: [Encoded; 5] = [
    Encoded {
        kind: "CertificateSigningRequest",
        path: &["spec", "request"],
        part: "",
        label: "CERTIFICATE REQUEST",
        is_bytes: true,
    },
    Encoded {
        kind: "CertificateSigningRequest",
        path: &["status", "certificate"],
        part: "status",
        label: "CERTIFICATE",
        is_bytes: true,
    },
    Encoded {
        kind: "PodCertificateRequest",
        path: &["spec", "stubPKCS10Request"],
        part: "",
        label: "",
        is_bytes: true,
    },
    Encoded {
        kind: "PodCertificateRequest",
        path: &["status", "certificateChain"],
        part: "status",
        label: "CERTIFICATE",
        is_bytes: false,
    },
    Encoded {
        kind: "ClusterTrustBundle",
        path: &["spec", "trustBundle"],
        part: "",
        label: "CERTIFICATE",
        is_bytes: false,
    },
];

impl Encoded {
    fn object(&self) -> &'static Object {
        let found = objects().iter().find(|o| o.resource.kind == self.kind);
        found.expect("there are seeds of the kind")
    }

    fn encode(&self, der: &[u8]) -> String {
        if self.label.is_empty() {
            return BASE64_STANDARD.encode(der);
        }
        let lines: Vec<String> = BASE64_STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let (label, lines) = (self.label, lines.join("\n"));
        let pem = format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n");
        if self.is_bytes {
            BASE64_STANDARD.encode(pem)
        } else {
            pem
        }
    }

    fn decode(&self, text: &str) -> Vec<u8> {
        let bytes = if self.is_bytes {
            BASE64_STANDARD.decode(text).unwrap_or_default()
        } else {
            text.as_bytes().to_vec()
        };
        if self.label.is_empty() {
            return bytes;
        }
        let pem = String::from_utf8_lossy(&bytes);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        BASE64_STANDARD.decode(body).unwrap_or_default()
    }
}

/// Requests for certificates, certificates and bundles of them in objects. The input is DER: what is around it is made here.
pub(crate) const CERTIFICATES: Target = Target {
    name: "certificates",
    run: |mut input| {
        let place = input.pick(&ENCODED);
        let object = place.object();
        let resource = object.resource;
        let rehearsal = Rehearsal::of(resource.group, resource.version, resource.name);
        let rehearsal = rehearsal.expect("it is stored");
        let mut tree = json::parse(&object.json).expect("seeds are JSON");
        tree.set(place.path, place.encode(input.rest()));
        let body = written(&tree);
        let user = User {
            name: "fuzz".into(),
            ..User::default()
        };
        let cx = context(&user, resource);
        let written = if place.part.is_empty() {
            rehearsal.create(&cx, UID, &body)
        } else {
            let Ok(stored) = rehearsal.create(&cx, UID, &object.json) else {
                return;
            };
            rehearsal.update(&cx, place.part, &body, &stored.json())
        };
        drop(written);
    },
    seeds: || {
        let mut seeds = Vec::new();
        for (i, place) in (0_u8..).zip(ENCODED) {
            for object in objects().iter().filter(|o| o.resource.kind == place.kind) {
                let tree = json::parse(&object.json).expect("seeds are JSON");
                let text = tree
                    .at(place.path)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                seeds.push([&[i], &*place.decode(text)].concat());
            }
        }
        let some = seeds
            .iter()
            .filter(|s| s.len() > 1)
            .cloned()
            .collect::<Vec<_>>();
        for (i, seed) in (0_u8..5).cycle().zip(some) {
            seeds.push([&[i], &seed[1..]].concat());
        }
        seeds
    },
};
