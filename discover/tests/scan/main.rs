//! The program on synthetic sysfs trees: every mode, every state, trees that are broken, devices that are misnamed.

#![cfg(test)]

mod broken;
mod early;
mod images;
mod modes;
mod nesting;
mod recorded;
mod requests;
mod states;
mod support;
