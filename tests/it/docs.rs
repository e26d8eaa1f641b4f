//! What is shipped beside the program is true: README, deploy files, the page of 2016.

mod deploy;
pub mod page;
pub mod readme;
