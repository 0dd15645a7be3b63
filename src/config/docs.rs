//! The reference of all configs, generated from their definitions: a table for the terminal, or Markdown.

use std::fmt::Write;

use capek_state::config::{ConfigDef, Dynamic, broker_configs, topic_configs};

use super::effective::default_of;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DocsFormat {
    Table,
    Markdown,
    Json,
}

/// Writes the reference of broker and topic configs; with `filter`, of the names that contain it.
pub fn write_docs(format: DocsFormat, filter: Option<&str>) -> String {
    let chosen = |definition: &&ConfigDef| filter.is_none_or(|text| definition.name.contains(text));
    let mut broker: Vec<&ConfigDef> = broker_configs().filter(chosen).collect();
    broker.sort_by_key(|definition| definition.name);
    let topic: Vec<&ConfigDef> = topic_configs().iter().filter(chosen).collect();
    match format {
        DocsFormat::Table => table(&broker, &topic),
        DocsFormat::Markdown => markdown(&broker, &topic),
        DocsFormat::Json => json(&broker, &topic),
    }
}

fn default_shown(definition: &ConfigDef, of_broker: bool) -> String {
    let default = if of_broker { default_of(definition.name) } else { definition.default };
    match default {
        None => "(none)".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(value) => value.to_owned(),
    }
}

/// Ours is worth a line; that something is accepted without effect too.
fn notes(definition: &ConfigDef) -> Vec<String> {
    let differs = definition.differs_from_kafka.map(|reason| format!("Differs from Kafka: {reason}."));
    let ignored = (!definition.honoured).then(|| "Accepted, without effect in this version.".to_owned());
    differs.into_iter().chain(ignored).collect()
}

fn kind(definition: &ConfigDef) -> String {
    format!("{:?}", definition.kind).to_lowercase()
}

fn dynamic(definition: &ConfigDef) -> &'static str {
    match definition.dynamic {
        Dynamic::ReadOnly => "read-only",
        Dynamic::PerBroker => "per-broker",
        Dynamic::ClusterWide => "cluster-wide",
    }
}

fn table(broker: &[&ConfigDef], topic: &[&ConfigDef]) -> String {
    let mut text = String::new();
    for (title, of_broker, definitions) in [("Broker", true, broker), ("Topic", false, topic)] {
        if definitions.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{title} configs\n");
        for definition in definitions {
            let default = default_shown(definition, of_broker);
            let _ = write!(text, "  {} ({}, default {default}", definition.name, kind(definition));
            let _ = writeln!(text, "{})", if of_broker { format!(", {}", dynamic(definition)) } else { String::new() });
            let _ = writeln!(text, "      {}", definition.doc);
            for note in notes(definition) {
                let _ = writeln!(text, "      {note}");
            }
        }
        text.push('\n');
    }
    text
}

fn markdown(broker: &[&ConfigDef], topic: &[&ConfigDef]) -> String {
    let mut text = String::new();
    for (title, of_broker, definitions) in [("Broker", true, broker), ("Topic", false, topic)] {
        let _ = writeln!(
            text,
            "## {title} configs\n\n| name | type | default | changes | what |\n| --- | --- | --- | --- | --- |"
        );
        for definition in definitions {
            let changes = if of_broker { dynamic(definition) } else { "per topic" };
            let notes: String = notes(definition).iter().map(|note| format!(" *{note}*")).collect();
            let what = format!("{}{notes}", definition.doc).replace('|', "\\|");
            let default = default_shown(definition, of_broker);
            let _ =
                writeln!(text, "| `{}` | {} | `{default}` | {changes} | {what} |", definition.name, kind(definition));
        }
        text.push('\n');
    }
    text
}

fn json(broker: &[&ConfigDef], topic: &[&ConfigDef]) -> String {
    let rows = |definitions: &[&ConfigDef], of_broker: bool| -> Vec<serde_json::Value> {
        let row = |definition: &&ConfigDef| {
            let default = if of_broker { default_of(definition.name) } else { definition.default };
            serde_json::json!({
                "name": definition.name,
                "scope": if of_broker { "broker" } else { "topic" },
                "type": kind(definition),
                "default": default,
                "dynamic": dynamic(definition),
                "doc": definition.doc,
                "differs_from_kafka": definition.differs_from_kafka,
                "honoured": definition.honoured,
                "synonyms": definition.synonyms,
            })
        };
        definitions.iter().map(row).collect()
    };
    let all = [rows(broker, true), rows(topic, false)].concat();
    format!("{:#}\n", serde_json::Value::Array(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_documented() {
        let text = write_docs(DocsFormat::Markdown, None);
        for definition in broker_configs().chain(topic_configs()) {
            assert!(text.contains(&format!("| `{}` |", definition.name)), "{}", definition.name);
            assert!(!definition.doc.is_empty(), "{} says nothing", definition.name);
        }
    }

    #[test]
    fn a_filter_narrows_the_reference() {
        let text = write_docs(DocsFormat::Table, Some("num.partitions"));
        assert!(text.contains("num.partitions (int") && !text.contains("log.dirs"), "{text}");
    }
}
