//! Settings, and their reload.

mod reload;
mod settings;
