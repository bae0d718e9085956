//! The program `xen-pmem-discover`; the library's `cli` contains what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_discover::cli::main()
}
