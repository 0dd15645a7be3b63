//! The words of an expression, each with its position.

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name, or an operator that is a word.
    Word(String),
    Text(String),
    Number(serde_json::Number),
    /// One of the signs.
    Sign(&'static str),
    End,
}

/// A token and where it begins, counted from 1 in characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub token: Token,
    pub position: usize,
}

/// Longer ones first.
const SIGNS: [&str; 17] =
    ["==", "!=", "<=", ">=", "^=", "=~", "!~", "&&", "||", "<", ">", "!", "(", ")", "[", "]", "."];

pub fn at(position: usize, problem: impl std::fmt::Display) -> String {
    format!("position {position}: {problem}")
}

pub fn tokens(text: &str) -> Result<Vec<Placed>, String> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut index = 0;
    while index < characters.len() {
        let position = index + 1;
        let rest = &characters[index..];
        let token = match rest[0] {
            blank if blank.is_whitespace() => {
                index += 1;
                continue;
            }
            quote @ ('\'' | '"') => {
                let (text, length) = quoted(rest, quote).ok_or_else(|| at(position, "a text has no end"))?;
                index += length;
                Token::Text(text)
            }
            digit if digit.is_ascii_digit() || (digit == '-' && rest.get(1).is_some_and(char::is_ascii_digit)) => {
                let (number, length) = number(rest).ok_or_else(|| at(position, "not a number"))?;
                index += length;
                Token::Number(number)
            }
            letter if letter.is_alphabetic() || letter == '_' => {
                let is_part = |character: &&char| character.is_alphanumeric() || matches!(character, '_' | '-');
                let word: String = rest.iter().take_while(is_part).collect();
                index += word.chars().count();
                Token::Word(word)
            }
            other => {
                let Some(sign) = SIGNS.iter().find(|sign| sign.chars().eq(rest.iter().copied().take(sign.len())))
                else {
                    return Err(at(position, unknown(other)));
                };
                index += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push(Placed { token, position });
    }
    tokens.push(Placed { token: Token::End, position: characters.len() + 1 });
    Ok(tokens)
}

fn unknown(sign: char) -> String {
    match sign {
        '=' | '&' | '|' => format!("'{sign}' is no operator: write {sign}{sign}"),
        _ => format!("'{sign}' is not known"),
    }
}

/// The text between quotes, and how many characters it took. A backslash takes the next one as it is.
fn quoted(characters: &[char], quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut index = 1;
    loop {
        match *characters.get(index)? {
            end if end == quote => return Some((text, index + 1)),
            '\\' if matches!(characters.get(index + 1), Some('\\' | '\'' | '"')) => {
                text.push(characters[index + 1]);
                index += 2;
            }
            character => {
                text.push(character);
                index += 1;
            }
        }
    }
}

fn number(characters: &[char]) -> Option<(serde_json::Number, usize)> {
    let length = characters
        .iter()
        .enumerate()
        .take_while(|(index, character)| {
            character.is_ascii_digit()
                || (**character == '-' && *index == 0)
                || (**character == '.' && characters.get(index + 1).is_some_and(char::is_ascii_digit))
        })
        .count();
    let text: String = characters[..length].iter().collect();
    Some((text.parse().ok()?, length))
}
