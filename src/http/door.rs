//! Through which door a request comes: the first word of its path says it.

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    V1,
    /// As Confluent's REST proxy has it.
    RestV2,
    RestV3,
    Metrics,
    Health,
    Other,
}

impl Door {
    /// As metrics call them, in the order above.
    pub const NAMES: [&str; 6] = ["v1", "rest_v2", "rest_v3", "metrics", "health", "other"];

    pub fn of(path: &str) -> Door {
        match path.trim_start_matches('/').split('/').next().unwrap_or("") {
            "v1" => Door::V1,
            "topics" | "consumers" | "brokers" => Door::RestV2,
            "v3" | "kafka" => Door::RestV3,
            "metrics" => Door::Metrics,
            "healthz" | "livez" | "readyz" => Door::Health,
            _ => Door::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_has_its_name() {
        let name = |path: &str| Door::NAMES[Door::of(path) as usize];
        let paths = ["/v1/topics/t", "/consumers/g", "/kafka/v3/clusters", "/metrics", "/readyz", "/docs", "/"];
        assert_eq!(paths.map(name), ["v1", "rest_v2", "rest_v3", "metrics", "health", "other", "other"]);
    }
}
