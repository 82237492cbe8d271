//! The page around a drawing.

use std::collections::BTreeMap;

use super::story::Story;
use super::svg::{draw, escape};
use crate::plan::Plan;

/// The whole page: the drawing, what hides and finds things in it, and who sees whom at any time.
pub(super) fn write(plan: &Plan, story: &Story) -> String {
    let drawing = draw(story);
    let title = format!(
        "{} tier, seed {}, {} nodes",
        plan.tier, plan.seed, plan.nodes
    );
    let fate = match &story.violation {
        Some((_, what)) => format!("<p class=\"verdict broken\">{}</p>", escape(what)),
        None => "<p class=\"verdict\">Nothing is broken.</p>".to_owned(),
    };
    let plan_text = escape(&plan.to_string());
    let views = views(story);
    let (end, heal) = (story.until.as_secs_f64(), story.heal.as_secs_f64());
    let nodes = plan.nodes;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>{STYLE}</style></head><body>\n<header><h1>{title}</h1>{fate}{CONTROLS}</header>\n\
         <div id=\"drawing\">{drawing}</div>\n<div id=\"side\"><table id=\"matrix\"></table></div>\n\
         <details><summary>The plan</summary><pre>{plan_text}</pre></details>\n\
         <script>const run = {{ end: {end}, heal: {heal}, nodes: {nodes}, left: 0.07, views: {views} }};\n\
         {SCRIPT}</script></body></html>\n"
    )
}

/// What each node sees of each other one from when on, as JSON.
fn views(story: &Story) -> String {
    let mut all: BTreeMap<String, Vec<(f64, f64, &str)>> = BTreeMap::new();
    for bar in story.views.iter().flat_map(|row| &row.bars) {
        if let [by, about] = bar.nodes[..] {
            let span = (bar.from.as_secs_f64(), bar.until.as_secs_f64(), bar.class);
            all.entry(format!("{} {}", by.0, about.0))
                .or_default()
                .push(span);
        }
    }
    serde_json::to_string(&all).expect("numbers and words")
}

const STYLE: &str = include_str!("page.css");

const CONTROLS: &str = include_str!("controls.html");

const SCRIPT: &str = include_str!("page.js");
