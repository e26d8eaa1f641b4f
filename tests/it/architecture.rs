//! The house rules, and what never leaves the house.

mod imports;
mod leak;
mod test_names;
mod tidy;
mod tools;
