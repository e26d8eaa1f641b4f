//! The house rules, and what never leaves the house.

mod leak;
mod tidy;
