//! What commands print: one list in the form that `-o` asks for, written to standard output without panicking when the
//! reader goes away.

use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value};

use super::Failure;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputForm {
    #[default]
    Table,
    Json,
    Jsonl,
    Csv,
    /// Only the first column, one a line: for scripts.
    Name,
}

/// A list with named columns; a cell is any JSON value.
pub struct List {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl List {
    pub fn new(columns: &[&'static str]) -> List {
        List { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Value>) {
        assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Prints the list to standard output.
    pub fn print(&self, form: OutputForm) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(self.render(form).as_bytes())?;
        Ok(out.flush()?)
    }

    fn render(&self, form: OutputForm) -> String {
        match form {
            OutputForm::Table => self.table(),
            OutputForm::Json => format!("{:#}\n", Value::Array(self.objects().collect())),
            OutputForm::Jsonl => self.objects().map(|object| format!("{object}\n")).collect(),
            OutputForm::Csv => self.csv(),
            OutputForm::Name => {
                self.rows.iter().filter_map(|row| row.first()).map(|cell| format!("{}\n", plain(cell))).collect()
            }
        }
    }

    fn objects(&self) -> impl Iterator<Item = Value> {
        self.rows.iter().map(|row| {
            let pairs = self.columns.iter().map(|name| name.to_string()).zip(row.iter().cloned());
            Value::Object(pairs.collect::<Map<_, _>>())
        })
    }

    fn table(&self) -> String {
        let header: Vec<String> = self.columns.iter().map(|name| name.to_uppercase().replace('_', "-")).collect();
        let mut lines = vec![header];
        lines.extend(self.rows.iter().map(|row| row.iter().map(plain).collect()));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let mut padded = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                padded.push_str(&format!("{cell:width$}  "));
            }
            text.push_str(padded.trim_end());
            text.push('\n');
        }
        text
    }

    fn csv(&self) -> String {
        let quoted = |cell: String| match cell.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        };
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| quoted(plain(cell))).collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

/// A cell for people: no quotes around text, nothing for null, a comma between the items of a list.
fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Writes one line for people to standard output.
pub fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Writes one line to standard error; nobody can be told when that fails.
pub fn warn(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A progress bar on standard error for work of known length; hidden unless a person is looking.
pub fn progress(total: u64, what: &'static str) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() || total < 2 {
        return indicatif::ProgressBar::hidden();
    }
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta}";
    let style =
        indicatif::ProgressStyle::with_template(template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(total).with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list() -> List {
        let mut list = List::new(&["name", "partition_count", "note"]);
        list.row(vec![json!("orders"), json!(3), json!([1, 2])]);
        list.row(vec![json!("a"), json!(12), Value::Null]);
        list
    }

    #[test]
    fn every_form_shows_the_same_list() {
        assert_eq!(
            list().render(OutputForm::Table),
            "NAME    PARTITION-COUNT  NOTE\norders  3                1,2\na       12\n"
        );
        assert_eq!(list().render(OutputForm::Csv), "name,partition_count,note\norders,3,\"1,2\"\na,12,\n");
        assert_eq!(list().render(OutputForm::Name), "orders\na\n");
        let lines = list().render(OutputForm::Jsonl);
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first, json!({"name": "orders", "partition_count": 3, "note": [1, 2]}));
    }
}
