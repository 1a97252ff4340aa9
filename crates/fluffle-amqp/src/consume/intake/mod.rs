pub(crate) mod seen;
