//! `capek actors`: draws the live supervision tree that `GET /v1/actors` answers.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::output::say;
use super::{Exit, Failure, http_get, offsets};

#[derive(Args)]
pub struct ActorsArguments {
    /// Only what is under this path, as broker/replica-manager
    path: Option<String>,
    /// Where the broker serves HTTP
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    http: String,
    /// How many levels
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// The most actors
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: u32,
    /// Print the answer as it is
    #[arg(long)]
    json: bool,
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = offsets::parse_duration)]
    timeout: Duration,
}

/// One actor as the broker tells of it. What a future broker adds is passed over.
#[derive(Deserialize)]
struct Actor {
    path: String,
    #[serde(default)]
    incarnation: u64,
    #[serde(default)]
    restarts: u64,
    #[serde(default)]
    age_ms: u64,
    #[serde(default)]
    mailbox: u64,
    #[serde(default)]
    parked: u64,
    #[serde(default)]
    bytes_held: u64,
    /// Not in the answer: see [`nested`].
    #[serde(skip)]
    children: Vec<Actor>,
}

/// Every actor by rising path.
#[derive(Deserialize)]
struct Answer {
    actors: Vec<Actor>,
    #[serde(default)]
    truncated: bool,
}

pub async fn run(arguments: ActorsArguments) -> Result<(), Failure> {
    let mut path = format!("/v1/actors?limit={}", arguments.limit);
    if let Some(under) = &arguments.path {
        let _ = write!(path, "&under={}", percent_encoded(under));
    }
    if let Some(depth) = arguments.depth {
        let _ = write!(path, "&depth={depth}");
    }
    let answer = http_get::get(&arguments.http, &path, arguments.timeout).await?;
    match answer.status {
        200 if arguments.json => return say(answer.body.trim_end()),
        200 => {}
        404 => return Err(Failure::not_found(detail(&answer.body))),
        status => {
            return Err(Failure::new(
                Exit::Connection,
                format!("the broker answered {status}: {}", detail(&answer.body)),
            ));
        }
    }
    let Answer { actors, truncated } = serde_json::from_str(&answer.body)
        .map_err(|error| Failure::new(Exit::Connection, format!("the answer is no list of actors: {error}")))?;
    let mut text = String::new();
    draw(&nested(actors), "", true, &mut text);
    if truncated {
        let _ = writeln!(text, "… more than {} actors: give a path, or --limit", arguments.limit);
    }
    say(text.trim_end())
}

/// What a problem document says, or whatever was answered.
fn detail(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    detail.unwrap_or(body.trim()).to_owned()
}

/// The list becomes a tree by its paths.
fn nested(actors: Vec<Actor>) -> Vec<Actor> {
    let mut roots: Vec<Actor> = Vec::new();
    for actor in actors {
        match roots.iter_mut().rev().find_map(|root| parent_of(root, &actor.path)) {
            Some(parent) => parent.children.push(actor),
            None => roots.push(actor),
        }
    }
    roots
}

fn parent_of<'a>(root: &'a mut Actor, path: &str) -> Option<&'a mut Actor> {
    let is_above = path.strip_prefix(root.path.as_str()).is_some_and(|rest| rest.starts_with('/'));
    if !is_above {
        return None;
    }
    let deeper = root
        .children
        .iter()
        .rposition(|child| path.strip_prefix(child.path.as_str()).is_some_and(|rest| rest.starts_with('/')));
    match deeper {
        Some(index) => parent_of(&mut root.children[index], path),
        None => Some(root),
    }
}

fn draw(actors: &[Actor], indent: &str, is_root: bool, out: &mut String) {
    for (index, actor) in actors.iter().enumerate() {
        let is_last = index + 1 == actors.len();
        let (branch, below) = match (is_root, is_last) {
            (true, _) => ("", ""),
            (false, true) => ("└── ", "    "),
            (false, false) => ("├── ", "│   "),
        };
        let name = if is_root { actor.path.as_str() } else { actor.path.rsplit('/').next().unwrap_or(&actor.path) };
        let _ = writeln!(out, "{indent}{branch}{name}{}", details(actor));
        draw(&actor.children, &format!("{indent}{below}"), false, out);
    }
}

/// Only what is worth a look: nothing about an idle actor in its first life but its age.
fn details(actor: &Actor) -> String {
    let mut text = format!("  {}", age(actor.age_ms));
    if actor.restarts > 0 {
        let _ = write!(text, "  restarts {} (life {})", actor.restarts, actor.incarnation);
    }
    for (what, count) in [("mailbox", actor.mailbox), ("parked", actor.parked), ("bytes", actor.bytes_held)] {
        if count > 0 {
            let _ = write!(text, "  {what} {count}");
        }
    }
    text
}

fn age(age_ms: u64) -> String {
    match age_ms {
        0..1_000 => format!("{age_ms}ms"),
        1_000..120_000 => format!("{}s", age_ms / 1_000),
        120_000..7_200_000 => format!("{}m", age_ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", age_ms / 3_600_000),
        _ => format!("{}d", age_ms / 86_400_000),
    }
}

/// For a query: everything that is not plainly part of a path or a name.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' | b':' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(json: &str) -> String {
        let mut text = String::new();
        draw(&nested(serde_json::from_str(json).unwrap()), "", true, &mut text);
        text
    }

    #[test]
    fn a_tree_is_drawn() {
        let json = r#"[{"path":"broker","kind":"Broker","age_ms":65000},
            {"path":"broker/journal","kind":"Journal","age_ms":5},
            {"path":"broker/replica-manager","kind":"ReplicaManager","age_ms":5},
            {"path":"broker/replica-manager/partition:orders-0","kind":"Partition","age_ms":7200000,
             "restarts":2,"incarnation":3,"parked":4}]"#;
        let expected = "broker  65s\n├── journal  5ms\n└── replica-manager  5ms\n    └── partition:orders-0  2h  restarts 2 (life 3)  parked 4\n";
        assert_eq!(drawn(json), expected);
    }

    #[test]
    fn a_parent_need_not_stand_just_before_its_child() {
        let json = r#"[{"path":"a"},{"path":"a/b"},{"path":"a/b-2"},{"path":"a/b/c"},{"path":"a/d"}]"#;
        assert_eq!(drawn(json), "a  0ms\n├── b  0ms\n│   └── c  0ms\n├── b-2  0ms\n└── d  0ms\n");
    }
}
