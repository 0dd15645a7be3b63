//! Rows of `text/csv` (RFC 4180): each is a record, as it stands. With `text/csv; header=present` the first row has the names
//! of the fields, and each further one becomes an object of them: `{"name":"Ann","age":"7"}`.

use bytes::Bytes;
use serde_json::{Map, Value};

/// A row: the line that it begins on, from 1, and its value or what is wrong with it.
pub type Row = (usize, Result<Bytes, String>);

/// All rows that are not empty, without the one of the names.
pub fn rows(body: &Bytes, has_names: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut names: Option<Result<Vec<String>, String>> = None;
    for (line, row) in split(body) {
        let read = match (has_names, &names) {
            (false, _) => fields(&row).map(|_| row),
            (true, None) => {
                names = Some(fields(&row));
                continue;
            }
            (true, Some(Ok(names))) => fields(&row).and_then(|fields| object(names, fields)),
            (true, Some(Err(problem))) => Err(format!("the row of the names cannot be read: {problem}")),
        };
        rows.push((line, read));
    }
    rows
}

/// Ends of lines within quotes are text.
fn split(body: &Bytes) -> Vec<(usize, Bytes)> {
    let mut rows = Vec::new();
    let (mut start, mut line, mut first_line, mut is_quoted) = (0, 1, 1, false);
    for (at, byte) in body.iter().chain(b"\n").enumerate() {
        let is_end = at == body.len();
        is_quoted ^= *byte == b'"';
        if *byte != b'\n' || (is_quoted && !is_end) {
            line += usize::from(*byte == b'\n');
            continue;
        }
        let row = body.slice(start..at);
        let row = row.strip_suffix(b"\r").map_or(row.clone(), |shorter| row.slice_ref(shorter));
        if !row.is_empty() {
            rows.push((first_line, row));
        }
        line += 1;
        (start, first_line) = (at + 1, line);
    }
    rows
}

fn fields(row: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(row).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err("a quote stands within a field that does not begin with one".to_owned());
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows the closing quote of a field".to_owned()),
        }
    }
}

/// Two quotes are one; the field ends with a single one.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
}

fn object(names: &[String], fields: Vec<String>) -> Result<Bytes, String> {
    if fields.len() != names.len() {
        return Err(format!("it has {} fields, and {} have a name", fields.len(), names.len()));
    }
    let object: Map<String, Value> = names.iter().cloned().zip(fields.into_iter().map(Value::String)).collect();
    Ok(Value::Object(object).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &'static str, has_names: bool, expected: &[(usize, Result<&str, &str>)]) {
        let rows = rows(&Bytes::from_static(body.as_bytes()), has_names);
        let rows: Vec<_> = rows
            .iter()
            .map(|(line, row)| (*line, row.as_ref().map(|row| std::str::from_utf8(row).unwrap()).map_err(|s| &s[..])))
            .collect();
        assert_eq!(rows, expected, "{body}");
    }

    #[test]
    fn a_row_is_a_record_as_it_stands() {
        check("a,b\r\n\n\"c\n\"\"d\",e\nf", false, &[(1, Ok("a,b")), (3, Ok("\"c\n\"\"d\",e")), (5, Ok("f"))]);
        check("", false, &[]);
        check("a,\n,", false, &[(1, Ok("a,")), (2, Ok(","))]);
    }

    #[test]
    fn with_names_a_row_is_an_object() {
        check(
            "name,\"the age\"\nAnn,7\n\"Bob \"\"B\"\"\",\n",
            true,
            &[(2, Ok(r#"{"name":"Ann","the age":"7"}"#)), (3, Ok(r#"{"name":"Bob \"B\"","the age":""}"#))],
        );
    }

    #[test]
    fn a_bad_row_does_not_spoil_the_others() {
        let quote = "a quote stands within a field that does not begin with one";
        check("a\nb\"c\"\nd", false, &[(1, Ok("a")), (2, Err(quote)), (3, Ok("d"))]);
        check("\"a\"b\nc", false, &[(1, Err("something follows the closing quote of a field")), (2, Ok("c"))]);
        check("a\n\"b", false, &[(1, Ok("a")), (2, Err("a quote is not closed"))]);
        check("a,b\n1\n2,3", true, &[(2, Err("it has 1 fields, and 2 have a name")), (3, Ok(r#"{"a":"2","b":"3"}"#))]);
    }
}
