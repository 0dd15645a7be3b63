//! The text that Prometheus reads: version 0.0.4 of its own format, or OpenMetrics 1.0 for who asks for it.
//!
//! A family is written as a whole: its help, its type, its samples. Labels come made up, so that what is said of a partition
//! in twenty families is put together once.

use std::fmt::Write;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// As the `Accept` header asks; Prometheus itself names OpenMetrics first.
    pub fn of(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What its samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises; the name ends in `_total`, or it is one of Kafka's old names.
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Whose words a family is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// kafka_exporter.
    Exporter,
    /// The JMX exporter with Strimzi's rules.
    Strimzi,
    /// The JMX exporter with Confluent's rules.
    Confluent,
    /// Both of these.
    Jmx,
    /// Our own, and those of any process.
    Own,
}

/// `capek.metrics.compat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabularies {
    pub exporter: bool,
    pub strimzi: bool,
    pub confluent: bool,
}

impl Vocabularies {
    pub fn parse(list: &str) -> Vocabularies {
        let has = |name: &str| list.split(',').any(|item| item.trim() == name);
        Vocabularies { exporter: has("exporter"), strimzi: has("jmx-strimzi"), confluent: has("jmx-confluent") }
    }

    fn has(self, vocabulary: Vocabulary) -> bool {
        match vocabulary {
            Vocabulary::Exporter => self.exporter,
            Vocabulary::Strimzi => self.strimzi,
            Vocabulary::Confluent => self.confluent,
            Vocabulary::Jmx => self.strimzi || self.confluent,
            Vocabulary::Own => true,
        }
    }
}

/// Labels in their braces, made up; none is the empty string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(String);

impl Labels {
    pub fn of(labels: &[(&str, &str)]) -> Labels {
        labels.iter().fold(Labels::default(), |made, (name, value)| made.and(name, value))
    }

    /// The same with one more.
    pub fn and(mut self, name: &str, value: &str) -> Labels {
        if self.0.pop().is_some() {
            self.0.push(',');
        } else {
            self.0.push('{');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        escape(value, &mut self.0);
        self.0.push_str("\"}");
        self
    }
}

fn escape(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// See the head of this file.
pub struct Exposition {
    text: String,
    format: Format,
    vocabularies: Vocabularies,
    samples: usize,
}

/// The family that is being written.
pub struct Family<'a> {
    exposition: &'a mut Exposition,
    name: &'static str,
    /// Its vocabulary is not wanted: nothing is written.
    is_silent: bool,
}

impl Exposition {
    pub fn new(format: Format, vocabularies: Vocabularies) -> Exposition {
        Exposition { text: String::with_capacity(64 << 10), format, vocabularies, samples: 0 }
    }

    /// Begins a family. `name` is that of its samples, `_total` included.
    pub fn family(&mut self, of: Vocabulary, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let is_silent = !self.vocabularies.has(of);
        if !is_silent {
            let (title, kind) = self.title(name, kind);
            self.text.extend(["# HELP ", title, " ", help, "\n# TYPE ", title, " ", kind, "\n"]);
        }
        Family { exposition: self, name, is_silent }
    }

    /// OpenMetrics takes for a counter only what ends in `_total`, and names the family without it.
    fn title(&self, name: &'static str, kind: Kind) -> (&'static str, &'static str) {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        match (self.format, kind, name.strip_suffix("_total")) {
            (Format::OpenMetrics, Kind::Counter, Some(title)) => (title, word),
            (Format::OpenMetrics, Kind::Counter, None) => (name, "unknown"),
            _ => (name, word),
        }
    }

    /// One sample without labels.
    pub fn one(&mut self, of: Vocabulary, name: &'static str, kind: Kind, help: &str, value: impl Number) {
        self.family(of, name, kind, help).sample(&Labels::default(), value);
    }

    /// How many samples there are by now.
    pub fn samples(&self) -> usize {
        self.samples
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    pub fn is_wanted(&self) -> bool {
        !self.is_silent
    }

    pub fn sample(&mut self, labels: &Labels, value: impl Number) {
        self.suffixed("", labels, value);
    }

    /// A sample for each that has a value.
    pub fn present<'a, N: Number>(&mut self, samples: impl Iterator<Item = (&'a Labels, Option<N>)>) {
        for (labels, value) in samples {
            if let Some(value) = value {
                self.sample(labels, value);
            }
        }
    }

    /// A sample of a histogram or summary: `_bucket`, `_sum`, `_count`.
    pub fn suffixed(&mut self, suffix: &str, labels: &Labels, value: impl Number) {
        if self.is_silent {
            return;
        }
        let text = &mut self.exposition.text;
        text.push_str(self.name);
        text.push_str(suffix);
        text.push_str(&labels.0);
        text.push(' ');
        value.put(text);
        text.push('\n');
        self.exposition.samples += 1;
    }
}

/// What a sample may be.
pub trait Number: Copy {
    fn put(self, text: &mut String);
}

macro_rules! whole_number {
    ($($number:ty),*) => {
        $(impl Number for $number {
            fn put(self, text: &mut String) {
                // A string takes whatever is written to it.
                let _ = write!(text, "{self}");
            }
        })*
    };
}

whole_number!(i32, i64, u32, u64, usize);

impl Number for bool {
    fn put(self, text: &mut String) {
        text.push(if self { '1' } else { '0' });
    }
}

impl Number for f64 {
    fn put(self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Vocabularies = Vocabularies { exporter: true, strimzi: true, confluent: true };

    #[test]
    fn a_family_is_its_help_its_type_and_its_samples() {
        let write = |format| {
            let mut exposition = Exposition::new(format, ALL);
            let mut family = exposition.family(Vocabulary::Own, "a_total", Kind::Counter, "As.");
            family.sample(&Labels::of(&[("topic", "t"), ("odd", "\"\\\n")]), 3_u64);
            exposition.one(Vocabulary::Confluent, "persec", Kind::Counter, "Old.", 0.5);
            exposition.finish()
        };
        let samples = ["a_total{topic=\"t\",odd=\"\\\"\\\\\\n\"} 3\n", "persec 0.5\n"];
        let text = format!(
            "# HELP a_total As.\n# TYPE a_total counter\n{}# HELP persec Old.\n# TYPE persec counter\n{}",
            samples[0], samples[1]
        );
        assert_eq!(write(Format::Prometheus), text);
        let text = format!(
            "# HELP a As.\n# TYPE a counter\n{}# HELP persec Old.\n# TYPE persec unknown\n{}# EOF\n",
            samples[0], samples[1]
        );
        assert_eq!(write(Format::OpenMetrics), text);
    }

    #[test]
    fn a_vocabulary_that_is_not_wanted_is_not_written() {
        let vocabularies = Vocabularies::parse("jmx-strimzi, exporter");
        assert_eq!(vocabularies, Vocabularies { exporter: true, strimzi: true, confluent: false });
        let mut exposition = Exposition::new(Format::Prometheus, vocabularies);
        exposition.one(Vocabulary::Confluent, "confluent", Kind::Gauge, "-", 1);
        assert_eq!(exposition.samples(), 0);
        exposition.one(Vocabulary::Jmx, "jmx", Kind::Gauge, "-", true);
        assert_eq!(exposition.samples(), 1);
        assert_eq!(exposition.finish(), "# HELP jmx -\n# TYPE jmx gauge\njmx 1\n");
    }
}
