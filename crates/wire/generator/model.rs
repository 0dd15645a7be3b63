//! The schema as data: APIs, structs and fields, with the versions they exist in.

use std::collections::BTreeMap;

/// Versions `low..=high`, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

impl Versions {
    pub const ALL: Versions = Versions { low: 0, high: i16::MAX };

    pub fn contains(self, version: i16) -> bool {
        (self.low..=self.high).contains(&version)
    }

    /// The condition on `version` in Rust, or `None` when it always holds.
    pub fn condition(self) -> Option<String> {
        match (self.low, self.high) {
            (0, i16::MAX) => None,
            (low, i16::MAX) => Some(format!("version >= {low}")),
            (0, high) => Some(format!("version <= {high}")),
            (low, high) if low == high => Some(format!("version == {low}")),
            (low, high) => Some(format!("({low}..={high}).contains(&version)")),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U16,
    F64,
    Uuid,
    Str,
    Bytes,
    Records,
    Struct(String),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub is_array: bool,
    /// Where it may be null; `None` when it never may.
    pub nullable: Option<Versions>,
    pub versions: Versions,
    pub default: Option<String>,
    pub tag: Option<u32>,
    pub is_ignorable: bool,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
    /// Top-level messages check the version they are asked to speak.
    pub is_message: bool,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub name: String,
    /// `None` for data that travels inside another message.
    pub key: Option<i16>,
    pub versions: Versions,
    pub flexible_from: Option<i16>,
    pub structs: Vec<Struct>,
}

#[derive(Default)]
pub struct Schema {
    pub apis: Vec<Api>,
}

impl Schema {
    /// By key, data last: the order does not depend on which file an API stands in.
    pub fn sort(&mut self) {
        self.apis.sort_by_key(|api| (api.key.unwrap_or(i16::MAX), api.name.clone()));
    }
}

impl Api {
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    /// The fewest bytes that each struct can take on the wire, over all versions: what bounds the count of an array.
    pub fn wire_bytes_min(&self) -> BTreeMap<String, usize> {
        let names = self.structs.iter().map(|one| one.name.clone());
        names.map(|name| (name.clone(), self.struct_bytes_min(&name))).collect()
    }

    fn struct_bytes_min(&self, name: &str) -> usize {
        let versions = self.versions.low..=self.versions.high;
        versions.map(|version| self.struct_bytes(name, version)).min().unwrap_or(0)
    }

    fn struct_bytes(&self, name: &str, version: i16) -> usize {
        let Some(found) = self.structs.iter().find(|one| one.name == name) else {
            panic!("{}: no struct {name}", self.name);
        };
        let flexible = self.is_flexible(version);
        let present = found.fields.iter().filter(|field| field.tag.is_none() && field.versions.contains(version));
        present.map(|field| self.field_bytes(field, version)).sum::<usize>() + usize::from(flexible)
    }

    fn field_bytes(&self, field: &Field, version: i16) -> usize {
        let flexible = self.is_flexible(version);
        if field.is_array {
            return if flexible { 1 } else { 4 };
        }
        match &field.kind {
            Kind::Bool | Kind::I8 => 1,
            Kind::I16 | Kind::U16 => 2,
            Kind::I32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::Uuid => 16,
            Kind::Str => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes | Kind::Records => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(_) if field.nullable.is_some() => 1,
            Kind::Struct(name) => self.struct_bytes(name, version),
        }
    }
}

/// `DescribeConfigs` to `describe_configs`.
pub fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
