//! The output language of `consume -f`: kcat's `%` tokens (`%t %p %o %k %K %s %S %h %T %R`) with rpk's beside them
//! (`%v %V %d %H %e %i`, and modifiers in braces: `%k{hex}`, `%d{strftime[%F]}`, `%h{%k=%v;}`, `%o{big64}`).
//!
//! Where the two differ kcat wins: `%T` is the timestamp, and `%h` without braces all headers as `k=v,k=v`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::Timestamp;

/// A record as the format sees it.
pub struct Shown<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// How many records came before this one.
    pub index: u64,
}

/// A parsed format.
#[derive(Clone, Debug, PartialEq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    Text(TextField, TextForm),
    Number(NumberField, NumberForm),
    Time(String),
    Headers(Vec<Piece>),
    HeadersAsKcat,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TextField {
    Topic,
    Key,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum NumberField {
    Partition,
    Offset,
    Timestamp,
    KeyLength,
    ValueLength,
    HeaderCount,
    LeaderEpoch,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TextForm {
    Plain,
    Hex,
    Base64,
    Base64Raw,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum NumberForm {
    Decimal,
    Hex { digits: usize },
    Big { bytes: usize },
    Little { bytes: usize },
    Bool,
}

impl Format {
    pub fn parse(text: &str) -> Result<Format, String> {
        let characters: Vec<char> = text.chars().collect();
        parse_pieces(&characters).map(Format)
    }

    /// Appends the record to `out` as the format says.
    pub fn write(&self, record: &Shown, out: &mut Vec<u8>) {
        write_pieces(&self.0, record, out);
    }
}

fn parse_pieces(characters: &[char]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut position = 0;
    while position < characters.len() {
        match characters[position] {
            '\\' => position += parse_escape(&characters[position..], &mut literal)?,
            '%' => {
                let token = *characters.get(position + 1).ok_or("the format ends in a lone '%': write %% for one")?;
                position += 2;
                if matches!(token, '%' | '{' | '}') {
                    literal.push(token as u8);
                    continue;
                }
                let modifier = take_braces(&characters[position..])?;
                position += modifier.map_or(0, |inner| inner.len() + 2);
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(parse_token(token, modifier)?);
            }
            character => {
                literal.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                position += 1;
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Returns how many characters the escape took.
fn parse_escape(characters: &[char], literal: &mut Vec<u8>) -> Result<usize, String> {
    let byte = match characters.get(1) {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = characters.iter().skip(2).take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
            literal.push(byte.ok_or("\\x needs two hexadecimal digits")?);
            return Ok(4);
        }
        Some(other) => return Err(format!("'\\{other}' is not an escape: \\n \\r \\t \\0 \\\\ \\xNN")),
        None => return Err("the format ends in a lone '\\': write \\\\ for one".to_owned()),
    };
    literal.push(byte);
    Ok(2)
}

/// The text between a `{` here and its matching `}`.
fn take_braces(characters: &[char]) -> Result<Option<&[char]>, String> {
    if characters.first() != Some(&'{') {
        return Ok(None);
    }
    let mut depth = 0;
    for (position, character) in characters.iter().enumerate() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(Some(&characters[1..position]));
        }
    }
    Err("a '{' has no '}'".to_owned())
}

fn parse_token(token: char, modifier: Option<&[char]>) -> Result<Piece, String> {
    let word: Option<String> = modifier.map(|inner| inner.iter().collect());
    let word = word.as_deref();
    let text = |field| Ok(Piece::Text(field, text_form(token, word)?));
    let number = |field| Ok(Piece::Number(field, number_form(token, word)?));
    match token {
        't' => text(TextField::Topic),
        'k' => text(TextField::Key),
        'v' | 's' => text(TextField::Value),
        'p' => number(NumberField::Partition),
        'o' => number(NumberField::Offset),
        'K' => number(NumberField::KeyLength),
        'V' | 'S' => number(NumberField::ValueLength),
        'H' => number(NumberField::HeaderCount),
        'T' => number(NumberField::Timestamp),
        'e' => number(NumberField::LeaderEpoch),
        'i' => number(NumberField::Index),
        'R' if word.is_none() => Ok(Piece::Number(NumberField::ValueLength, NumberForm::Big { bytes: 4 })),
        'd' => match word.and_then(|word| word.strip_prefix("strftime[")?.strip_suffix(']')) {
            Some(pattern) => {
                // Found out now rather than in the middle of the output.
                jiff::fmt::strtime::format(pattern, Timestamp::UNIX_EPOCH)
                    .map_err(|error| format!("%d{{strftime[{pattern}]}}: {error}"))?;
                Ok(Piece::Time(pattern.to_owned()))
            }
            None => number(NumberField::Timestamp),
        },
        'h' => match modifier {
            Some(inner) => Ok(Piece::Headers(parse_pieces(inner)?)),
            None => Ok(Piece::HeadersAsKcat),
        },
        _ => Err(format!("'%{token}' is not a token: %t %p %o %k %K %v %V %s %S %h %H %T %d %e %i %R")),
    }
}

fn text_form(token: char, word: Option<&str>) -> Result<TextForm, String> {
    match word {
        None => Ok(TextForm::Plain),
        Some("hex") => Ok(TextForm::Hex),
        Some("base64") => Ok(TextForm::Base64),
        Some("base64raw") => Ok(TextForm::Base64Raw),
        Some(other) => Err(format!("'%{token}{{{other}}}': text takes {{hex}}, {{base64}} or {{base64raw}}")),
    }
}

fn number_form(token: char, word: Option<&str>) -> Result<NumberForm, String> {
    let form = match word {
        None | Some("ascii" | "number") => NumberForm::Decimal,
        Some("hex64") => NumberForm::Hex { digits: 16 },
        Some("hex32") => NumberForm::Hex { digits: 8 },
        Some("hex16") => NumberForm::Hex { digits: 4 },
        Some("hex8") => NumberForm::Hex { digits: 2 },
        Some("hex4") => NumberForm::Hex { digits: 1 },
        Some("big64") => NumberForm::Big { bytes: 8 },
        Some("big32") => NumberForm::Big { bytes: 4 },
        Some("big16") => NumberForm::Big { bytes: 2 },
        Some("little64") => NumberForm::Little { bytes: 8 },
        Some("little32") => NumberForm::Little { bytes: 4 },
        Some("little16") => NumberForm::Little { bytes: 2 },
        Some("byte" | "big8" | "little8") => NumberForm::Big { bytes: 1 },
        Some("bool") => NumberForm::Bool,
        Some(other) => {
            return Err(format!(
                "'%{token}{{{other}}}': a number takes {{ascii}}, {{hex64}}, {{big32}}, {{little16}}, {{byte}} or {{bool}}"
            ));
        }
    };
    Ok(form)
}

fn write_pieces(pieces: &[Piece], record: &Shown, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Literal(bytes) => out.extend_from_slice(bytes),
            Piece::Text(field, form) => {
                let text = match field {
                    TextField::Topic => Some(record.topic.as_bytes()),
                    TextField::Key => record.key,
                    TextField::Value => record.value,
                };
                write_text(text.unwrap_or_default(), *form, out);
            }
            Piece::Number(field, form) => write_number(number_of(*field, record), *form, out),
            Piece::Time(pattern) => write_time(pattern, record.timestamp, out),
            Piece::Headers(inner) => {
                for (key, value) in record.headers {
                    write_pieces(inner, &Shown { key: Some(key), value: *value, ..*record }, out);
                }
            }
            Piece::HeadersAsKcat => {
                for (index, (key, value)) in record.headers.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    out.push(b'=');
                    out.extend_from_slice(value.unwrap_or(b"NULL"));
                }
            }
        }
    }
}

/// Lengths of null are -1, as kcat shows them.
fn number_of(field: NumberField, record: &Shown) -> i64 {
    let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    match field {
        NumberField::Partition => record.partition.into(),
        NumberField::Offset => record.offset,
        NumberField::Timestamp => record.timestamp,
        NumberField::KeyLength => length(record.key),
        NumberField::ValueLength => length(record.value),
        NumberField::HeaderCount => record.headers.len() as i64,
        NumberField::LeaderEpoch => record.leader_epoch.into(),
        NumberField::Index => record.index as i64,
    }
}

fn write_text(text: &[u8], form: TextForm, out: &mut Vec<u8>) {
    match form {
        TextForm::Plain => out.extend_from_slice(text),
        TextForm::Hex => text.iter().for_each(|byte| out.extend_from_slice(format!("{byte:02x}").as_bytes())),
        TextForm::Base64 => out.extend_from_slice(STANDARD.encode(text).as_bytes()),
        TextForm::Base64Raw => out.extend_from_slice(STANDARD_NO_PAD.encode(text).as_bytes()),
    }
}

fn write_number(number: i64, form: NumberForm, out: &mut Vec<u8>) {
    match form {
        NumberForm::Decimal => out.extend_from_slice(number.to_string().as_bytes()),
        NumberForm::Hex { digits } => {
            let all = format!("{number:016x}");
            out.extend_from_slice(&all.as_bytes()[16 - digits..]);
        }
        NumberForm::Big { bytes } => out.extend_from_slice(&number.to_be_bytes()[8 - bytes..]),
        NumberForm::Little { bytes } => out.extend_from_slice(&number.to_le_bytes()[..bytes]),
        NumberForm::Bool => out.extend_from_slice(if number == 0 { b"false" } else { b"true" }),
    }
}

fn write_time(pattern: &str, timestamp_ms: i64, out: &mut Vec<u8>) {
    let shown = Timestamp::from_millisecond(timestamp_ms).and_then(|time| jiff::fmt::strtime::format(pattern, time));
    match shown {
        Ok(text) => out.extend_from_slice(text.as_bytes()),
        // Beyond the years that a calendar has: the number says at least what is stored.
        Err(_) => write_number(timestamp_ms, NumberForm::Decimal, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Shown<'static> = Shown {
        topic: "orders",
        partition: 3,
        offset: 258,
        timestamp: 1_644_796_800_250,
        leader_epoch: 7,
        key: Some(b"k\x01"),
        value: Some(b"hello"),
        headers: &[(b"a", Some(b"1")), (b"a", None)],
        index: 0,
    };

    fn check(format: &str, expected: &[u8]) {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(&RECORD, &mut out);
        assert_eq!(out, expected, "{format}: {}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn kcats_tokens() {
        check("Topic %t [%p] at offset %o: key %K: %s\\n", b"Topic orders [3] at offset 258: key 2: hello\n");
        check("%T %S %h", b"1644796800250 5 a=1,a=NULL");
        check("%R%s", b"\0\0\0\x05hello");
        check("100%% \\x41\\t", b"100% A\t");
    }

    #[test]
    fn rpks_tokens_and_modifiers() {
        check("%v %V %H %e %i", b"hello 5 2 7 0");
        check("%k{hex} %v{base64} %v{base64raw}", b"6b01 aGVsbG8= aGVsbG8");
        check("%d %d{strftime[%F %H:%M]}", b"1644796800250 2022-02-14 00:00");
        check("%h{%k=%v;}", b"a=1;a=;");
        check("%h{%k{hex}%{%}}", b"61{}61{}");
        check("%o{hex16} %o{big16} %o{little16} %o{byte} %i{bool}", b"0102 \x01\x02 \x02\x01 \x02 false");
    }

    #[test]
    fn nulls_are_empty_and_their_length_is_minus_one() {
        let mut out = Vec::new();
        let record = Shown { key: None, value: None, headers: &[], ..RECORD };
        Format::parse("[%k|%K|%v|%h]").unwrap().write(&record, &mut out);
        assert_eq!(out, b"[|-1||]");
    }

    #[test]
    fn mistakes_are_explained() {
        for (format, expected) in [
            ("%", "lone '%'"),
            ("\\", "lone '\\'"),
            ("\\q", "not an escape"),
            ("\\xg0", "two hexadecimal digits"),
            ("%q", "'%q' is not a token"),
            ("%k{hex", "no '}'"),
            ("%k{upper}", "text takes"),
            ("%o{hex}", "a number takes"),
        ] {
            let problem = Format::parse(format).unwrap_err();
            assert!(problem.contains(expected), "{format}: {problem}");
        }
    }
}
