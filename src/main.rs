//! The program `ghtokend`.

fn main() {}
