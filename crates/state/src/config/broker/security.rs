//! Authentication, authorisation, TLS. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, class, int, list, long, password, string};

#[rustfmt::skip] // a table, one definition after the other
pub(super) static SECURITY: &[ConfigDef] = &[
    string("authorizer.class.name", "", "The Java class that authorises in Kafka; naming its standard one turns our access control on."),
    long("delegation.token.expiry.check.interval.ms", "3600000", "How often expired delegation tokens are looked for.")
        .at_least(1),
    long("delegation.token.expiry.time.ms", "86400000", "How long a delegation token is valid without renewal.")
        .at_least(1),
    long("delegation.token.max.lifetime.ms", "604800000", "How long a delegation token is valid at most.")
        .at_least(1),
    password("delegation.token.secret.key", "The secret that delegation tokens are made from, the same on all brokers."),
    class("principal.builder.class", "A Java class that names the authenticated client.").default_value("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder")
        .per_broker(),
    class("sasl.client.callback.handler.class", "A Java class for SASL towards other brokers."),
    list("sasl.enabled.mechanisms", "GSSAPI", "The SASL mechanisms that clients may use.").per_broker(),
    password("sasl.jaas.config", "Users and secrets in Java's notation.").per_broker(),
    list("sasl.kerberos.principal.to.local.rules", "DEFAULT", "How Kerberos principals become user names.")
        .per_broker(),
    string("sasl.kerberos.service.name", "", "The Kerberos principal of the broker.").unset().per_broker(),
    string("sasl.mechanism.controller.protocol", "GSSAPI", "The SASL mechanism towards controllers."),
    string("sasl.mechanism.inter.broker.protocol", "GSSAPI", "The SASL mechanism towards other brokers.")
        .per_broker(),
    int("sasl.oauthbearer.clock.skew.seconds", "30", "By how much the clocks of token issuer and broker may differ."),
    list("sasl.oauthbearer.expected.audience", "", "The audiences that a token may name."),
    string("sasl.oauthbearer.expected.issuer", "", "The issuer that a token must name.").unset(),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000", "How often the keys of the token issuer are fetched."),
    string("sasl.oauthbearer.jwks.endpoint.url", "", "Where the keys of the token issuer are fetched.").unset(),
    string("sasl.oauthbearer.scope.claim.name", "scope", "The claim that holds a token's scope."),
    string("sasl.oauthbearer.sub.claim.name", "sub", "The claim that holds a token's user."),
    class("sasl.server.callback.handler.class", "A Java class for SASL towards clients."),
    int("sasl.server.max.receive.size", "524288", "The largest SASL message before a client is authenticated."),
    string("security.inter.broker.protocol", "PLAINTEXT", "The protocol between brokers.")
        .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
    string("security.providers", "", "Java security providers.").unset(),
    boolean("ssl.allow.dn.changes", "false", "Whether a new certificate may have another name."),
    boolean("ssl.allow.san.changes", "false", "Whether a new certificate may have other alternative names."),
    list("ssl.cipher.suites", "", "The cipher suites that are allowed.").per_broker(),
    string("ssl.client.auth", "none", "Whether clients must show a certificate.")
        .one_of(&["required", "requested", "none"]).per_broker(),
    list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3", "The TLS versions that are allowed.").per_broker(),
    string("ssl.endpoint.identification.algorithm", "https", "How a server's name is checked against its certificate.")
        .per_broker(),
    class("ssl.engine.factory.class", "A Java class that makes TLS engines.").per_broker(),
    password("ssl.key.password", "The password of the private key.").per_broker(),
    string("ssl.keymanager.algorithm", "SunX509", "Java's key manager.").per_broker(),
    password("ssl.keystore.certificate.chain", "The certificate chain, in PEM.").per_broker(),
    password("ssl.keystore.key", "The private key, in PEM.").per_broker(),
    string("ssl.keystore.location", "", "The file with key and certificate.").unset().per_broker(),
    password("ssl.keystore.password", "The password of that file.").per_broker(),
    string("ssl.keystore.type", "JKS", "Its format: PEM, PKCS12 or JKS.").per_broker(),
    string("ssl.principal.mapping.rules", "DEFAULT", "How the name in a certificate becomes a user name."),
    string("ssl.protocol", "TLSv1.3", "The newest TLS version.").per_broker(),
    string("ssl.provider", "", "Java's provider of TLS.").unset().per_broker(),
    string("ssl.secure.random.implementation", "", "Java's random numbers.").unset().per_broker(),
    string("ssl.trustmanager.algorithm", "PKIX", "Java's trust manager.").per_broker(),
    password("ssl.truststore.certificates", "The trusted certificates, in PEM.").per_broker(),
    string("ssl.truststore.location", "", "The file with trusted certificates.").unset().per_broker(),
    password("ssl.truststore.password", "The password of that file.").per_broker(),
    string("ssl.truststore.type", "JKS", "Its format: PEM, PKCS12 or JKS.").per_broker(),
];
