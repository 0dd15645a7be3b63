//! Reads the notation of `schema/README.md`.

use super::model::{Api, Field, Kind, Schema, Struct, Versions};

/// A line that says something: its place for messages, its depth, and its text.
struct Line<'a> {
    place: String,
    depth: usize,
    text: &'a str,
}

/// Adds the APIs of one file to the schema.
pub fn parse(file: &str, text: &str, schema: &mut Schema) {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    // Struct that the fields of each depth go to, as an index into the structs of the API.
    let mut owners: Vec<usize> = Vec::new();
    for (index, raw) in lines {
        let text = raw.trim_start();
        let spaces = raw.len() - text.len();
        let line = Line { place: format!("{file}:{}", index + 1), depth: spaces / 2, text: text.trim_end() };
        assert!(spaces % 2 == 0, "{}: odd indentation", line.place);
        if line.depth == 0 {
            schema.apis.push(api(&line));
            owners.clear();
            continue;
        }
        let place = &line.place;
        let api = schema.apis.last_mut().unwrap_or_else(|| panic!("{place}: a field before the first api"));
        match section(&line, api) {
            Some(name) => {
                api.structs.push(Struct { is_message: !text.starts_with("struct"), name, fields: Vec::new() });
                owners = vec![api.structs.len() - 1];
            }
            None => add_field(&line, api, &mut owners),
        }
    }
}

/// `api NAME KEY versions LOW-HIGH flexible FROM+` or `data NAME versions ..`.
fn api(line: &Line) -> Api {
    let words: Vec<&str> = line.text.split(' ').collect();
    let (key, rest) = match words[0] {
        "api" => (Some(number(line, words[2])), &words[3..]),
        "data" => (None, &words[2..]),
        _ => panic!("{}: neither api nor data", line.place),
    };
    let ["versions", versions, "flexible", flexible] = rest else { panic!("{}: unknown head", line.place) };
    let flexible_from = (*flexible != "never").then(|| self::versions(line, flexible).low);
    let name = words[1].to_string();
    let mut api = Api { name, key, versions: self::versions(line, versions), flexible_from, structs: Vec::new() };
    if api.key.is_none() {
        api.structs.push(Struct { name: api.name.clone(), fields: Vec::new(), is_message: true });
    }
    api
}

/// The struct that a `request`, `response` or `struct NAME` line opens.
fn section(line: &Line, api: &Api) -> Option<String> {
    match line.text {
        _ if line.depth != 1 => None,
        "request" => Some(format!("{}Request", api.name)),
        "response" => Some(format!("{}Response", api.name)),
        text => text.strip_prefix("struct ").map(str::to_string),
    }
}

fn add_field(line: &Line, api: &mut Api, owners: &mut Vec<usize>) {
    let top = if api.key.is_none() { 1 } else { 2 };
    if owners.is_empty() {
        owners.push(0);
    }
    let level = line.depth.checked_sub(top).unwrap_or_else(|| panic!("{}: field outside a section", line.place));
    assert!(level <= owners.len(), "{}: too deep", line.place);
    owners.truncate(level + 1);
    if level == owners.len() {
        // The first field below a struct field opens that struct.
        let above = api.structs[owners[level - 1]].fields.last();
        let Some(Kind::Struct(name)) = above.map(|field| field.kind.clone()) else {
            panic!("{}: deeper than a field that is no struct", line.place);
        };
        assert!(api.structs.iter().all(|one| one.name != name), "{}: a second struct {name}", line.place);
        api.structs.push(Struct { name, fields: Vec::new(), is_message: false });
        owners.push(api.structs.len() - 1);
    }
    api.structs[owners[level]].fields.push(field(line));
}

/// `name: TYPE[?[VERSIONS]] [VERSIONS] [= DEFAULT] [@TAG] [~]`.
fn field(line: &Line) -> Field {
    let Some((name, rest)) = line.text.split_once(": ") else { panic!("{}: no type", line.place) };
    let mut words = rest.split(' ');
    let kind = words.next().expect("split gives at least one part");
    let (kind, nullable) = match kind.split_once('?') {
        None => (kind, None),
        Some((kind, "")) => (kind, Some(Versions::ALL)),
        Some((kind, from)) => (kind, Some(versions(line, from))),
    };
    let element = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']'));
    let mut field = Field {
        name: if matches!(name, "match" | "type") { format!("{name}_") } else { name.to_string() },
        kind: self::kind(element.unwrap_or(kind)),
        is_array: element.is_some(),
        nullable,
        versions: Versions::ALL,
        default: None,
        tag: None,
        is_ignorable: false,
    };
    while let Some(word) = words.next() {
        match word {
            "=" => field.default = words.next().map(str::to_string),
            "~" => field.is_ignorable = true,
            _ => match word.strip_prefix('@') {
                Some(tag) => field.tag = Some(number(line, tag)),
                None => field.versions = versions(line, word),
            },
        }
    }
    field
}

fn kind(name: &str) -> Kind {
    match name {
        "bool" => Kind::Bool,
        "i8" => Kind::I8,
        "i16" => Kind::I16,
        "i32" => Kind::I32,
        "i64" => Kind::I64,
        "u16" => Kind::U16,
        "f64" => Kind::F64,
        "uuid" => Kind::Uuid,
        "str" => Kind::Str,
        "bytes" => Kind::Bytes,
        "records" => Kind::Records,
        name => Kind::Struct(name.to_string()),
    }
}

fn versions(line: &Line, text: &str) -> Versions {
    if let Some(low) = text.strip_suffix('+') {
        return Versions { low: number(line, low), high: i16::MAX };
    }
    match text.split_once('-') {
        None => Versions { low: number(line, text), high: number(line, text) },
        Some(("", high)) => Versions { low: 0, high: number(line, high) },
        Some((low, high)) => Versions { low: number(line, low), high: number(line, high) },
    }
}

fn number<T: std::str::FromStr>(line: &Line, text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{}: not a number: {text}", line.place))
}
