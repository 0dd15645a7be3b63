//! Comma-separated lists, as Kafka reads and writes them.

/// The members of a list: trimmed; an empty text is an empty list.
pub fn list_values(text: &str) -> Vec<&str> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(str::trim).collect()
}

/// `max.connections.per.ip.overrides`: `host:count` pairs. The error says what is wrong.
pub fn connection_overrides(text: &str) -> Result<Vec<(&str, usize)>, String> {
    let pair = |member| overrides_pair(member).ok_or_else(|| format!("{member} is not of the form host:count"));
    list_values(text).into_iter().map(pair).collect()
}

fn overrides_pair(member: &str) -> Option<(&str, usize)> {
    let (host, count) = member.rsplit_once(':')?;
    (!host.is_empty()).then_some((host, count.parse().ok()?))
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
