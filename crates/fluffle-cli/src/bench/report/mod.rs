//! The report of a run: text, JSON and HTML.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod text;
