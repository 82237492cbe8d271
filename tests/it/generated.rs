//! Keeps the checked-in protobuf code equal to what the contract generates.

use std::fs;
use std::path::Path;

use crate::workspace;

const CHECKED_IN: &str = "grinta-proto/src/wire/generated.rs";
const REFRESH: &str = "GRINTA_REGENERATE";

#[test]
fn the_checked_in_code_is_what_the_contract_generates() {
    let root = workspace();
    let path = root.join(CHECKED_IN);
    let fresh = generate(&root.join("proto"));
    if std::env::var_os(REFRESH).is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap();
    if let Some(line) = first_difference(&fresh, &checked_in) {
        panic!(
            "{CHECKED_IN}:{line} is not what proto/grinta/v1/*.proto generates; refresh it with\n\
             {REFRESH}=1 cargo test -p grinta-tests --test it generated"
        );
    }
}

#[test]
fn a_difference_is_found_on_its_line() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
    assert_eq!(first_difference("a\nb\n", "a\n"), Some(2));
    assert_eq!(first_difference("a\n", "a"), Some(1));
}

/// The code of all files of the contract, as `prost-build` formats it.
fn generate(contract: &Path) -> String {
    let directory = contract.join("grinta/v1");
    let entries = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|it| it == "proto"))
        .collect();
    files.sort();
    let descriptors = protox::compile(files, [contract])
        .unwrap_or_else(|error| panic!("{} does not compile: {error:?}", directory.display()));

    let output = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .btree_map(["."])
        .out_dir(output.path())
        .compile_fds(descriptors)
        .unwrap();
    fs::read_to_string(output.path().join("grinta.v1.rs")).unwrap()
}

/// The number of the first line, from 1, in which two texts differ.
fn first_difference(one: &str, other: &str) -> Option<usize> {
    let mut lines = one.split_inclusive('\n').zip(other.split_inclusive('\n'));
    let common = lines
        .by_ref()
        .take_while(|(one, other)| one == other)
        .count();
    (one != other).then_some(common + 1)
}
