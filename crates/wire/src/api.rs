//! The table of APIs: which versions there are, and which header stands before them.

include!(concat!(env!("OUT_DIR"), "/api_keys.rs"));

struct Entry {
    key: ApiKey,
    name: &'static str,
    versions: (i16, i16),
    flexible_from: Option<i16>,
}

impl ApiKey {
    /// All keys, rising.
    pub fn all() -> impl ExactSizeIterator<Item = ApiKey> {
        TABLE.iter().map(|entry| entry.key)
    }

    /// The key with this number, if clients may send it to a broker.
    pub fn from_code(code: i16) -> Option<ApiKey> {
        let index = TABLE.binary_search_by_key(&code, |entry| entry.key.code()).ok()?;
        Some(TABLE[index].key)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    fn entry(self) -> &'static Entry {
        let index = TABLE.binary_search_by_key(&self.code(), |entry| entry.key.code());
        &TABLE[index.expect("every key is in the table that it is generated from")]
    }

    /// Kafka's name, such as `Produce`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// First and last version that a Kafka 4.3 broker accepts.
    pub fn versions(self) -> (i16, i16) {
        self.entry().versions
    }

    /// Whether [`ApiKey::versions`] holds this version.
    pub fn has_version(self, version: i16) -> bool {
        let (low, high) = self.versions();
        (low..=high).contains(&version)
    }

    /// First version with compact types and tagged fields.
    pub fn flexible_from(self) -> Option<i16> {
        self.entry().flexible_from
    }

    /// Whether this version has compact types and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// 2 has tagged fields after the client id, 1 has not.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// 1 has tagged fields after the correlation id, 0 has not.
    pub fn response_header_version(self, version: i16) -> i16 {
        // A client that asks for a version we lack must be able to read the answer.
        if self != ApiKey::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_there_and_back() {
        for key in ApiKey::all() {
            assert_eq!(ApiKey::from_code(key.code()), Some(key));
            assert!(key.has_version(key.versions().0) && key.has_version(key.versions().1), "{key:?}");
        }
        assert_eq!(ApiKey::from_code(4), None, "LeaderAndIsr was removed");
        assert_eq!(ApiKey::from_code(52), None, "Vote is for controllers");
        assert_eq!(ApiKey::from_code(-1), None);
    }

    #[test]
    fn headers_are_flexible_where_kafkas_are() {
        assert_eq!((ApiKey::Produce.request_header_version(8), ApiKey::Produce.request_header_version(9)), (1, 2));
        assert_eq!((ApiKey::Produce.response_header_version(8), ApiKey::Produce.response_header_version(9)), (0, 1));
        assert_eq!(ApiKey::ApiVersions.request_header_version(4), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
        assert_eq!(ApiKey::OffsetDelete.response_header_version(0), 0);
    }

    #[test]
    fn versions_are_those_of_kafka() {
        assert_eq!(ApiKey::Produce.versions(), (3, 13));
        assert_eq!(ApiKey::InitProducerId.versions(), (0, 5), "6 is unstable");
        assert_eq!(ApiKey::all().len(), 77);
    }
}
