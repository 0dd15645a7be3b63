//! Words of an expression to its tree, by recursive descent.

use serde_json::Value;

use super::lexer::{Placed, Token, at, tokens};
use super::{Comparison, Field, Node, Step};

/// Deeper than anybody writes, and far from what the stack holds.
const DEPTH_MAX: usize = 100;

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

pub fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let root = parser.or()?;
    match parser.peek() {
        Placed { token: Token::End, .. } => Ok(root),
        Placed { position, .. } => Err(at(*position, "nothing is expected here, or && or ||")),
    }
}

impl Parser {
    fn peek(&self) -> &Placed {
        // The last token is the end, which is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Placed {
        let taken = self.peek().clone();
        self.next += 1;
        taken
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(&self.peek().token, Token::Sign(found) if *found == sign);
        self.next += usize::from(is_it);
        is_it
    }

    fn or(&mut self) -> Result<Node, String> {
        let mut left = self.and()?;
        while self.take_sign("||") {
            left = Node::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Node, String> {
        let mut left = self.not()?;
        while self.take_sign("&&") {
            left = Node::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    /// All that nests passes here.
    fn not(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(at(self.peek().position, "the expression is too deep"));
        }
        let node = match self.take_sign("!") {
            true => Node::Not(Box::new(self.not()?)),
            false => self.test()?,
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Node, String> {
        let left = self.operand()?;
        let comparison = match &self.peek().token {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Word(word) if word == "contains" => Comparison::Contains,
            Token::Word(word) if word == "startsWith" => Comparison::StartsWith,
            Token::Sign("^=") => Comparison::StartsWith,
            Token::Sign(sign @ ("=~" | "!~")) => {
                let is_negated = *sign == "!~";
                self.next += 1;
                let matches = Node::Matches(Box::new(left), self.regex()?);
                return Ok(if is_negated { Node::Not(Box::new(matches)) } else { matches });
            }
            _ => return Ok(left),
        };
        self.next += 1;
        Ok(Node::Compare(Box::new(left), comparison, Box::new(self.operand()?)))
    }

    fn regex(&mut self) -> Result<regex::Regex, String> {
        match self.take() {
            Placed { token: Token::Text(text), position } => regex::Regex::new(&text)
                .map_err(|problem| at(position, format_args!("not a regular expression: {problem}"))),
            Placed { position, .. } => Err(at(position, "=~ needs a text between quotes")),
        }
    }

    fn operand(&mut self) -> Result<Node, String> {
        let Placed { token, position } = self.take();
        match token {
            Token::Text(text) => Ok(Node::Literal(Value::String(text))),
            Token::Number(number) => Ok(Node::Literal(Value::Number(number))),
            Token::Sign("(") => {
                let inner = self.or()?;
                match self.take_sign(")") {
                    true => Ok(inner),
                    false => Err(at(self.peek().position, "a ')' is missing")),
                }
            }
            Token::Word(word) => self.word(&word, position),
            Token::Sign(sign) => Err(at(position, format_args!("'{sign}' stands where a value is due"))),
            Token::End => Err(at(position, "an expression ends where a value is due")),
        }
    }

    fn word(&mut self, word: &str, position: usize) -> Result<Node, String> {
        let steps_position = self.peek().position;
        let mut steps = self.steps()?;
        let field = match word {
            "true" => return Ok(Node::Literal(Value::Bool(true))),
            "false" => return Ok(Node::Literal(Value::Bool(false))),
            "null" => return Ok(Node::Literal(Value::Null)),
            "value" if steps.is_empty() => return Ok(Node::Field(Field::Value)),
            "value" => return Ok(Node::Path(steps)),
            "header" | "headers" => {
                return match (steps.pop(), steps.is_empty()) {
                    (Some(Step::Name(name)), true) => Ok(Node::Field(Field::Header(name))),
                    _ => Err(at(steps_position, "name one header: header.NAME or headers[\"NAME\"]")),
                };
            }
            "key" => Field::Key,
            "topic" => Field::Topic,
            "offset" => Field::Offset,
            "partition" => Field::Partition,
            "timestamp" => Field::Timestamp,
            _ => {
                let known = "key, value, topic, offset, partition, timestamp or header.NAME";
                return Err(at(position, format_args!("'{word}' is not known: {known}")));
            }
        };
        match steps.is_empty() {
            true => Ok(Node::Field(field)),
            false => Err(at(steps_position, format_args!("'{word}' has no parts: only value and header have"))),
        }
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if self.take_sign(".") {
                match self.take() {
                    Placed { token: Token::Word(name) | Token::Text(name), .. } => steps.push(Step::Name(name)),
                    Placed { position, .. } => return Err(at(position, "a name is due after '.'")),
                }
            } else if self.take_sign("[") {
                let Placed { token, position } = self.take();
                steps.push(match token {
                    Token::Text(name) => Step::Name(name),
                    Token::Number(number) => {
                        let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
                        Step::Index(index.ok_or_else(|| at(position, "an index is a whole number from 0"))?)
                    }
                    _ => return Err(at(position, "a name or number is due after '['")),
                });
                if !self.take_sign("]") {
                    return Err(at(self.peek().position, "a ']' is missing"));
                }
            } else {
                return Ok(steps);
            }
        }
    }
}
