//! The query of a request, as pairs: names may repeat.

use actix_web::HttpRequest;
use actix_web::web;

use super::problem::Problem;

/// See the head of this file.
pub struct QueryPairs(Vec<(String, String)>);

impl QueryPairs {
    pub fn of(request: &HttpRequest) -> Result<QueryPairs, Problem> {
        QueryPairs::parse(request.query_string())
    }

    pub fn parse(text: &str) -> Result<QueryPairs, Problem> {
        if text.is_empty() {
            return Ok(QueryPairs(Vec::new()));
        }
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text);
        let pairs = pairs.map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
        Ok(QueryPairs(pairs.into_inner()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A number, if it is there.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::bad_request(format!("{name}={text} is not a number that fits")))
    }

    /// `true` or `false`; alone it is true.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(Problem::bad_request(format!("{name}={other} is not true or false"))),
        }
    }

    /// Those whose name begins with `prefix`, with the rest of the name, in order.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_repeat_and_are_decoded() {
        let query = QueryPairs::parse("key=a%20b&header.trace=1&header.trace=2&partition=x").unwrap();
        assert_eq!(query.get("key"), Some("a b"));
        assert_eq!(query.with_prefix("header.").collect::<Vec<_>>(), [("trace", "1"), ("trace", "2")]);
        assert!(query.number::<i32>("partition").is_err());
        assert_eq!(query.number::<i32>("acks"), Ok(None));
    }
}
