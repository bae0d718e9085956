//! `xen-pmem-report`: the program; what it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_report::cli::main()
}
