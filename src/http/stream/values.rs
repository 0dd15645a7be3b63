//! Records as JSON. A value that is JSON stays what it is, text becomes a string, and bytes become `{"$b64":"…"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capek_wire::batch::Record;
use capek_wire::ids::Offset;
use serde_json::Value;

use super::super::json;
use super::super::query::QueryPairs;

/// How bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON if it parses, else a string if it is UTF-8, else base64.
    Auto,
    Json,
    String,
    Base64,
    Hex,
}

/// How records are shown, and which of their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    pub key: Format,
    pub value: Format,
    pub has_timestamp: bool,
    pub has_headers: bool,
    /// As strings: above 2^53 a number of JavaScript is another one.
    pub has_text_offsets: bool,
}

/// A key is a name: unless asked for, one like `42` does not become a number.
impl Default for Formats {
    fn default() -> Formats {
        Formats {
            key: Format::String,
            value: Format::Auto,
            has_timestamp: true,
            has_headers: true,
            has_text_offsets: false,
        }
    }
}

impl Format {
    fn parse(name: &str, text: &str) -> Result<Format, String> {
        match text {
            "auto" => Ok(Format::Auto),
            "json" => Ok(Format::Json),
            "string" => Ok(Format::String),
            "base64" => Ok(Format::Base64),
            "hex" => Ok(Format::Hex),
            "avro" | "protobuf" | "jsonschema" => {
                Err(format!("{name}={text} needs a schema registry: there is none yet"))
            }
            _ => Err(format!("{name}={text} is not auto, json, string, base64 or hex")),
        }
    }
}

impl Formats {
    /// `format` and `key_format`.
    pub fn of(query: &QueryPairs) -> Result<Formats, String> {
        Formats::named(query.get("format"), query.get("key_format"))
    }

    pub fn named(format: Option<&str>, key_format: Option<&str>) -> Result<Formats, String> {
        let value = format.map_or(Ok(Format::Auto), |text| Format::parse("format", text))?;
        let key = match key_format {
            Some(text) => Format::parse("key_format", text)?,
            None if matches!(value, Format::Auto | Format::Json) => Format::String,
            None => value,
        };
        Ok(Formats { key, value, ..Formats::default() })
    }

    /// An offset as this client reads it.
    pub fn offset(self, offset: Offset) -> Value {
        if self.has_text_offsets { Value::from(offset.to_string()) } else { Value::from(offset) }
    }

    /// The same, appended to a frame.
    pub fn put_offset(self, out: &mut Vec<u8>, offset: Offset) {
        let quote = if self.has_text_offsets { "\"" } else { "" };
        out.extend_from_slice(format!("{quote}{offset}{quote}").as_bytes());
    }
}

/// Appends `"offset":…,"ts":…,"key":…,"value":…` and the headers if there are any, as far as they are shown, without braces.
pub fn put_record(out: &mut Vec<u8>, record: &Record, formats: Formats) {
    out.extend_from_slice(b"\"offset\":");
    formats.put_offset(out, record.offset);
    if formats.has_timestamp {
        out.extend_from_slice(format!(",\"ts\":{}", record.timestamp).as_bytes());
    }
    out.extend_from_slice(b",\"key\":");
    put_value(out, record.key.as_deref(), formats.key);
    out.extend_from_slice(b",\"value\":");
    put_value(out, record.value.as_deref(), formats.value);
    if record.headers.is_empty() || !formats.has_headers {
        return;
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, header) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        put_value(out, Some(&header.key), Format::String);
        out.push(b',');
        put_value(out, header.value.as_deref(), Format::String);
        out.push(b']');
    }
    out.push(b']');
}

/// Appends the bytes as one JSON value.
pub fn put_value(out: &mut Vec<u8>, bytes: Option<&[u8]>, format: Format) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    let is_json = matches!(format, Format::Auto | Format::Json);
    if let (true, Ok(raw)) = (is_json, json::parse(bytes)) {
        return json::put_compact(out, raw.get());
    }
    match format {
        Format::Auto | Format::String => match std::str::from_utf8(bytes) {
            Ok(text) => json::put_string(out, text),
            Err(_) => put_wrapped(out, bytes),
        },
        Format::Json => put_wrapped(out, bytes),
        Format::Base64 => json::put_string(out, &STANDARD.encode(bytes)),
        Format::Hex => {
            out.push(b'"');
            out.extend(bytes.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]));
            out.push(b'"');
        }
    }
}

fn put_wrapped(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"$b64\":");
    json::put_string(out, &STANDARD.encode(bytes));
    out.push(b'}');
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble)]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use capek_wire::batch::RecordHeader;

    use super::*;

    fn shown(bytes: &[u8], format: Format) -> String {
        let mut out = Vec::new();
        put_value(&mut out, Some(bytes), format);
        let text = String::from_utf8(out).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        assert!(!text.contains('\n'), "a line of NDJSON or of an event: {text}");
        text
    }

    #[test]
    fn auto_shows_what_it_can() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(shown(bytes, Format::Auto), expected);
        check(b"{\"a\":\n 1.0}", r#"{"a":1.0}"#);
        check(b"12345678901234567890123", "12345678901234567890123");
        check(b"text", r#""text""#);
        check(b"{\"a\":}", r#""{\"a\":}""#);
        check(b"two\nlines", r#""two\nlines""#);
        check(b"</script>\x00", "\"</script>\\u0000\"");
        check(b"\xff\x00", r#"{"$b64":"/wA="}"#);
        check(b"", r#""""#);
    }

    #[test]
    fn the_other_formats_are_as_named() {
        assert_eq!(shown(b"1", Format::String), r#""1""#);
        assert_eq!(shown(b"\xff", Format::String), r#"{"$b64":"/w=="}"#);
        assert_eq!(shown(b"text", Format::Json), r#"{"$b64":"dGV4dA=="}"#);
        assert_eq!(shown(b"[ 1 ]", Format::Json), "[1]");
        assert_eq!(shown(b"\x01\xab", Format::Hex), r#""01ab""#);
        assert_eq!(shown(b"\x01\xab", Format::Base64), r#""Aas=""#);
    }

    #[test]
    fn a_record_has_its_headers_in_order() {
        let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
            key: Bytes::from(key),
            value: value.map(Bytes::from),
        };
        let record = Record {
            offset: 7,
            timestamp: 1,
            key: Some(Bytes::from("42")),
            value: None,
            headers: vec![header("h", Some("1")), header("h", None)],
        };
        let check = |formats, expected: &str| {
            let mut out = Vec::new();
            put_record(&mut out, &record, formats);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let all = Formats::default();
        check(all, r#""offset":7,"ts":1,"key":"42","value":null,"headers":[["h","1"],["h",null]]"#);
        check(Formats { has_headers: false, ..all }, r#""offset":7,"ts":1,"key":"42","value":null"#);
        let bare = Formats { has_headers: false, has_timestamp: false, has_text_offsets: true, ..all };
        check(bare, r#""offset":"7","key":"42","value":null"#);
    }
}
