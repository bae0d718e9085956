//! `xen-pmem-provision`: the program; what it does is in the library's `cli`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_provision::cli::main()
}
