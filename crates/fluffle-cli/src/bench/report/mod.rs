//! A run, for people, for programs, and for both.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod text;
