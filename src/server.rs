//! The local endpoint. A request passes `accept`, `handler`, `route`, `guard`, then its handler; an answer comes back as
//! a value.

mod accept;
mod body;
mod config;
mod connections;
mod context;
mod git_credential;
mod github_api;
mod guard;
mod handler;
mod listen;
mod memory;
mod ops;
mod reject;
mod reply;
mod request_id;
mod route;
mod scrape;
mod slots;
mod stream;
mod token;
mod token_service;
mod unix_socket;
mod webhook;

pub use accept::Listeners;
pub use config::{ServedApp, ServerConfig};
pub use guard::Guard;
pub use handler::Server;
pub use listen::{BindError, bind_tcp};
pub use token::render;
pub use unix_socket::UnixSocket;
