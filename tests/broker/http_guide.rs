//! What docs/http.md shows is what happens: every command in it, in its order, and what is printed.

use std::path::Path;
use std::process::Command;

use crate::support::broker::Broker;
use crate::support::programs::output_of;

/// What stands between the outputs of two blocks.
const CUT: &str = "--- the next block ---";

/// A block of the page and what it is said to print.
#[derive(Debug, Default)]
struct Example {
    commands: String,
    expected: String,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let language = line.strip_prefix("```").unwrap_or_default();
        if language.is_empty() {
            continue;
        }
        let block: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        match language {
            "sh" => examples.push(Example { commands: block, ..Default::default() }),
            // What a browser runs, and prints: another test's.
            "js" => drop(lines.by_ref().skip_while(|line| *line != "```text").find(|line| *line == "```")),
            "text" => examples.last_mut().expect("a command stands before what it prints").expected = block,
            other => panic!("a block of {other}"),
        }
    }
    examples
}

/// `…` stands for anything.
fn is_like(printed: &str, expected: &str) -> bool {
    let (printed, expected) = (printed.trim(), expected.trim());
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    let mut is_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        is_open = part.is_empty();
    }
    rest.is_empty() || is_open
}

#[test]
fn the_guide_to_http_prints_what_it_says() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md")).expect("it is there");
    let examples = examples(&page);
    assert!(examples.len() > 10, "{examples:?}");
    let broker = Broker::start();
    let mut script = String::from("set -eu\n");
    for example in &examples {
        script.push_str(&format!("{}printf '\\n%s\\n' '{CUT}'\n", example.commands));
    }
    let address = broker.http("");
    let script = script.replace("http://localhost:8080", &address);
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]);
    let output = output_of(shell).replace("\r\n", "\n");
    let printed: Vec<&str> = output.split(CUT).collect();
    assert_eq!(printed.len(), examples.len() + 1, "{output}");
    for (example, printed) in examples.iter().zip(printed) {
        assert!(
            is_like(printed, &example.expected),
            "{}\nprinted {printed}\nnot {}",
            example.commands,
            example.expected
        );
    }
}

#[test]
fn a_dot_line_stands_for_anything() {
    for (printed, expected, like) in [
        ("{\"a\":1,\"b\":2}", "{\"a\":…,\"b\":2}", true),
        ("{\"a\":1,\"b\":3}", "{\"a\":…,\"b\":2}", false),
        ("abc and more", "abc…", true),
        ("abc", "", false),
        ("", "", true),
    ] {
        assert_eq!(is_like(printed, expected), like, "{printed} as {expected}");
    }
}
