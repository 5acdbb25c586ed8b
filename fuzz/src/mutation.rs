//! Objects changed at a few places: where the bytes of a text would hardly ever make another object.

use proto::catalogue::{Field, Kind, Shape};
use proto::{MsgId, Value};

use crate::Input;

/// The most edits of one object.
const MOST: u8 = 12;
/// The deepest place that is edited.
const DEEPEST: usize = 24;

/// Changes a tree as the input says, with what its message has at hand.
pub(crate) fn edit(tree: &mut Value, message: MsgId, input: &mut Input<'_>) {
    let edits = input.byte() % MOST;
    for _ in 0..edits {
        one(tree, Some(message), input);
    }
}

fn one(mut at: &mut Value, mut message: Option<MsgId>, input: &mut Input<'_>) {
    let mut kind = None;
    for _ in 0..DEEPEST {
        if input.is_empty() {
            return;
        }
        let choice = input.byte();
        let here = usize::from(choice >> 2);
        match at {
            // One in four ends the way down.
            _ if choice & 3 == 3 => break,
            Value::Map(map) if choice & 3 == 2 || map.is_empty() => {
                return change(map, message, input);
            }
            Value::Map(map) => {
                let at_place = here % map.len();
                let (name, below) = map.iter_mut().nth(at_place).expect("below their number");
                let field = message.and_then(|m| m.field(name.known()?));
                (message, kind) = (field.and_then(message_of), field.map(|f| f.kind));
                at = below;
            }
            Value::List(items) if choice & 3 == 2 || items.is_empty() => {
                return rearrange(items, message, kind, here, input);
            }
            Value::List(items) => {
                let place = here % items.len();
                at = &mut items[place];
            }
            _ => break,
        }
    }
    *at = value(message, kind, input);
}

fn message_of(field: &Field) -> Option<MsgId> {
    match field.kind {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

/// Takes a field out, or puts one in that the message has.
fn change(map: &mut proto::Map, message: Option<MsgId>, input: &mut Input<'_>) {
    let choice = input.byte();
    if choice & 1 == 0 && !map.is_empty() {
        let name = map
            .iter()
            .nth(usize::from(choice >> 1) % map.len())
            .map(|(name, _)| name.to_string());
        map.remove(name.unwrap_or_default().as_str());
        return;
    }
    let fields = message
        .map(|m| m.fields().collect::<Vec<_>>())
        .unwrap_or_default();
    if fields.is_empty() {
        let name = text(input);
        let value = value(None, None, input);
        map.insert(name.as_str(), value);
        return;
    }
    let field = fields[usize::from(choice >> 1) % fields.len()];
    let one = |input: &mut Input<'_>| value(message_of(field), Some(field.kind), input);
    let value = match field.shape {
        Shape::One => one(input),
        Shape::List => Value::List((0..=input.byte() % 3).map(|_| one(input)).collect()),
        Shape::Map => Value::Map(
            (0..=input.byte() % 3)
                .map(|_| (text(input).as_str().into(), one(input)))
                .collect(),
        ),
    };
    map.insert(field.name, value);
}

fn rearrange(
    items: &mut Vec<Value>,
    message: Option<MsgId>,
    kind: Option<Kind>,
    place: usize,
    input: &mut Input<'_>,
) {
    match (input.byte() % 4, items.is_empty()) {
        (0, false) => drop(items.remove(place % items.len())),
        (1, false) => {
            let again = items[place % items.len()].clone();
            items.push(again);
        }
        (2, false) => items.rotate_left(1),
        _ => items.push(value(message, kind, input)),
    }
}

/// What rules have to do with.
const TEXTS: [&str; 40] = [
    "",
    "a",
    "A",
    "-",
    "a.b",
    "a/b",
    "a/b/c",
    "example.com/x",
    "*",
    "..",
    "/",
    "/a/../b",
    " ",
    "é",
    "a\0b",
    "\u{202e}",
    "0",
    "-1",
    "65536",
    "99999999999999999999",
    "100m",
    "1Gi",
    "0.1",
    "50%",
    "101%",
    "http",
    "10.0.0.1",
    "010.0.0.1",
    "::1",
    "::ffff:1.2.3.4",
    "10.0.0.0/8",
    "10.0.0.1/33",
    "2026-01-01T00:00:00Z",
    "1h",
    "@every 1s",
    "*/0 * * * *",
    "https://a.example:99999/x?y#z",
    "system:node:x",
    "object.spec.x > 1 && has(self)",
    "nvidia.com/gpu",
];

const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    80,
    100,
    443,
    1024,
    32_767,
    65_535,
    65_536,
    2_147_483_647,
    -2_147_483_648,
    2_147_483_648,
    i64::MAX,
    i64::MIN,
];

fn text(input: &mut Input<'_>) -> String {
    match input.byte() {
        choice @ ..160 => TEXTS[usize::from(choice) % TEXTS.len()].to_owned(),
        160..176 => "a".repeat(64 * usize::from(input.byte())),
        _ => String::from_utf8_lossy(input.some()).into_owned(),
    }
}

/// Something for a field of this kind, mostly.
fn value(message: Option<MsgId>, kind: Option<Kind>, input: &mut Input<'_>) -> Value {
    let choice = input.byte();
    if choice < 40 {
        return match choice % 8 {
            0 => Value::Null,
            1 => Value::Bool(input.flag()),
            2 => Value::Int(input.pick(&NUMBERS)),
            3 => Value::Float(f64::from(input.byte()) / 8.0),
            4 => Value::List(vec![]),
            5 => Value::object(),
            6 => Value::List(vec![Value::Null]),
            _ => text(input).into(),
        };
    }
    match kind {
        Some(Kind::Bool) => Value::Bool(choice & 1 == 1),
        Some(Kind::Int32 | Kind::Int64 | Kind::Float64) => Value::Int(input.pick(&NUMBERS)),
        Some(Kind::IntOrString) if choice & 1 == 1 => Value::Int(input.pick(&NUMBERS)),
        Some(Kind::Strings) => Value::List((0..=choice % 3).map(|_| text(input).into()).collect()),
        Some(Kind::RawExtension | Kind::Json | Kind::FieldsV1 | Kind::Message(_)) | None
            if choice & 3 != 3 =>
        {
            let mut map = proto::Map::new();
            for _ in 0..choice % 5 {
                if input.is_empty() {
                    break;
                }
                change(&mut map, message, input);
            }
            Value::Map(map)
        }
        _ => text(input).into(),
    }
}
