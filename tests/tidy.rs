//! House rules that the compiler does not hold. A new arrow between crates is a design decision: change `LAYERS` on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use capek_state::config::{ConfigDef, broker_configs, group_configs, topic_configs};

/// Which of our crates each crate may use. `src` is `capek`.
const LAYERS: [(&str, &[&str]); 9] = [
    ("capek", &["capek-actors", "capek-log", "capek-state", "capek-wire", "capek-writeback"]),
    ("capek-actors", &["capek-log", "capek-state", "capek-wire"]),
    ("capek-state", &["capek-wire"]),
    ("capek-log", &["capek-wire", "capek-writeback"]),
    ("capek-wire", &[]),
    ("capek-writeback", &[]),               // the one with unsafe code: system calls
    ("capek-wire-oracle", &["capek-wire"]), // tests only: other people's codecs
    ("capek-null-broker", &[]),             // it is measured against the others
    ("capek-benches", &["capek-log", "capek-wire"]),
];

/// Same input, same output: no runtime, no consensus, no randomness.
const PURE_CRATES: [&str; 3] = ["crates/wire", "crates/log", "crates/state"];
const NOT_IN_PURE_CRATES: [&str; 8] =
    ["actix", "actix-rt", "actix-web", "getrandom", "mio", "openraft", "rand", "tokio"];

/// The parts that this broker says it is built of.
const NAMED_DEPENDENCIES: [&str; 8] =
    ["actix", "actix-web", "bytes", "crc32c", "env_logger", "postcard", "serde", "tokio"];

const LINES_MAX: usize = 600;
/// Written by a program, or a list of facts.
const LONG_BY_NATURE: [&str; 4] = ["Cargo.lock", "go.sum", "LICENSE", "schema/"];

/// In two halves, so that this file does not hold them.
const BANNED: [(&str, &str, &str); 12] = [
    ("to", "do!", "finish it"),
    ("unimple", "mented!", "finish it"),
    ("db", "g!(", "a leftover"),
    ("/wo", "rk/", "the path of one machine"),
    ("/ro", "ot/", "the path of one machine"),
    ("/ho", "me/", "the path of one machine"),
    ("index.", "crates.io", "the host of a registry"),
    ("repo.", "maven", "the host of a registry"),
    ("registry.", "npmjs", "the host of a registry"),
    ("files.", "pythonhosted", "the host of a registry"),
    ("proxy.", "golang", "the host of a registry"),
    ("arti", "factory", "the host of a registry"),
];

#[test]
fn each_crate_uses_only_the_layers_below_it() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    for manifest in manifests() {
        let name = manifest.name.as_str();
        let allowed = layers.get(name).unwrap_or_else(|| panic!("{name} is not in the table of layers"));
        for dependency in manifest.dependencies.iter().filter(|dependency| layers.contains_key(dependency.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} may not use {dependency}");
        }
    }
}

#[test]
fn the_pure_crates_have_no_runtime_and_no_unsafe_code() {
    for directory in PURE_CRATES {
        let manifest = manifest(&root().join(directory));
        for banned in NOT_IN_PURE_CRATES {
            assert!(!manifest.dependencies.contains(banned), "{} may not use {banned}", manifest.name);
        }
        let library = read(&root().join(directory).join("src/lib.rs"));
        assert!(library.contains("#![forbid(unsafe_code)]"), "{directory}/src/lib.rs forbids unsafe code");
    }
}

#[test]
fn the_named_dependencies_are_used() {
    let manifests = manifests();
    let sources: String = rust_files(&["src", "actors", "crates"]).iter().map(|path| read(path)).collect();
    for dependency in NAMED_DEPENDENCIES {
        assert!(manifests.iter().any(|manifest| manifest.dependencies.contains(dependency)), "{dependency} is missing");
        let path = format!("{}::", dependency.replace('-', "_"));
        assert!(sources.contains(&path), "{dependency} is named and not used");
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut long = Vec::new();
    for path in files(root()) {
        let relative = relative(&path);
        let lines = read(&path).lines().count();
        if lines > LINES_MAX && !LONG_BY_NATURE.iter().any(|nature| relative.contains(nature)) {
            long.push(format!("{relative}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:#?}");
}

#[test]
fn nothing_unfinished_and_nothing_of_one_machine() {
    let mut found = Vec::new();
    for path in files(root()).iter().filter(|path| !path.ends_with("Cargo.lock")) {
        for (index, line) in read(path).lines().enumerate() {
            for (first, second, why) in BANNED {
                if line.contains(&format!("{first}{second}")) {
                    found.push(format!("{}:{}: {first}{second} ({why})", relative(path), index + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// `expect("why this cannot happen")` instead.
#[test]
fn no_unwrap_outside_tests() {
    let mut found = Vec::new();
    for path in rust_files(&["src", "actors", "crates"]) {
        if is_test_file(&path) {
            continue;
        }
        let text = read(&path);
        let code = text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"));
        for (index, line) in code.enumerate() {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                found.push(format!("{}:{}", relative(&path), index + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The table of requests and the list of actors are where a reader begins.
#[test]
fn every_actor_and_every_request_is_listed() {
    for (directory, list) in [("actors", "lib.rs"), ("actors/requests", "mod.rs")] {
        let listed = read(&root().join(directory).join(list));
        for entry in fs::read_dir(root().join(directory)).expect("the directory is there").flatten() {
            let name = entry.file_name().into_string().expect("our file names are ASCII");
            let Some(module) = name.strip_suffix(".rs").filter(|_| name != list) else { continue };
            let is_listed = listed.lines().any(|line| line.trim_end().ends_with(&format!("mod {module};")));
            assert!(is_listed, "{directory}/{name} is not in {directory}/{list}");
        }
    }
}

/// `capek config docs` says of a setting whether it has an effect: it has when the code reads it by its name.
#[test]
fn a_setting_is_said_to_have_an_effect_exactly_if_the_code_reads_it() {
    // The tables, the rules about who may set what, and the client programs, whose settings are called like some of the
    // broker's.
    const NO_READERS: [&str; 4] = [
        "crates/state/src/config/",
        "crates/state/src/cluster/config_commands.rs",
        "src/cli/",
        "src/config/no_effect.rs",
    ];
    const READERS: [&str; 2] =
        ["crates/state/src/config/topic_config.rs", "crates/state/src/config/election_config.rs"];
    let mut code = String::new();
    for path in rust_files(&["src", "actors", "crates/state/src", "crates/log/src"]) {
        let relative = relative(&path);
        let is_reader = READERS.contains(&relative.as_str()) || !NO_READERS.iter().any(|no| relative.starts_with(no));
        if is_reader && !is_test_file(&path) {
            code.extend(read(&path).split("#[cfg(test)]").next());
        }
    }
    let literals: BTreeSet<&str> = code.split('"').collect();
    let named = |name: &str| literals.contains(name);
    let is_synonym = |definition: &ConfigDef, name: &str| definition.synonyms.contains(&name);
    // A topic and a group fall back on what the broker's setting says; of a group's, the broker sets the bounds too.
    let inherits = |definition: &ConfigDef, name: &str| {
        let bounds =
            ["min", "max"].map(|bound| format!("group.{}", definition.name.replacen('.', &format!(".{bound}."), 1)));
        definition.honoured && (is_synonym(definition, name) || bounds.iter().any(|bound| bound == name))
    };
    let is_inherited = |name: &str| {
        let of_others = topic_configs().iter().chain(group_configs());
        of_others.into_iter().any(|definition| inherits(definition, name))
            || broker_configs().any(|newer| newer.honoured && is_synonym(newer, name))
    };
    let wrong: Vec<String> = broker_configs()
        .filter(|definition| definition.honoured != (named(definition.name) || is_inherited(definition.name)))
        .map(|definition| format!("{} (honoured: {})", definition.name, definition.honoured))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

struct Manifest {
    name: String,
    /// Of `[dependencies]`, not of `[dev-dependencies]`.
    dependencies: BTreeSet<String>,
}

fn manifests() -> Vec<Manifest> {
    let text = read(&root().join("Cargo.toml"));
    let members =
        text.lines().find_map(|line| line.strip_prefix("members = [")).expect("the members stand on one line");
    let members = members.trim_end_matches(']').split(',').map(|member| member.trim().trim_matches('"'));
    members
        .filter(|member| !member.is_empty())
        .map(|member| manifest(&root().join(member)))
        .chain([manifest(root())])
        .collect()
}

fn manifest(directory: &Path) -> Manifest {
    let text = read(&directory.join("Cargo.toml"));
    let (mut section, mut name, mut dependencies) = (String::new(), String::new(), BTreeSet::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            if section == "package" && key == "name" {
                name = value.trim().trim_matches('"').to_owned();
            } else if section.ends_with("dependencies")
                && !section.ends_with("dev-dependencies")
                && section != "workspace.dependencies"
            {
                dependencies.insert(key.split('.').next().unwrap_or(key).to_owned());
            }
        }
    }
    Manifest { name, dependencies }
}

fn rust_files(directories: &[&str]) -> Vec<PathBuf> {
    let files = directories.iter().flat_map(|directory| files(&root().join(directory)));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn is_test_file(path: &Path) -> bool {
    let relative = relative(path);
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    relative.contains("/tests/")
        || relative.contains("/testing/")
        || name == "tests"
        || name.ends_with("_tests")
        || name == "build"
}

/// All text files of the project.
fn files(directory: &Path) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 8] =
        [".git", "target", "capek-data", "node_modules", "__pycache__", "corpus", "artifacts", ".cargo-home"];
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory is there").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        // In a worktree of git's `.git` is a file.
        if NOT_OURS.iter().any(|other| name == *other) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::read(&path).is_ok_and(|bytes| String::from_utf8(bytes).is_ok()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
