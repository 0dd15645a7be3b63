//! Comma-separated lists, as Kafka reads and writes them.

/// The members of a list: trimmed; an empty text is an empty list.
pub fn list_values(text: &str) -> Vec<&str> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(str::trim).collect()
}

/// `current` and behind it those of `added` that it lacks: what APPEND makes.
pub fn union_values(current: &str, added: &str) -> String {
    let mut values = list_values(current);
    for value in list_values(added) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values.join(",")
}

/// `current` without what is in `removed`: what SUBTRACT makes.
pub fn subtract_values(current: &str, removed: &str) -> String {
    let removed = list_values(removed);
    let mut values = list_values(current);
    values.retain(|value| !removed.contains(value));
    values.join(",")
}
