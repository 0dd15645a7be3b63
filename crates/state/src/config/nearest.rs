//! "Unknown configuration `log.retention.hour`; did you mean `log.retention.hours`?"

use super::broker::SECTIONS;
use super::topic::topic_configs;

/// The known name most like `name`, if any is alike enough to be what was meant.
pub fn nearest_name(name: &str) -> Option<&'static str> {
    let tables = SECTIONS.iter().copied().chain([topic_configs()]);
    let known = tables.flatten().map(|definition| definition.name);
    let mistakes_max = (name.len() / 4).clamp(1, 4);
    let (mistakes, nearest) = known.map(|known| (distance(name, known), known)).min()?;
    (mistakes <= mistakes_max).then_some(nearest)
}

/// How many letters must be added, left out or replaced to make one of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left_letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, right_letter) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left_letter != *right_letter);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        assert_eq!(nearest_name("log.retention.hour"), Some("log.retention.hours"));
        assert_eq!(nearest_name("retenton.ms"), Some("retention.ms"));
        assert_eq!(nearest_name("capek.flsuh"), Some("capek.flush"));
        assert_eq!(nearest_name("min.insync.replica"), Some("min.insync.replicas"));
    }

    #[test]
    fn what_is_like_nothing_finds_nothing() {
        assert_eq!(nearest_name("frobnicate"), None);
        assert_eq!(nearest_name(""), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
