//! The program `xen-pmem-report`; the library's `cli` contains what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_report::cli::main()
}
