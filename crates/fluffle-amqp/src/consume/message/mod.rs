pub(crate) mod deliveries;
pub(crate) mod received;
