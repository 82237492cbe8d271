//! What pictures show of a run.

use grinta_tests::{Lines, Plan, Tier};
use serde_json::Value;

const STORY: &str = "tier full
nodes 3
chaos 40s
at 6s claim n1 printer
at 8s open n0 printer messages 5 bytes 100 every 1s then finish
at 15s crash n2 for 15s
at 20s pause n1 for 500ms
at 25s loss 4% for 5s
";

#[test]
fn a_table_has_a_column_for_each_node() {
    let plan = Plan::parse(STORY).unwrap();
    let table = plan.run(Lines::Kept).table(&plan);
    let head = table.lines().next().unwrap();
    let column = |node: &str| head.find(node).unwrap();
    let line = |words: &str| {
        let found = table.lines().find(|line| line.ends_with(words));
        found.unwrap_or_else(|| panic!("`{words}` is in no line of\n{table}"))
    };
    let owns = line("owns printer");
    assert_eq!(owns.find("owns"), Some(column("n1")), "{owns}");
    let down = line("n2 down");
    assert!(
        [column("n0"), column("n1")].contains(&down.find("n2").unwrap()),
        "{down}"
    );
    let frozen = line("freezes");
    assert_eq!(frozen.find("freezes"), Some(column("n1")), "{frozen}");
    assert!(line("! crash n2").contains(" 15.000000 "));
    line("! no more crash n2");
    line("has read 5 messages: Clean");
}

#[test]
fn each_line_of_json_is_one_event() {
    let plan = Plan::parse(STORY).unwrap();
    let text = plan.run(Lines::Kept).json_lines();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| events.iter().filter(|it| it["event"] == kind).count();
    assert!(of("packet") > 500, "{}", of("packet"));
    let lost = |it: &&Value| it["event"] == "packet" && it["arrives_ns"].is_null();
    assert!(events.iter().any(|it| lost(&it)));
    assert_eq!((of("fault_begins"), of("fault_ends")), (3, 3));
    assert!(events.is_sorted_by_key(|it| it["at_ns"].as_u64()));
    let owns = events.iter().find(|it| it["standing"] == "owner").unwrap();
    assert_eq!(
        (&owns["node"], &owns["name"]),
        (&"n1".into(), &"printer".into())
    );
}

#[test]
fn a_page_loads_nothing_and_shows_all_lanes() {
    let plan = Plan::parse(STORY).unwrap();
    let outcome = plan.run(Lines::Kept);
    let (page, drawing) = (outcome.html(&plan), outcome.svg(&plan));
    assert!(page.contains(&drawing));
    let links = page.matches("http").count();
    assert_eq!(
        links,
        page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
    );
    for shown in [
        ">n0</text>",
        ">n2</text>",
        ">n0 sees n2</text>",
        ">printer n1</text>",
        ">crash n2</text>",
        "class=\"item down\"",
        "class=\"frozen\"",
        "class=\"ended\"",
        "class=\"item lost\"",
    ] {
        assert!(drawing.contains(shown), "{shown}");
    }
    assert_balanced(&drawing);
}

/// What is broken is told in the picture, and no letter of it is taken for a tag.
#[test]
fn a_picture_shows_what_is_broken() {
    let mut plan = Plan::of_seed(Tier::Control, 3);
    plan.link.loss = 1_000_000;
    let outcome = plan.run(Lines::Kept);
    let violation = outcome.violation.clone().unwrap().to_string();
    let drawing = outcome.svg(&plan);
    assert!(drawing.contains("class=\"violation\""));
    assert!(
        drawing.contains(&violation.replace('<', "&lt;")),
        "{violation}"
    );
    assert!(outcome.table(&plan).ends_with(&format!("{violation}\n")));
    assert_balanced(&drawing);
}

/// Every element that begins ends.
fn assert_balanced(drawing: &str) {
    for tag in [
        "svg", "g", "text", "title", "rect", "circle", "path", "line", "style",
    ] {
        let begun = drawing.matches(&format!("<{tag} ")).count()
            + drawing.matches(&format!("<{tag}>")).count();
        let closed = drawing.matches(&format!("</{tag}>")).count();
        let alone = drawing
            .split(&format!("<{tag} "))
            .skip(1)
            .filter(|rest| {
                rest.split_once('>')
                    .is_some_and(|(head, _)| head.ends_with('/'))
            })
            .count();
        assert_eq!(begun, closed + alone, "{tag}");
    }
}
