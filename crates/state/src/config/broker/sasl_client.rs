//! How Kafka's brokers log in to each other and to token issuers; ours do not use SASL among themselves. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, class, double, int, long, password, short, string};

#[rustfmt::skip] // a table, one definition after the other
pub(super) static SASL_CLIENT: &[ConfigDef] = &[
    string("sasl.kerberos.kinit.cmd", "/usr/bin/kinit", "Where kinit is.").per_broker(),
    long("sasl.kerberos.min.time.before.relogin", "60000", "The shortest time between two Kerberos logins.").per_broker(),
    double("sasl.kerberos.ticket.renew.jitter", "0.05", "How much the renewal of a ticket is shifted at random.").per_broker(),
    double("sasl.kerberos.ticket.renew.window.factor", "0.8", "The part of a ticket's life after which it is renewed.")
        .per_broker(),
    class("sasl.login.callback.handler.class", "A Java class that answers for a login."),
    class("sasl.login.class", "A Java class that logs in."),
    int("sasl.login.connect.timeout.ms", "", "How long a connection to the token issuer may take.").unset(),
    int("sasl.login.read.timeout.ms", "", "How long the token issuer may take to answer.").unset(),
    short("sasl.login.refresh.buffer.seconds", "300", "How long before its end a token is refreshed at the latest.")
        .per_broker(),
    short("sasl.login.refresh.min.period.seconds", "60", "The shortest time between two refreshes of a token.").per_broker(),
    double("sasl.login.refresh.window.factor", "0.8", "The part of a token's life after which it is refreshed.").per_broker(),
    double("sasl.login.refresh.window.jitter", "0.05", "How much the refresh of a token is shifted at random.").per_broker(),
    long("sasl.login.retry.backoff.max.ms", "10000", "The longest pause between two tries to log in."),
    long("sasl.login.retry.backoff.ms", "100", "The first pause between two tries to log in."),
    string("sasl.oauthbearer.assertion.algorithm", "RS256", "How an assertion for the token issuer is signed."),
    string("sasl.oauthbearer.assertion.claim.aud", "", "The audience of the assertion.").unset(),
    int("sasl.oauthbearer.assertion.claim.exp.seconds", "300", "How long the assertion is valid."),
    string("sasl.oauthbearer.assertion.claim.iss", "", "The issuer of the assertion.").unset(),
    boolean("sasl.oauthbearer.assertion.claim.jti.include", "false", "Whether the assertion has an id of its own."),
    int("sasl.oauthbearer.assertion.claim.nbf.seconds", "60", "How long before its making the assertion is valid."),
    string("sasl.oauthbearer.assertion.claim.sub", "", "The subject of the assertion.").unset(),
    string("sasl.oauthbearer.assertion.file", "", "A file with a ready assertion.").unset(),
    string("sasl.oauthbearer.assertion.private.key.file", "", "The key that signs the assertion.").unset(),
    password("sasl.oauthbearer.assertion.private.key.passphrase", "The passphrase of that key."),
    string("sasl.oauthbearer.assertion.template.file", "", "What else the assertion says.").unset(),
    string("sasl.oauthbearer.client.credentials.client.id", "", "Who asks the token issuer for a token.").unset(),
    password("sasl.oauthbearer.client.credentials.client.secret", "The secret of that client."),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000", "The longest pause before the issuer's keys are asked for again."),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100", "The first pause before the issuer's keys are asked for again."),
    class("sasl.oauthbearer.jwt.retriever.class", "A Java class that fetches tokens.")
        .default_value("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    class("sasl.oauthbearer.jwt.validator.class", "A Java class that checks tokens.")
        .default_value("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    string("sasl.oauthbearer.scope", "", "The scope that a token is asked for.").unset(),
    string("sasl.oauthbearer.token.endpoint.url", "", "Where tokens are issued.").unset(),
];
