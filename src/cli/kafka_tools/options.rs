//! The arguments of Kafka's tools as their parser takes them: `--name value`, `--name=value`, options that repeat, and an
//! option whose argument may be missing. Names are not abbreviated, and the last spelling of a name is as good as any.

use std::fmt::Write;

/// One option of a tool.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    pub name: &'static str,
    pub takes: Takes,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    /// One argument, of this name in the help.
    Value(&'static str),
    /// One argument, or none.
    Perhaps(&'static str),
}

/// Shorthands for tables of options.
pub const fn flag(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, takes: Takes::Nothing, help }
}

pub const fn value(name: &'static str, what: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, takes: Takes::Value(what), help }
}

pub const fn perhaps(name: &'static str, what: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, takes: Takes::Perhaps(what), help }
}

/// What was given, in order.
#[derive(Debug, Default)]
pub struct Options {
    given: Vec<(&'static str, Option<String>)>,
}

impl Options {
    pub fn parse(specs: &[OptionSpec], arguments: &[String]) -> Result<Options, String> {
        let mut given = Vec::new();
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            let bare =
                argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).filter(|bare| !bare.is_empty());
            // A word that belongs to no option is overlooked, as Kafka's tools do.
            let Some(bare) = bare else { continue };
            let (name, attached) = match bare.split_once('=') {
                Some((name, attached)) => (name, Some(attached.to_owned())),
                None => (bare, None),
            };
            let spec = specs.iter().find(|spec| spec.name == name);
            let Some(spec) = spec else { return Err(format!("{name} is not a recognized option")) };
            let value = match spec.takes {
                Takes::Nothing => None,
                _ if attached.is_some() => attached,
                Takes::Value(_) => match rest.next() {
                    Some(value) => Some(value.clone()),
                    None => return Err(format!("Option {name} requires an argument")),
                },
                Takes::Perhaps(_) => rest.next_if(|next| !next.starts_with('-')).cloned(),
            };
            given.push((spec.name, value));
        }
        Ok(Options { given })
    }

    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of an option that is given once at most.
    pub fn value(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values = self.given.iter().filter(|(given, _)| *given == name);
        let first = values.next().and_then(|(_, value)| value.as_deref());
        match values.next() {
            Some(_) => Err(format!("Found multiple arguments for option {name}, but you asked for only one")),
            None => Ok(first),
        }
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        self.given.iter().filter(|(given, _)| *given == name).filter_map(|(_, value)| value.as_deref()).collect()
    }

    /// The value as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| format!("Cannot parse argument '{text}' of option {name}"))
    }

    /// Those of `names` that are given.
    pub fn given<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().copied().filter(|name| self.has(name)).collect()
    }

    /// The options that a tool cannot do without.
    pub fn require(&self, names: &[&str]) -> Result<(), String> {
        match names.iter().find(|name| !self.has(name)) {
            Some(missing) => Err(format!("Missing required argument \"[{missing}]\"")),
            None => Ok(()),
        }
    }

    /// With `name` none of `others`.
    pub fn forbid(&self, name: &str, others: &[&str]) -> Result<(), String> {
        match others.iter().find(|other| self.has(name) && self.has(other)) {
            Some(other) => Err(format!("Option \"[{other}]\" can't be used with option \"[{name}]\"")),
            None => Ok(()),
        }
    }
}

/// The table of options, as a tool prints it with a mistake.
pub fn usage(specs: &[OptionSpec]) -> String {
    const LEFT: usize = 39;
    const RIGHT: usize = 39;
    let mut sorted: Vec<&OptionSpec> = specs.iter().collect();
    sorted.sort_by_key(|spec| spec.name);
    let mut text = String::new();
    let mut row = |left: &str, right: &str| {
        let (left, right) = (wrap(left, LEFT), wrap(right, RIGHT));
        for index in 0..left.len().max(right.len()) {
            let of = |lines: &[String]| lines.get(index).cloned().unwrap_or_default();
            let line = format!("{:LEFT$}  {}", of(&left), of(&right));
            // A String takes everything.
            let _ = writeln!(text, "{}", line.trim_end());
        }
    };
    row("Option", "Description");
    row("------", "-----------");
    for spec in sorted {
        let name = match spec.takes {
            Takes::Nothing => format!("--{}", spec.name),
            Takes::Value(what) => format!("--{} <{what}>", spec.name),
            Takes::Perhaps(what) => format!("--{} [{what}]", spec.name),
        };
        row(&name, spec.help);
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("it began with one line");
        match last.is_empty() {
            true => last.push_str(word),
            false if last.len() + 1 + word.len() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [OptionSpec; 4] = [
        flag("list", "List."),
        value("topic", "String: topic", "The topic."),
        perhaps("state", "String", "A state."),
        flag("b", ""),
    ];

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(&SPECS, &arguments.iter().map(|argument| argument.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn values_follow_their_option_or_are_attached_to_it() {
        let options = parse(&["--topic", "a", "--list", "--topic=b=c", "stray"]).unwrap();
        assert_eq!(options.values("topic"), ["a", "b=c"]);
        assert!(options.has("list") && !options.has("state"));
        assert!(options.value("topic").unwrap_err().contains("multiple arguments for option topic"));
        // What follows belongs to the option even where it looks like one.
        assert_eq!(parse(&["--topic", "--list"]).unwrap().value("topic"), Ok(Some("--list")));
    }

    #[test]
    fn an_optional_value_is_not_the_next_option() {
        assert_eq!(parse(&["--state", "stable"]).unwrap().value("state"), Ok(Some("stable")));
        let options = parse(&["--state", "--list"]).unwrap();
        assert_eq!(options.value("state"), Ok(None));
        assert!(options.has("state") && options.has("list"));
    }

    #[test]
    fn mistakes_are_told_in_kafkas_words() {
        assert_eq!(parse(&["--bogus"]).unwrap_err(), "bogus is not a recognized option");
        assert_eq!(parse(&["--lis"]).unwrap_err(), "lis is not a recognized option");
        assert_eq!(parse(&["--topic"]).unwrap_err(), "Option topic requires an argument");
        let options = parse(&["--list", "--topic", "x"]).unwrap();
        assert_eq!(options.require(&["state"]).unwrap_err(), "Missing required argument \"[state]\"");
        assert_eq!(
            options.forbid("list", &["topic"]).unwrap_err(),
            "Option \"[topic]\" can't be used with option \"[list]\""
        );
        assert!(options.number::<i32>("topic").unwrap_err().contains("Cannot parse argument 'x' of option topic"));
    }

    #[test]
    fn the_usage_is_a_table_of_all_options() {
        let usage = usage(&SPECS);
        assert!(usage.starts_with("Option"));
        for wanted in ["--list", "--topic <String: topic>", "--state [String]", "The topic."] {
            assert!(usage.contains(wanted), "{wanted} in {usage}");
        }
    }
}
