//! The structs of all messages, how they are read and written, and the list of them.

use std::fmt::Write;

use super::model::{Api, Schema, Struct, snake_case};
use super::sample;

pub fn generate(schema: &Schema) -> String {
    let mut out = String::new();
    let mut visits = String::new();
    for api in &schema.apis {
        let module = snake_case(&api.name);
        out.push_str(&generate_api(api, &module));
        if api.key.is_some() {
            line(&mut visits, format!("visitor.visit::<{module}::{}Request>();", api.name));
        }
    }
    line(&mut out, "/// Shows every request type to the visitor, by rising key.".to_string());
    out + "pub fn visit_apis<V: ApiVisitor>(visitor: &mut V) {\n" + &visits + "}\n"
}

fn generate_api(api: &Api, module: &str) -> String {
    let mut out = String::new();
    let (low, high) = (api.versions.low, api.versions.high);
    line(&mut out, format!("/// {}, versions {low} to {high}.", api.name));
    line(&mut out, format!("pub mod {module} {{ use super::prelude::*;"));
    for one in &api.structs {
        out.push_str(&generate_struct(api, one));
    }
    if api.key.is_none() {
        line(&mut out, format!("}} pub use {module}::{};", api.name));
        return out;
    }
    let name = &api.name;
    line(
        &mut out,
        format!(
            "impl Request for {name}Request {{ const KEY: ApiKey = ApiKey::{name}; type Response = {name}Response; }}\n\
             }} pub use {module}::{{{name}Request, {name}Response}};"
        ),
    );
    out
}

fn generate_struct(api: &Api, one: &Struct) -> String {
    let mut out = String::new();
    let name = &one.name;
    line(&mut out, format!("/// {name} of {}.", api.name));
    line(&mut out, format!("#[derive(Clone, Debug, PartialEq)] pub struct {name} {{"));
    for field in &one.fields {
        if let Some(condition) = field.versions.condition() {
            line(&mut out, format!("/// Where `{condition}`."));
        }
        line(&mut out, format!("pub {}: {},", field.name, field.rust_type()));
    }
    line(&mut out, format!("}} impl Default for {name} {{ fn default() -> Self {{ {name} {{"));
    for field in &one.fields {
        line(&mut out, format!("{}: {},", field.name, field.default()));
    }
    line(&mut out, format!("}} }} }} impl Message for {name} {{"));
    out.push_str(&decode(api, one));
    out.push_str(&encode(api, one));
    out.push_str(&sample::generate(one));
    out + "}\n"
}

fn decode(api: &Api, one: &Struct) -> String {
    let mut out = String::new();
    line(&mut out, "fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {".to_string());
    out.push_str(&prologue(api, one, "DecodeError"));
    line(&mut out, "let mut message = Self::default();".to_string());
    for field in one.fields.iter().filter(|field| field.tag.is_none()) {
        let read = format!("message.{} = {};", field.name, field.decode(api));
        line(&mut out, guarded(field.versions.condition(), &read));
    }
    out.push_str(&decode_tags(api, one));
    out + "Ok(message) }\n"
}

fn encode(api: &Api, one: &Struct) -> String {
    let mut out = String::new();
    line(&mut out, "fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {".to_string());
    out.push_str(&prologue(api, one, "EncodeError"));
    for field in &one.fields {
        if field.tag.is_none() {
            line(&mut out, guarded(field.versions.condition(), &field.encode(&one.name)));
        }
        if let Some(condition) = field.versions.condition().filter(|_| !field.is_ignorable) {
            let error = format!("EncodeError::Field {{ field: \"{}.{}\", version }}", one.name, field.name);
            line(&mut out, format!("if !({condition}) && ({}) {{ return Err({error}); }}", field.is_set()));
        }
    }
    out.push_str(&encode_tags(api, one));
    out + "Ok(()) }\n"
}

fn decode_tags(api: &Api, one: &Struct) -> String {
    if api.flexible_from.is_none() {
        return String::new();
    }
    if one.fields.iter().all(|field| field.tag.is_none()) {
        return "if flexible { r.get_tags(|_, _| Ok(false))?; }\n".to_string();
    }
    let mut out = String::from("if flexible { r.get_tags(|r, tag| match tag {\n");
    for field in &one.fields {
        let Some(tag) = field.tag else { continue };
        let condition = field.versions.condition().map(|condition| format!("if {condition}")).unwrap_or_default();
        let read = field.decode(api);
        line(&mut out, format!("{tag} {condition} => {{ message.{} = {read}; Ok(true) }}", field.name));
    }
    out + "_ => Ok(false) })?; }\n"
}

fn encode_tags(api: &Api, one: &Struct) -> String {
    if api.flexible_from.is_none() {
        return String::new();
    }
    let mut tagged: Vec<_> = one.fields.iter().filter(|field| field.tag.is_some()).collect();
    if tagged.is_empty() {
        return "if flexible { w.put_uvarint(0); }\n".to_string();
    }
    tagged.sort_by_key(|field| field.tag);
    let mut out = String::from("if flexible { let mut tags = TagWriter::default();\n");
    for field in tagged {
        let write = format!("tags.put({}, |w| {{ {} Ok(()) }})?;", field.tag.unwrap_or(0), field.encode(&one.name));
        let only_when_set = format!("if {} {{ {write} }}", field.is_set());
        line(&mut out, guarded(field.versions.condition(), &only_when_set));
    }
    out + "tags.finish(w); }\n"
}

/// Whole messages refuse a version that they do not have; both need to know whether it is a flexible one.
fn prologue(api: &Api, one: &Struct, error: &str) -> String {
    let mut out = String::new();
    if one.is_message {
        let (low, high) = (api.versions.low, api.versions.high);
        let refuse = format!("return Err({error}::Version {{ message: \"{}\", version }});", one.name);
        line(&mut out, format!("if !({low}..={high}).contains(&version) {{ {refuse} }}"));
    }
    let flexible = match api.flexible_from {
        None => "false".to_string(),
        Some(from) if from <= api.versions.low => "true".to_string(),
        Some(from) => format!("version >= {from}"),
    };
    line(&mut out, format!("let flexible = {flexible};"));
    out
}

pub fn guarded(condition: Option<String>, statement: &str) -> String {
    match condition {
        None => statement.to_string(),
        Some(condition) => format!("if {condition} {{ {statement} }}"),
    }
}

pub fn line(out: &mut String, text: String) {
    writeln!(out, "{text}").expect("a string takes all");
}
