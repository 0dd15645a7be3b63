//! What one field becomes in Rust: its type, its default, and how it is read and written.

use super::model::{Api, Field, Kind, Versions};

impl Field {
    pub fn rust_type(&self) -> String {
        let element = match &self.kind {
            Kind::Bool => "bool",
            Kind::I8 => "i8",
            Kind::I16 => "i16",
            Kind::I32 => "i32",
            Kind::I64 => "i64",
            Kind::U16 => "u16",
            Kind::F64 => "f64",
            Kind::Uuid => "Uuid",
            Kind::Str => "Str",
            Kind::Bytes | Kind::Records => "Bytes",
            Kind::Struct(name) => name,
        };
        let whole = if self.is_array { format!("Vec<{element}>") } else { element.to_string() };
        if self.nullable.is_some() { format!("Option<{whole}>") } else { whole }
    }

    /// Kafka's default: what a version that lacks the field leaves in it.
    pub fn default(&self) -> String {
        if self.is_null_by_default() {
            return "None".to_string();
        }
        let whole = match (&self.default, &self.kind) {
            (Some(value), Kind::F64) => format!("{value}f64"),
            (Some(value), _) => value.clone(),
            _ => "Default::default()".to_string(),
        };
        if self.nullable.is_some() { format!("Some({whole})") } else { whole }
    }

    fn is_null_by_default(&self) -> bool {
        self.default.as_deref() == Some("null") || (self.nullable.is_some() && self.kind == Kind::Records)
    }

    /// An expression that is true when the field holds something else than its default.
    pub fn is_set(&self) -> String {
        let name = &self.name;
        if self.is_null_by_default() {
            return format!("self.{name}.is_some()");
        }
        let is_empty_by_default = self.is_array || matches!(self.kind, Kind::Str | Kind::Bytes | Kind::Records);
        match (is_empty_by_default, self.nullable.is_some()) {
            (true, true) => format!("self.{name}.as_ref().is_none_or(|value| !value.is_empty())"),
            (true, false) => format!("!self.{name}.is_empty()"),
            (false, true) if matches!(self.kind, Kind::Struct(_)) => {
                format!("self.{name}.as_ref() != Some(&{})", self.default_value())
            }
            (false, _) if self.kind == Kind::Bool && self.default.as_deref() == Some("true") => format!("!self.{name}"),
            (false, _) if self.kind == Kind::Bool => format!("self.{name}"),
            (false, _) => format!("self.{name} != {}", self.default_value()),
        }
    }

    fn default_value(&self) -> String {
        match (&self.default, &self.kind) {
            (Some(value), _) => value.clone(),
            (None, Kind::Struct(name)) => format!("{name}::default()"),
            (None, Kind::Uuid) => "Uuid::ZERO".to_string(),
            (None, Kind::F64) => "0.0".to_string(),
            (None, _) => "0".to_string(),
        }
    }

    /// An expression that reads the field from `r`.
    pub fn decode(&self, api: &Api) -> String {
        match self.null_condition() {
            Null::Never => self.decode_as(api, false),
            Null::Always => self.decode_as(api, true),
            Null::When(condition) => {
                let (nullable, not_null) = (self.decode_as(api, true), self.decode_as(api, false));
                format!("if {condition} {{ {nullable} }} else {{ Some({not_null}) }}")
            }
        }
    }

    fn decode_as(&self, api: &Api, nullable: bool) -> String {
        let prefix = if nullable { "get_nullable_" } else { "get_" };
        if self.is_array {
            let (element, bytes_min) = (self.decode_element(), self.element_bytes_min(api));
            return format!("r.{prefix}array(flexible, {bytes_min}, |r| {element})?");
        }
        match &self.kind {
            Kind::Str => format!("r.{prefix}str(flexible)?"),
            Kind::Bytes | Kind::Records => format!("r.{prefix}bytes(flexible)?"),
            Kind::Struct(name) if nullable => {
                let tagged = if self.tag.is_some() { "tagged_" } else { "" };
                format!("r.get_nullable_{tagged}struct(|r| {name}::decode(r, version))?")
            }
            _ => format!("{}?", self.decode_element()),
        }
    }

    fn decode_element(&self) -> String {
        match &self.kind {
            Kind::Str => "r.get_str(flexible)".to_string(),
            Kind::Bytes | Kind::Records => "r.get_bytes(flexible)".to_string(),
            Kind::Struct(name) => format!("{name}::decode(r, version)"),
            kind => format!("r.get_{}()", primitive(kind)),
        }
    }

    fn element_bytes_min(&self, api: &Api) -> usize {
        let bytes = match &self.kind {
            Kind::Bool | Kind::I8 | Kind::Str | Kind::Bytes | Kind::Records => 1,
            Kind::I16 | Kind::U16 => 2,
            Kind::I32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::Uuid => 16,
            Kind::Struct(name) => api.wire_bytes_min()[name],
        };
        bytes.max(1)
    }

    /// A statement that writes the field to `w`.
    pub fn encode(&self, owner: &str) -> String {
        let name = &self.name;
        match self.null_condition() {
            Null::Never => self.encode_as(&format!("&self.{name}"), false),
            Null::Always => self.encode_as(&format!("self.{name}.as_ref()"), true),
            Null::When(condition) => {
                let nullable = self.encode_as(&format!("self.{name}.as_ref()"), true);
                let not_null = self.encode_as("value", false);
                format!(
                    "if {condition} {{ {nullable} }} else {{ \
                     let value = self.{name}.as_ref().ok_or(EncodeError::Null {{ field: \"{owner}.{name}\", version }})?; \
                     {not_null} }}"
                )
            }
        }
    }

    fn encode_as(&self, value: &str, nullable: bool) -> String {
        let prefix = if nullable { "put_nullable_" } else { "put_" };
        if self.is_array {
            let element = self.encode_element();
            return format!("w.{prefix}array({value}, flexible, |w, value| {element})?;");
        }
        match &self.kind {
            Kind::Str => format!("w.{prefix}str({value}, flexible)?;"),
            Kind::Bytes => format!("w.{prefix}bytes({value}, flexible)?;"),
            Kind::Records => format!("w.{prefix}chunk({value}, flexible)?;"),
            Kind::Struct(_) if nullable => {
                let tagged = if self.tag.is_some() { "tagged_" } else { "" };
                format!("w.put_nullable_{tagged}struct({value}, |w, value| value.encode(w, version))?;")
            }
            Kind::Struct(_) => format!("self.{}.encode(w, version)?;", self.name),
            kind => format!("w.put_{}(self.{});", primitive(kind), self.name),
        }
    }

    fn encode_element(&self) -> String {
        match &self.kind {
            Kind::Str => "w.put_str(value, flexible)".to_string(),
            Kind::Bytes | Kind::Records => "w.put_bytes(value, flexible)".to_string(),
            Kind::Struct(_) => "value.encode(w, version)".to_string(),
            kind => format!("{{ w.put_{}(*value); Ok(()) }}", primitive(kind)),
        }
    }

    /// An expression for a random value, see `testing`.
    pub fn sample(&self) -> String {
        let element = match &self.kind {
            Kind::Str => "s.str()".to_string(),
            Kind::Bytes | Kind::Records => "s.bytes()".to_string(),
            Kind::Struct(name) => format!("{name}::sample(s, version)"),
            kind => format!("s.{}()", primitive(kind)),
        };
        let whole = if self.is_array { format!("s.array(|s| {element})") } else { element };
        match self.null_condition() {
            Null::Never => whole,
            Null::Always => format!("s.nullable(true, |s| {whole})"),
            Null::When(condition) => format!("s.nullable({condition}, |s| {whole})"),
        }
    }

    fn null_condition(&self) -> Null {
        match self.nullable {
            None => Null::Never,
            Some(Versions::ALL) => Null::Always,
            Some(versions) => Null::When(versions.condition().expect("not all versions")),
        }
    }
}

/// In which versions a field may be null.
enum Null {
    Never,
    Always,
    When(String),
}

fn primitive(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::I8 => "i8",
        Kind::I16 => "i16",
        Kind::I32 => "i32",
        Kind::I64 => "i64",
        Kind::U16 => "u16",
        Kind::F64 => "f64",
        Kind::Uuid => "uuid",
        Kind::Str | Kind::Bytes | Kind::Records | Kind::Struct(_) => unreachable!("not a primitive"),
    }
}
