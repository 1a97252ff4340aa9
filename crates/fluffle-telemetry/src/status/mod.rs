//! The status page, and the small HTTP server that serves it with `/metrics`, `/live` and `/ready`.

mod actions;
mod body;
mod guard;
mod news;
pub mod page;
pub mod picture;
mod routes;
mod server;
mod settings;

/// The HTTP types of [`StatusRoutes`].
pub use hyper;

pub use self::{
    actions::Action,
    body::StatusBody,
    routes::StatusRoutes,
    server::StatusServer,
    settings::{Status, StatusError},
};
