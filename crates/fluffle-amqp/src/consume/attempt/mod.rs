pub(crate) mod crash;
pub(crate) mod envelope;
