//! The program `xen-pmem-provision`; the library's `cli` contains what it does.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_provision::cli::main()
}
