//! A build without eBPF says what it lacks.

#![cfg(not(feature = "bpf"))]
#![allow(clippy::unwrap_used, reason = "a test states what it expects by panicking")]

use assert_cmd::Command;

#[test]
fn what_takes_ebpf_says_that_it_is_not_there() {
    let mut command = Command::cargo_bin("xen-pmem-report").unwrap();
    let failed = command.args(["watch", "--source", "bpf"]).assert().code(6);
    let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
    assert!(said.contains("without eBPF support"), "{said}");
}
