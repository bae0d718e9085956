//! Finds prepared persistent memory and its physical addresses, from stable user-space interfaces alone.

pub mod document;
