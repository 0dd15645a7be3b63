//! Kafka's `server.properties` syntax: `key=value`, `key: value` or `key value`, comments with `#` or `!`, lines
//! continued with a backslash, and Java's escapes.

/// One assignment of a properties file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
    /// The line, from 1, on which the assignment begins.
    pub line: usize,
}

/// What is wrong with a properties file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PropertiesError {
    pub line: usize,
    pub problem: &'static str,
}

/// Reads all assignments in order. A name may come twice: the last one wins, as in Java, which is the caller's to do.
pub fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let line = index + 1;
        let (name, value) = split(&logical);
        let name = unescape(name).map_err(|problem| PropertiesError { line, problem })?;
        let value = unescape(value).map_err(|problem| PropertiesError { line, problem })?;
        properties.push(Property { name, value, line });
    }
    Ok(properties)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes at the end continues the line: an even number is escaped backslashes.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// The name ends at the first unescaped blank, `=` or `:`; blanks and one separator lead to the value.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let mut end = line.len();
    for (position, character) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if is_blank(character) || character == '=' || character == ':' {
            end = position;
            break;
        }
    }
    let rest = line[end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    // Java writes characters beyond U+FFFF as two escapes, a surrogate pair.
    let mut high_surrogate: Option<u16> = None;
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let unit = match (digits.len(), u16::from_str_radix(&digits, 16)) {
                    (4, Ok(unit)) => unit,
                    _ => return Err("\\u needs four hexadecimal digits"),
                };
                match (high_surrogate.take(), char::from_u32(unit.into())) {
                    (None, Some(scalar)) => plain.push(scalar),
                    (None, None) => high_surrogate = Some(unit),
                    (Some(high), _) => match char::decode_utf16([high, unit]).next() {
                        Some(Ok(scalar)) => plain.push(scalar),
                        _ => return Err("\\u escapes do not form a character"),
                    },
                }
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    match high_surrogate {
        Some(_) => Err("\\u escapes do not form a character"),
        None => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let parsed = parse(text).unwrap();
        let pairs: Vec<(&str, &str)> = parsed.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
        assert_eq!(pairs, expected, "{text:?}");
    }

    #[test]
    fn separators_are_equals_colon_or_blank() {
        check(
            "a=1\nb: 2\nc 3\nd = 4\ne\t:5\nf",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "")],
        );
        check("listeners=PLAINTEXT://:9092", &[("listeners", "PLAINTEXT://:9092")]);
    }

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        check("# x=1\n\n  ! y=2\n   \t\nz=3 # not a comment", &[("z", "3 # not a comment")]);
    }

    #[test]
    fn a_backslash_continues_the_line() {
        check("a=1,\\\n   2,\\\n\t3\nb=4", &[("a", "1,2,3"), ("b", "4")]);
        check("path=C:\\\\\nb=1", &[("path", "C:\\"), ("b", "1")]);
        check("end=1\\", &[("end", "1")]);
    }

    #[test]
    fn escapes_are_javas() {
        check(r"a\ b\=c=d\te\u00e9\x", &[("a b=c", "d\teéx")]);
        check(r"pair=\ud83d\ude00", &[("pair", "😀")]);
        assert_eq!(
            parse("x=1\ny=\\u12g4").unwrap_err(),
            PropertiesError { line: 2, problem: "\\u needs four hexadecimal digits" }
        );
        assert!(parse(r"y=\ud83d").is_err());
    }

    #[test]
    fn lines_are_numbered_where_the_assignment_begins() {
        let parsed = parse("# c\r\na=1\\\r\n2\r\nb=3\r\n").unwrap();
        assert_eq!(parsed.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(parsed[0].value, "12");
    }
}
