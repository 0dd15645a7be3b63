//! The three files with which brokers talk TLS to each other: all of them, or none.

use std::path::PathBuf;

use capek_actors::peer_certificates::{AUTHORITY, CERTIFICATE, KEY, PeerTlsFiles};

use super::EffectiveConfig;

/// None: brokers talk in the clear.
pub fn peer_tls(config: &EffectiveConfig) -> Result<Option<PeerTlsFiles>, String> {
    let file = |name: &str| config.set_value(name).filter(|file| !file.is_empty()).map(PathBuf::from);
    match (file(CERTIFICATE), file(KEY), file(AUTHORITY)) {
        (None, None, None) => Ok(None),
        (Some(certificate), Some(key), Some(authority)) => Ok(Some(PeerTlsFiles { certificate, key, authority })),
        _ => {
            let all = [CERTIFICATE, KEY, AUTHORITY];
            let (set, missing): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|name| file(name).is_some());
            Err(format!(
                "{} ({}) without {}: brokers talk TLS to each other with all three, {CERTIFICATE}, {KEY} and {AUTHORITY}. Set \
                 what is missing, or none of them",
                set.join(" and "),
                config.origin(set[0]),
                missing.join(" and ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, Sources, load};
    use super::*;

    fn check(environment: &[(&str, &str)]) -> Result<Option<PeerTlsFiles>, String> {
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let Loaded { config, .. } = load(&Sources { environment, ..Sources::default() }).expect("it loads");
        peer_tls(&config)
    }

    #[test]
    fn all_three_or_none() {
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("CAPEK_PEER_TLS_CERT", "")]), Ok(None));
        let all =
            [("CAPEK_PEER_TLS_CERT", "/c.pem"), ("CAPEK_PEER_TLS_KEY", "/k.pem"), ("CAPEK_PEER_TLS_CA", "/a.pem")];
        let files = PeerTlsFiles { certificate: "/c.pem".into(), key: "/k.pem".into(), authority: "/a.pem".into() };
        assert_eq!(check(&all), Ok(Some(files)));
        for missing in 0..all.len() {
            let some: Vec<_> = all.iter().copied().enumerate().filter(|(index, _)| *index != missing).collect();
            let some: Vec<_> = some.into_iter().map(|(_, pair)| pair).collect();
            let problem = check(&some).expect_err("one is missing");
            let name = [CERTIFICATE, KEY, AUTHORITY][missing];
            assert!(problem.contains(&format!("without {name}:")), "{problem}");
        }
        let problem = check(&all[1..2]).expect_err("two are missing");
        assert!(problem.starts_with("capek.peer.tls.key (environment"), "{problem}");
        assert!(problem.contains("without capek.peer.tls.cert and capek.peer.tls.ca: "), "{problem}");
    }
}
