//! What is shipped beside the program is true: README.md, the manual, deploy files, the page of 2016.

pub mod commands;
mod deploy;
mod links;
pub mod page;
pub mod pages;
mod tables;
