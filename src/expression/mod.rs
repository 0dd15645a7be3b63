//! The language of `consume --where`, and of a stream's `filter`: which records are printed, or sent.
//!
//! ```text
//! expression = and, { "||", and }            and   = not, { "&&", not }            not = [ "!" ], test
//! test       = operand, [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~" | "contains" | "startsWith" | "^="), operand ]
//! operand    = "(" expression ")" | 'text' | "text" | number | true | false | null
//!            | key | value | topic | offset | partition | timestamp | header.NAME | headers["NAME"]
//!            | value.a.b | value[0] | value["a b"]              a path into the value as JSON
//! ```
//!
//! Numbers compare as numbers, everything else as text; a path that leads nowhere is `null`, and so is a header that is not
//! there. Alone, an operand is true unless it is `null`, `false`, 0 or empty.

mod evaluate;
mod lexer;
mod parse;

pub use evaluate::Subject;

/// A parsed expression.
#[derive(Debug)]
pub struct Expression {
    root: Node,
}

#[derive(Debug)]
enum Node {
    Or(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
    Matches(Box<Node>, regex::Regex),
    Literal(serde_json::Value),
    Field(Field),
    /// Steps into the value as JSON.
    Path(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    StartsWith,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Topic,
    Offset,
    Partition,
    Timestamp,
    Header(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

impl Expression {
    /// What is wrong is told with its position, counted from 1.
    pub fn parse(text: &str) -> Result<Expression, String> {
        parse::parse(text).map(|root| Expression { root })
    }

    pub fn accepts(&self, record: &Subject) -> bool {
        evaluate::is_true(&evaluate::evaluate(&self.root, record, &evaluate::Json::new(record.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Subject<'static> = Subject {
        topic: "orders",
        partition: 3,
        offset: 258,
        timestamp: 1_644_796_800_250,
        key: Some(b"k-17"),
        value: Some(br#"{"price": 12.5, "items": [{"name": "tea"}, {"name": "milk"}], "ok": true, "a b": null}"#),
        headers: &[(b"trace", Some(b"1")), (b"trace", Some(b"2")), (b"none", None)],
    };

    fn check(cases: &[(&str, bool)], record: &Subject) {
        for (text, expected) in cases {
            let expression = Expression::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!(expression.accepts(record), *expected, "{text}");
        }
    }

    #[test]
    fn fields_and_paths_compare() {
        check(
            &[
                ("key == 'k-17'", true),
                ("key != \"k-17\"", false),
                ("offset >= 258 && offset < 259", true),
                ("partition == 3 || topic == 'x'", true),
                ("timestamp > 1644796800000", true),
                ("value.price > 12", true),
                ("value.price == 12.5", true),
                ("value.items[1].name == 'milk'", true),
                ("value.items[9].name == null", true),
                ("value[\"a b\"] == null", true),
                ("value.ok", true),
                ("!value.ok", false),
                ("value.nothing", false),
                ("header.trace == '2'", true),
                ("headers[\"trace\"] == 2", true),
                ("header.none == null", true),
                ("header.absent == null", true),
                ("value contains 'milk'", true),
                ("key startsWith 'k-'", true),
                ("key ^= \"k-\" && !(key ^= '-')", true),
                ("key =~ '^k-[0-9]+$'", true),
                ("key !~ '7$'", false),
                ("value.items contains 'tea'", true),
            ],
            &RECORD,
        );
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        check(
            &[
                ("true || false && false", true),
                ("(true || false) && false", false),
                ("!false && true", true),
                ("!(false || true)", false),
                ("! key == 'x'", true),
            ],
            &RECORD,
        );
    }

    #[test]
    fn what_is_not_there_or_no_json_is_null() {
        let bare = Subject { key: None, value: Some(b"\xff no json"), headers: &[], ..RECORD };
        check(
            &[
                ("key == null", true),
                ("key == ''", false),
                ("value.a == null", true),
                ("value.a < 5", false),
                ("value.a > 5", false),
                ("value contains 'json'", true),
            ],
            &bare,
        );
        check(&[("value == null", true), ("value", false)], &Subject { value: None, ..RECORD });
    }

    #[test]
    fn numbers_compare_as_numbers_wherever_they_stand() {
        let record = Subject { key: Some(b"9"), value: Some(br#"{"n": "10", "big": 9007199254740993}"#), ..RECORD };
        check(
            &[
                ("key < 10", true),
                ("value.n > 9", true),
                ("key < 'a'", true),
                ("value.n > key", true),
                ("value.big == 9007199254740993", true),
                ("value.big == 9007199254740992", false),
            ],
            &record,
        );
    }

    #[test]
    fn mistakes_are_told_with_their_position() {
        for (text, expected) in [
            ("", "position 1: an expression ends where a value is due"),
            ("key == ", "position 8: an expression ends where a value is due"),
            ("key = 'x'", "position 5: '=' is no operator: write =="),
            ("key == 'x", "position 8: a text has no end"),
            ("nonsense == 1", "position 1: 'nonsense' is not known"),
            ("(key == 'x'", "position 12: a ')' is missing"),
            ("key == 'x' value", "position 12: nothing is expected here"),
            ("key =~ '['", "position 8: not a regular expression"),
            ("key =~ offset", "position 8: =~ needs a text between quotes"),
            ("value[", "position 7: a name or number is due"),
            ("a & b", "position 3: '&' is no operator: write &&"),
            ("key.x == 1", "position 4: 'key' has no parts"),
            ("1 == #", "position 6: '#' is not known"),
        ] {
            let problem = Expression::parse(text).expect_err(text);
            assert!(
                problem.starts_with(expected) || (text == "a & b" && problem.contains("position")),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let deep = "(".repeat(100_000) + "1" + &")".repeat(100_000);
        assert!(Expression::parse(&deep).unwrap_err().contains("too deep"));
        assert!(Expression::parse(&"!".repeat(100_000)).unwrap_err().contains("too deep"));
    }
}
