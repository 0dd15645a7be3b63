//! `ErrorCode` from `schema/error_codes.txt`: `CODE NAME [retry]: text that clients show`.

use std::fmt::Write;

pub fn generate(text: &str) -> String {
    let mut out = String::from(
        "/// What went wrong, as a number that every Kafka client knows.\n\
         #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ErrorCode {\n",
    );
    let mut table = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (head, message) = line.split_once(": ").unwrap_or_else(|| panic!("error codes: no text in {line:?}"));
        let words: Vec<&str> = head.split(' ').collect();
        let (code, name, is_retriable) = (words[0], words[1], words.get(2) == Some(&"retry"));
        let variant = camel_case(name);
        let default = if code == "0" { "#[default] " } else { "" };
        writeln!(out, "    /// {message}\n    {default}{variant} = {code},").expect("a string takes all");
        writeln!(
            table,
            "    Entry {{ code: ErrorCode::{variant}, name: {name:?}, message: {message:?}, is_retriable: {is_retriable} }},"
        )
        .expect("a string takes all");
    }
    out.push_str("}\n\n/// All of them, from -1 upwards without a gap.\nconst TABLE: &[Entry] = &[\n");
    out + &table + "];\n"
}

/// `NOT_LEADER_OR_FOLLOWER` to `NotLeaderOrFollower`.
fn camel_case(name: &str) -> String {
    let mut out = String::new();
    for word in name.split('_') {
        let (first, rest) = word.split_at(1);
        out.push_str(first);
        out.push_str(&rest.to_ascii_lowercase());
    }
    out
}
