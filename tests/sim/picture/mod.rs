//! Pictures of a run.
//!
//! [`story`] folds the scenes of a run into bars over time, [`svg`] draws them, and [`page`] puts the
//! drawing into a page in which a reader can zoom, hide and filter. Nothing is loaded from elsewhere.

mod page;
mod story;
mod svg;

use self::story::Story;
use crate::plan::Plan;
use crate::verdict::Outcome;

impl Outcome {
    /// The run as a drawing: faults as bands, a lane for each node, what is sent between them, the
    /// lives of claims and flows, and who sees whom. Of a run whose details were kept.
    #[must_use]
    pub fn svg(&self, plan: &Plan) -> String {
        svg::draw(&Story::new(plan, self))
    }

    /// The run as one self-contained page: the drawing, a filter, and who sees whom at any time.
    #[must_use]
    pub fn html(&self, plan: &Plan) -> String {
        page::write(plan, &Story::new(plan, self))
    }
}
