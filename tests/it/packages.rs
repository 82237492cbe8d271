//! Keeps what is published whole: a package has all that it is built from and that its licence asks
//! for, and nothing in it points out of it. `.ci/run` builds the packages from their own files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::workspace;

const PACKAGES: [&str; 3] = ["grinta-proto", "grinta-smol", "grinta-tokio"];

#[test]
fn a_package_has_all_that_it_needs() {
    let mut findings = Vec::new();
    for package in PACKAGES {
        let files = files(package);
        for needed in [
            "Cargo.toml",
            "Cargo.lock",
            "LICENSE",
            "README.md",
            "src/lib.rs",
        ] {
            if !files.contains(Path::new(needed)) {
                findings.push(format!("{package} lacks {needed}"));
            }
        }
        let root = workspace().join(package);
        for source in rust_files(&root, Path::new("")) {
            if !files.contains(&source) {
                findings.push(format!("{package} lacks {}", source.display()));
            }
        }
    }
    assert_eq!(findings, [""; 0], "see `cargo package --list`");
}

#[test]
fn the_wire_contract_is_published_with_the_core() {
    let files = files("grinta-proto");
    for contract in ["control", "stream"] {
        let path = format!("proto/grinta/v1/{contract}.proto");
        assert!(
            files.contains(Path::new(&path)),
            "{path} is not in {files:?}"
        );
    }
}

#[test]
fn nothing_in_a_package_points_out_of_it() {
    let mut findings = Vec::new();
    for package in PACKAGES {
        let root = workspace().join(package);
        for file in files(package).iter().filter(|file| is_rust(file)) {
            let text = fs::read_to_string(root.join(file)).unwrap();
            for target in paths_in(&text) {
                let directory = file.parent().unwrap();
                if leaves(&directory.join(&target)) {
                    findings.push(format!("{package}: {} points to {target}", file.display()));
                }
            }
        }
    }
    assert_eq!(
        findings, [""; 0],
        "a package is built from its own files alone"
    );
}

#[test]
fn a_package_says_what_it_is() {
    let root = workspace();
    for package in PACKAGES {
        let manifest = fs::read_to_string(root.join(package).join("Cargo.toml")).unwrap();
        for field in [
            "description",
            "license",
            "repository",
            "readme",
            "rust-version",
        ] {
            let is_said = manifest.lines().any(|line| line.starts_with(field));
            assert!(is_said, "{package} has no {field}");
        }
    }
}

#[test]
fn a_path_that_leaves_is_found() {
    let code = "#[path = \"../../x.rs\"] mod x; include_str!(\"y.md\"); include_bytes!(\"../z\")";
    assert_eq!(paths_in(code), ["../../x.rs", "y.md", "../z"]);
    assert!(leaves(Path::new("src/../../x.rs")) && leaves(Path::new("/etc/motd")));
    assert!(!leaves(Path::new("src/../y.md")));
}

/// What a package is made of, as cargo lists it.
fn files(package: &str) -> BTreeSet<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--package", package])
        .args(["--allow-dirty", "--offline", "--locked"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo package --list: {errors}");
    let list = String::from_utf8(output.stdout).unwrap();
    list.lines().map(PathBuf::from).collect()
}

/// All Rust files under `root/directory`, relative to `root`.
fn rust_files(root: &Path, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(directory)).unwrap() {
        let path = directory.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() {
            found.extend(rust_files(root, &path));
        } else if is_rust(&path) {
            found.push(path);
        }
    }
    found
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

/// The files that Rust code names for the compiler to read.
fn paths_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for marker in [
        "#[path = \"",
        "include_str!(\"",
        "include_bytes!(\"",
        "include!(\"",
    ] {
        for (at, _) in code.match_indices(marker) {
            let rest = &code[at + marker.len()..];
            found.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    found
}

/// Whether a path, seen from the package's root, leads out of it.
fn leaves(path: &Path) -> bool {
    let mut depth = 0_i32;
    for component in path.components() {
        depth += match component {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            Component::CurDir => 0,
            Component::Prefix(_) | Component::RootDir => return true,
        };
        if depth < 0 {
            return true;
        }
    }
    false
}
