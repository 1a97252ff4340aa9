//! Carries out verdicts: publishes copies and answers, writes acks.

pub(crate) mod acker;
pub(crate) mod acks;
pub(crate) mod commands;
pub(crate) mod copies;
pub(crate) mod copy;
pub(crate) mod failure_lines;
pub(crate) mod reader;
pub(crate) mod settlements;
pub(crate) mod settler;
pub(crate) mod settling;
