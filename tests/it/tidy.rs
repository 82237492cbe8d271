//! Keeps in order what the compiler and clippy do not look at: which way imports point, what the
//! crates depend on, how long files are, and what lies about.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::workspace;

#[test]
fn imports_inside_the_core_point_one_way() {
    let lower = ["config", "mutant", "name", "share", "codec", "wire", "tls"];
    let mut findings = Vec::new();
    for source in sources() {
        let Some(module) = source.core_module() else {
            continue;
        };
        let forbidden: &[&str] = match module {
            "node" => &["shell"],
            _ if lower.contains(&module) => &["node", "shell"],
            _ => &[],
        };
        for (line, import) in imports(&source.code()) {
            if forbidden.contains(&import.as_str()) {
                findings.push(source.at(line, &format!("`{module}` imports `{import}`")));
            }
        }
    }
    report(
        "imports point one way: config, mutant, name, share, codec, wire, tls <- node <- shell",
        &findings,
    );
}

#[test]
fn the_node_performs_no_effects() {
    let mut findings = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.core_module() == Some("node"))
    {
        for (line, effect) in effects(&source.code()) {
            if !SEAMS.contains(&(&*source.path, &*effect)) {
                findings.push(source.at(line, &format!("`{effect}`")));
            }
        }
    }
    report(
        "the node is pure: what waits, locks, shares or is global belongs in shell",
        &findings,
    );
}

#[test]
fn no_runtime_reaches_the_core_and_no_tokio_reaches_smol() {
    let runtimes = [
        "tokio",
        "mio",
        "smol",
        "async-io",
        "async-std",
        "async-executor",
        "polling",
    ];
    let mut findings = Vec::new();
    for (package, forbidden) in [
        ("grinta-proto", &runtimes[..]),
        ("grinta-smol", &runtimes[..2]),
    ] {
        let dependencies = dependencies(package);
        assert!(
            dependencies.contains("quinn-proto"),
            "{package}: {dependencies:?}"
        );
        for &found in forbidden
            .iter()
            .filter(|&&name| dependencies.contains(name))
        {
            findings.push(format!(
                "{package} depends on {found}: \
                 cargo tree -p {package} -e normal --all-features -i {found}"
            ));
        }
    }
    report(
        "the core depends on no runtime, and grinta-smol not on tokio",
        &findings,
    );
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_generated()) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            findings.push(source.at(lines, &format!("has more than {LINES_MAX} lines")));
        }
    }
    report("cut a long file along the state it owns", &findings);
}

#[test]
fn nothing_unfinished_or_silenced_is_left() {
    let mut findings = Vec::new();
    for source in sources() {
        for (line, text) in (1..).zip(source.text.lines()) {
            for leftover in LEFTOVERS
                .iter()
                .filter(|leftover| text.contains(**leftover))
            {
                findings.push(source.at(line, &format!("`{leftover}`")));
            }
        }
    }
    report(
        "finish it, or say why with #[expect(…, reason = …)]; name no one's machine",
        &findings,
    );
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let entries = fs::read_dir(workspace()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strangers = names.filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&&**name));
    let findings: Vec<_> = strangers
        .map(|name| format!("{name}: not on the list"))
        .collect();
    report(
        "find it a room, or add it to the list in tests/it/tidy.rs",
        &findings,
    );
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let code = "use crate::wire::{code, frame};\n\
                use crate::{\n    config::Config,\n    node::{self, shell},\n};\n\
                fn f() { crate::shell::g(super::node::h()) }\n";
    let found: Vec<String> = imports(code)
        .into_iter()
        .map(|(_, import)| import)
        .collect();
    assert_eq!(found, ["wire", "config", "node", "shell", "node"]);
    assert_eq!(imports(code).last().map(|(line, _)| *line), Some(6));
}

#[test]
fn an_effect_is_found_in_code_but_not_in_words() {
    let found = |code: &str| -> Vec<String> {
        let effects = effects(&without_words(code)).into_iter();
        effects.map(|(_, effect)| effect).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        found("let a: &'static str = \"async \\\" Mutex\"; // Waker"),
        none
    );
    assert_eq!(found("let quote = '\"'; static A: B = C;"), ["static"]);
    assert_eq!(
        found("async fn f(w: Arc<AtomicU64>) { w.await; Mutex::new(()) }"),
        ["async", "AtomicU64", "await", "Mutex"],
    );
    assert_eq!(found("fn asynchronous() { automatic() }"), none);
}

/// A Rust file of the workspace.
struct Source {
    /// Relative to the workspace, with `/` between its parts.
    path: String,
    text: String,
}

impl Source {
    /// The top-level module of grinta-proto that the file belongs to.
    fn core_module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("grinta-proto/src/")?;
        path.split(['/', '.']).next()
    }

    fn is_generated(&self) -> bool {
        self.path == "grinta-proto/src/wire/generated.rs"
    }

    fn code(&self) -> String {
        without_words(&self.text)
    }

    fn at(&self, line: usize, finding: &str) -> String {
        format!("{}:{line}: {finding}", self.path)
    }
}

/// Every Rust file of the workspace, in the order of their paths.
fn sources() -> Vec<Source> {
    let root = workspace();
    let mut sources = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy();
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source {
                    path: relative.replace('\\', "/"),
                    text,
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        sources
            .iter()
            .any(|source| source.core_module() == Some("node"))
    );
    sources
}

/// Blanks line comments and the insides of string literals; lines keep their numbers. Raw strings
/// and block comments are not looked for.
fn without_words(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let words = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with('"') && !code.ends_with('\'') {
            string_len(rest)
        } else {
            code.push_str(&rest[..1]);
            rest = &rest[1..];
            continue;
        };
        code.extend(rest[..words].chars().filter(|&c| c == '\n'));
        rest = &rest[words..];
    }
    code + rest
}

/// The length of the string literal with which `text` begins.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The top-level modules that a file names, by path or in a group, each with its line.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, root) in code
        .match_indices("crate::")
        .chain(code.match_indices("super::"))
    {
        let line = line_of(code, at);
        let path = &code[at + root.len()..];
        let Some(group) = path.strip_prefix('{') else {
            found.push((line, identifier(path)));
            continue;
        };
        let mut depth = 0_usize;
        let mut first_of_item = true;
        for (offset, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => first_of_item = true,
                c if first_of_item && !c.is_whitespace() => {
                    found.push((line, identifier(&group[offset..])));
                    first_of_item = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// What waits, locks, is shared between threads or is global, each with its line.
fn effects(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'') {
            if EFFECTS.contains(&word) || word.starts_with("Atomic") {
                found.push((line, word.to_owned()));
            }
        }
    }
    found
}

/// The names of all packages that a package is built from, with all its features.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            package,
            "--edges",
            "normal",
            "--all-features",
        ])
        .args([
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--offline",
            "--locked",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed: {errors}");
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[track_caller]
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}

/// A file is meant to fit a sitting, about 600 lines of code; its tests come on top.
const LINES_MAX: usize = 900;

/// Where a library keeps what we gave it to itself, so that a shared cell is the only way to it:
/// quinn-proto its congestion controllers, foca its codec. One thread uses both ends.
const SEAMS: [(&str, &str); 3] = [
    ("grinta-proto/src/node/congestion.rs", "AtomicBool"),
    ("grinta-proto/src/node/control/swim.rs", "mpsc"),
    ("grinta-proto/src/node/control/swim/codec.rs", "mpsc"),
];

const EFFECTS: [&str; 15] = [
    "async",
    "await",
    "static",
    "thread_local",
    "Waker",
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "OnceLock",
    "LazyLock",
    "mpsc",
    "UdpSocket",
    "TcpListener",
    "TcpStream",
];

/// In halves, so that this file does not find itself.
const LEFTOVERS: [&str; 10] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("db", "g!("),
    concat!("to", "do!("),
    concat!("#[ig", "nore"),
    concat!("#[al", "low("),
    concat!("#![al", "low("),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
];

const TOP_LEVEL: [&str; 14] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "fuzz",
    "grinta-proto",
    "grinta-smol",
    "grinta-tokio",
    "proto",
    "rustfmt.toml",
    "target",
    "tests",
];
