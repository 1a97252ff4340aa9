//! The status page, and the small HTTP server that serves it with `/metrics`, `/live` and `/ready`.

mod accept;
mod actions;
mod answer;
mod body;
mod connection;
mod error;
mod guard;
mod login;
mod news;
mod paced;
pub mod page;
pub mod picture;
mod places;
mod routes;
mod server;
mod settings;

/// The HTTP types of [`StatusRoutes`].
pub use hyper;

pub use self::{
    actions::Action, body::StatusBody, error::StatusError, routes::StatusRoutes, server::StatusServer, settings::Status,
};
