//! `xen-pmem-discover`: the program; what it does is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_pmem_discover::cli::main()
}
