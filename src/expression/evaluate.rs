//! What an expression says of a record.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{Comparison, Field, Node, Step};

/// A record as an expression sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// The value as JSON, read when it is first asked for.
pub struct Json<'a> {
    bytes: Option<&'a [u8]>,
    parsed: OnceCell<Value>,
}

impl<'a> Json<'a> {
    pub fn new(bytes: Option<&'a [u8]>) -> Json<'a> {
        Json { bytes, parsed: OnceCell::new() }
    }

    /// What is no JSON is null.
    fn get(&self) -> &Value {
        self.parsed
            .get_or_init(|| self.bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or(Value::Null))
    }
}

pub fn evaluate<'a>(node: &'a Node, record: &Subject<'a>, json: &'a Json<'a>) -> Cow<'a, Value> {
    let test = |node: &'a Node| is_true(&evaluate(node, record, json));
    let result = match node {
        Node::Literal(value) => return Cow::Borrowed(value),
        Node::Path(steps) => return Cow::Borrowed(follow(json.get(), steps)),
        Node::Field(field) => return Cow::Owned(field_of(field, record)),
        Node::Or(left, right) => test(left) || test(right),
        Node::And(left, right) => test(left) && test(right),
        Node::Not(inner) => !test(inner),
        Node::Compare(left, comparison, right) => {
            compare(&evaluate(left, record, json), *comparison, &evaluate(right, record, json))
        }
        Node::Matches(left, regex) => {
            let left = evaluate(left, record, json);
            !left.is_null() && regex.is_match(&text(&left))
        }
    };
    Cow::Owned(Value::Bool(result))
}

pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn field_of(field: &Field, record: &Subject) -> Value {
    let bytes = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
        None => Value::Null,
    };
    match field {
        Field::Key => bytes(record.key),
        Field::Value => bytes(record.value),
        Field::Topic => Value::String(record.topic.to_owned()),
        Field::Offset => record.offset.into(),
        Field::Partition => record.partition.into(),
        Field::Timestamp => record.timestamp.into(),
        // Of several with one name the last counts, as for Kafka's clients.
        Field::Header(name) => {
            let found = record.headers.iter().rev().find(|(key, _)| *key == name.as_bytes());
            bytes(found.and_then(|(_, value)| *value))
        }
    }
}

fn follow<'a>(mut value: &'a Value, steps: &[Step]) -> &'a Value {
    for step in steps {
        let next = match step {
            Step::Name(name) => value.get(name),
            Step::Index(index) => value.get(index),
        };
        match next {
            Some(next) => value = next,
            None => return &Value::Null,
        }
    }
    value
}

fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    match comparison {
        Comparison::Equal => order(left, right) == Some(Ordering::Equal),
        Comparison::NotEqual => order(left, right) != Some(Ordering::Equal),
        Comparison::Less => order(left, right) == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order(left, right), Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order(left, right) == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order(left, right), Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Contains => !left.is_null() && text(left).contains(&*text(right)),
        Comparison::StartsWith => !left.is_null() && text(left).starts_with(&*text(right)),
    }
}

/// Numbers as numbers where both sides are or look like one, else as text. Null is equal to itself and ordered with nothing.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => None,
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => numeric_order(&left, &right),
            _ => Some(text(left).cmp(&text(right))),
        },
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whole numbers exactly: a double holds only 53 bits of them.
fn numeric_order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}
