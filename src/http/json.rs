//! JSON as text: what is JSON already stays as it was written, numbers and the order of fields included.

use serde_json::value::RawValue;

/// Appends `text` as a JSON string.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("text is written to memory");
}

/// `text` is JSON: the same without white space between its tokens, and so on one line.
pub fn put_compact(out: &mut Vec<u8>, json: &str) {
    let mut is_in_string = false;
    let mut is_escaped = false;
    for byte in json.bytes() {
        if is_in_string {
            out.push(byte);
            if is_escaped {
                is_escaped = false;
            } else if byte == b'\\' {
                is_escaped = true;
            } else if byte == b'"' {
                is_in_string = false;
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            is_in_string = byte == b'"';
            out.push(byte);
        }
    }
}

/// The bytes as JSON if they are.
pub fn parse(bytes: &[u8]) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// The error without its position, which is one within the text that was read: that may be a part of something larger.
pub fn what_is_wrong(error: &serde_json::Error) -> String {
    let what = error.to_string();
    what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let check = |json: &str, expected: &str| {
            assert!(parse(json.as_bytes()).is_ok(), "{json}");
            let mut out = Vec::new();
            put_compact(&mut out, json);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(" { \"b\" : 1.10 ,\n\t\"a\": [ 1, 2 ] }\r\n", r#"{"b":1.10,"a":[1,2]}"#);
        check(r#""a \" b \\ c""#, r#""a \" b \\ c""#);
        check(r#"{"a \\": " x "}"#, r#"{"a \\":" x "}"#);
        check("123456789012345678901234567890", "123456789012345678901234567890");
    }
}
