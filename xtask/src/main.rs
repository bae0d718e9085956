//! Build and test driver of the workspace.

fn main() {}
