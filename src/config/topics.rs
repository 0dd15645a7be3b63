//! Topics that the environment asks for at start, in the notation that quick-starts know:
//! `KAFKA_CREATE_TOPICS="orders:3:1,users:1:1:compact"` (name, partitions, replication factor, cleanup policy).

/// A topic to create at start unless it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicToCreate {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    pub cleanup_policy: Option<String>,
}

/// Parses the list; topics are separated by `separator` or by line ends.
pub fn parse(list: &str, separator: &str) -> Result<Vec<TopicToCreate>, String> {
    let mut topics = Vec::new();
    for item in list.split(separator).flat_map(str::lines) {
        let item = item.trim();
        if !item.is_empty() {
            topics.push(parse_one(item)?);
        }
    }
    Ok(topics)
}

fn parse_one(item: &str) -> Result<TopicToCreate, String> {
    let parts: Vec<&str> = item.split(':').map(str::trim).collect();
    let &[name, partitions, ref rest @ ..] = parts.as_slice() else {
        return Err(format!("'{item}' is not NAME:PARTITIONS:REPLICATION-FACTOR[:CLEANUP-POLICY]"));
    };
    let partitions = positive(item, "partitions", partitions)?;
    let replication_factor = match rest.first() {
        Some(text) => positive(item, "replication factor", text)?,
        None => 1,
    };
    let cleanup_policy = rest.get(1).filter(|policy| !policy.is_empty()).map(|policy| policy.replace('+', ","));
    if rest.len() > 2 {
        return Err(format!("'{item}' has more than four parts"));
    }
    Ok(TopicToCreate { name: name.to_owned(), partitions, replication_factor, cleanup_policy })
}

fn positive<N: std::str::FromStr + PartialOrd + From<u8>>(item: &str, what: &str, text: &str) -> Result<N, String> {
    match text.parse::<N>() {
        Ok(number) if number >= N::from(1) => Ok(number),
        _ => Err(format!("'{item}': '{text}' is not a number of {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_notation_is_read() {
        let topics = parse("orders:3:1, users:1:1:compact,\nlog:2", ",").unwrap();
        let topic = |name: &str, partitions, policy: Option<&str>| TopicToCreate {
            name: name.to_owned(),
            partitions,
            replication_factor: 1,
            cleanup_policy: policy.map(str::to_owned),
        };
        assert_eq!(topics, [topic("orders", 3, None), topic("users", 1, Some("compact")), topic("log", 2, None)]);
    }

    #[test]
    fn bad_items_are_named() {
        assert_eq!(parse("a", ",").unwrap_err(), "'a' is not NAME:PARTITIONS:REPLICATION-FACTOR[:CLEANUP-POLICY]");
        assert_eq!(parse("a:0:1", ",").unwrap_err(), "'a:0:1': '0' is not a number of partitions");
        assert!(parse("a:1:x", ",").is_err());
        assert!(parse("a:1:1:compact:more", ",").is_err());
    }
}
