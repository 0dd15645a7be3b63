//! What `/metrics` says, read line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::Broker;
use super::programs::{curl, output_of};
use super::wait_for;

const SAID_WITHIN: Duration = Duration::from_secs(20);

/// One answer.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The whole left side, labels and all.
    samples: BTreeMap<String, f64>,
    /// As the TYPE lines name them.
    pub families: BTreeSet<String>,
}

impl Scrape {
    pub fn of(broker: &Broker) -> Scrape {
        Scrape::parse(&output_of(curl(&["--fail-with-body", &broker.http("/metrics")])))
    }

    fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().expect("a line has a first word");
                assert!(scrape.families.insert(name.to_owned()), "{name} comes twice");
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("a sample and a value: {line}"));
                let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(scrape.samples.insert(sample.to_owned(), value).is_none(), "{sample} comes twice");
            }
        }
        scrape
    }

    /// None: there is no such sample.
    pub fn find(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    pub fn value(&self, sample: &str) -> f64 {
        self.find(sample).unwrap_or_else(|| panic!("{sample} is not there; what is: {:#?}", self.near(sample)))
    }

    /// Of all samples of this name that have this text in their labels.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        self.of_name(name).filter(|(sample, _)| sample.contains(labels)).map(|(_, value)| value).sum()
    }

    pub fn count(&self, name: &str) -> usize {
        self.of_name(name).count()
    }

    fn of_name(&self, name: &str) -> impl Iterator<Item = (&String, f64)> {
        let is_named = move |sample: &str| sample.split('{').next() == Some(name);
        self.samples.iter().filter(move |(sample, _)| is_named(sample)).map(|(sample, value)| (sample, *value))
    }

    fn near(&self, sample: &str) -> Vec<&String> {
        let name = sample.split('{').next().unwrap_or("");
        self.samples.keys().filter(|known| known.starts_with(name)).collect()
    }
}

/// Until this is so of the sample.
pub fn wait_until(broker: &Broker, sample: &str, is_so: impl Fn(f64) -> bool) {
    wait_for(sample, SAID_WITHIN, || Scrape::of(broker).find(sample).is_some_and(&is_so).then_some(()));
}

/// Until the sample has this value.
pub fn wait_for_value(broker: &Broker, sample: &str, expected: f64) {
    wait_for(&format!("{sample} is {expected}"), SAID_WITHIN, || {
        (Scrape::of(broker).find(sample) == Some(expected)).then_some(())
    });
}
