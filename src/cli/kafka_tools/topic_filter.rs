//! Topics by pattern, as the tools take it: a regular expression that must match the whole name, in which a comma
//! separates alternatives.

use regex::Regex;

#[derive(Debug)]
pub struct TopicFilter(Regex);

impl TopicFilter {
    pub fn new(pattern: &str) -> Result<TopicFilter, String> {
        let bare: String = pattern.trim().trim_matches(['"', '\'']).split_whitespace().collect();
        let regex = Regex::new(&format!("^(?:{})$", bare.replace(',', "|")));
        regex.map(TopicFilter).map_err(|_| format!("{pattern} is an invalid regex."))
    }

    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name_or_one_of_several() {
        for (pattern, name, expected) in [
            ("a.*", "abc", true),
            ("a.*", "ba", false),
            ("a", "aa", false),
            ("aa,bb", "bb", true),
            ("'aa , bb'", "bb", true),
            ("a|b", "ab", false),
            ("with.dot", "withXdot", true),
        ] {
            assert_eq!(TopicFilter::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        assert!(TopicFilter::new("a[").unwrap_err().contains("invalid regex"));
    }
}
