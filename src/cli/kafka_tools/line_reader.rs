//! The lines of `kafka-console-producer`: `HEADERS<tab>KEY<tab>VALUE`, as far as its reader properties say so.

use bytes::Bytes;

use super::super::produce::find;
use super::ToolError;
use super::properties::Properties;
use crate::client::ProducerRecord;

/// How lines become records.
#[derive(Debug)]
pub struct LineReader {
    parse_key: bool,
    parse_headers: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
    line_number: u64,
}

impl LineReader {
    pub fn new(properties: &Properties) -> Result<LineReader, ToolError> {
        let text = |name: &str, default: &str| properties.get(name).unwrap_or(default).to_owned();
        let reader = LineReader {
            parse_key: properties.is_true("parse.key"),
            parse_headers: properties.is_true("parse.headers"),
            key_separator: text("key.separator", "\t"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            ignore_error: properties.is_true("ignore.error"),
            null_marker: properties.get("null.marker").map(str::to_owned),
            line_number: 0,
        };
        if reader.parse_headers && reader.headers_separator == reader.headers_key_separator {
            return Err(ToolError::failed("headers.separator and headers.key.separator may not be equal"));
        }
        let separators = [
            &reader.key_separator,
            &reader.headers_delimiter,
            &reader.headers_separator,
            &reader.headers_key_separator,
        ];
        match separators.iter().any(|separator| Some(*separator) == reader.null_marker.as_ref()) {
            true => Err(ToolError::failed("null.marker and a separator may not be equal")),
            false => Ok(reader),
        }
    }

    pub fn read(&mut self, line: Bytes) -> Result<ProducerRecord, String> {
        self.line_number += 1;
        let mut record = ProducerRecord::default();
        let mut rest = line;
        if self.parse_headers {
            let (headers, after) = self.cut(&rest, &self.headers_delimiter, "headers delimiter")?;
            if let Some(headers) = headers.filter(|headers| !self.is_null(headers)) {
                record.headers = self.headers(&headers)?;
            }
            rest = after;
        }
        if self.parse_key {
            let (key, after) = self.cut(&rest, &self.key_separator, "key separator")?;
            record.key = key.filter(|key| !self.is_null(key));
            rest = after;
        }
        record.value = Some(rest).filter(|value| !self.is_null(value));
        Ok(record)
    }

    fn is_null(&self, text: &Bytes) -> bool {
        self.null_marker.as_ref().is_some_and(|marker| text == marker.as_bytes())
    }

    /// What stands before the separator, and what after it. Without one the line is at fault, or all of it is the rest.
    fn cut(&self, text: &Bytes, separator: &str, what: &str) -> Result<(Option<Bytes>, Bytes), String> {
        match find(text, separator.as_bytes()) {
            Some(position) => Ok((Some(text.slice(..position)), text.slice(position + separator.len()..))),
            None if self.ignore_error => Ok((None, text.clone())),
            None => {
                let line = String::from_utf8_lossy(text);
                Err(format!("No {what} found on line number {}: '{line}'", self.line_number))
            }
        }
    }

    fn headers(&self, text: &Bytes) -> Result<Vec<(Bytes, Option<Bytes>)>, String> {
        let mut headers = Vec::new();
        let mut rest = text.clone();
        loop {
            let end = find(&rest, self.headers_separator.as_bytes());
            let pair = rest.slice(..end.unwrap_or(rest.len()));
            headers.push(match find(&pair, self.headers_key_separator.as_bytes()) {
                Some(position) => {
                    let value = pair.slice(position + self.headers_key_separator.len()..);
                    (pair.slice(..position), Some(value).filter(|value| !self.is_null(value)))
                }
                None if self.ignore_error => (pair, None),
                None => {
                    let pair = String::from_utf8_lossy(&pair);
                    let line = self.line_number;
                    return Err(format!("No header key separator found in pair '{pair}' on line number {line}"));
                }
            });
            match end {
                Some(end) => rest = rest.slice(end + self.headers_separator.len()..),
                None => return Ok(headers),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[&str]) -> LineReader {
        LineReader::new(&Properties::from_pairs(pairs).unwrap()).unwrap()
    }

    fn record(key: Option<&'static str>, value: Option<&'static str>) -> ProducerRecord {
        ProducerRecord { key: key.map(Bytes::from), value: value.map(Bytes::from), ..ProducerRecord::default() }
    }

    #[test]
    fn a_line_is_a_value_unless_the_properties_say_more() {
        assert_eq!(reader(&[]).read("a\tb".into()).unwrap(), record(None, Some("a\tb")));
        assert_eq!(reader(&["parse.key=true"]).read("a\tb\tc".into()).unwrap(), record(Some("a"), Some("b\tc")));
        let mut colons = reader(&["parse.key=true", "key.separator=::"]);
        assert_eq!(colons.read("a::b".into()).unwrap(), record(Some("a"), Some("b")));
    }

    #[test]
    fn headers_come_first() {
        let mut reader = reader(&["parse.key=true", "parse.headers=true"]);
        let read = reader.read("h1:a,h2:b:c,h1:\tk\tv".into()).unwrap();
        let expected: Vec<(Bytes, Option<Bytes>)> =
            [("h1", "a"), ("h2", "b:c"), ("h1", "")].map(|(name, value)| (name.into(), Some(value.into()))).into();
        assert_eq!(read, ProducerRecord { headers: expected, ..record(Some("k"), Some("v")) });
        assert_eq!(
            reader.read("\tk\tv".into()).unwrap_err(),
            "No header key separator found in pair '' on line number 2"
        );
    }

    #[test]
    fn a_missing_separator_is_an_error_or_a_value() {
        let mut strict = reader(&["parse.key=true"]);
        assert!(strict.read("a\tb".into()).is_ok());
        assert_eq!(strict.read("nokey".into()).unwrap_err(), "No key separator found on line number 2: 'nokey'");
        let mut lenient = reader(&["parse.key=true", "ignore.error=true"]);
        assert_eq!(lenient.read("nokey".into()).unwrap(), record(None, Some("nokey")));
    }

    #[test]
    fn the_null_marker_is_null() {
        let mut reader = reader(&["parse.key=true", "null.marker=NULL"]);
        assert_eq!(reader.read("NULL\tv".into()).unwrap(), record(None, Some("v")));
        assert_eq!(reader.read("k\tNULL".into()).unwrap(), record(Some("k"), None));
    }
}
