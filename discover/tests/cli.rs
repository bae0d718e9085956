//! The program as an operator runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

use assert_cmd::Command;
use std::fs::File;
use std::time::Duration;

/// Returns what the program says on standard error when it ends with this code.
fn said(code: i32, arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("xen-pmem-discover").unwrap();
    let assert = command
        .args(arguments)
        .timeout(Duration::from_secs(60))
        .assert()
        .code(code);
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

#[test]
fn what_would_be_waited_for_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let fifo = fifo.to_str().unwrap();
    let words = said(2, &["scan", "--image", fifo, "--base", "4G"]);
    assert!(words.contains("is not an image file"), "{words}");
}

#[test]
fn advice_is_for_what_it_helps_against() {
    let words = said(1, &["scan", "--early", "--mem", "/no/such/memory"]);
    assert!(words.contains("No such file") && !words.contains("root"), "{words}");
}

#[cfg(feature = "bpf")]
#[test]
fn a_device_that_is_not_there_is_not_guarded() {
    for device in ["/dev/no-such-device", "no-such-device"] {
        let words = said(1, &["guard", device]);
        assert!(words.contains("there is no such device"), "{words}");
        assert_eq!(words, said(1, &["scan", device]), "as of other commands");
    }
}

#[test]
fn each_exit_code_that_there_is_stands_in_the_help() {
    for (arguments, codes) in [
        (&["--help"][..], "0 1 2 4 5 6"),
        (&["scan", "--help"], "0 1 2 4 5"),
        (&["guard", "--help"], "0 1 2 6"),
        (&["monitor", "--help"], "0 1 2 6"),
    ] {
        let mut command = Command::cargo_bin("xen-pmem-discover").unwrap();
        let help = command.args(arguments).output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        let (_, listed) = help.split_once("Exit codes:\n").unwrap();
        let listed: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(listed.join(" "), codes, "{arguments:?}");
    }
}

#[test]
fn a_full_or_closed_standard_error_is_no_reason_to_panic() {
    for arguments in [
        &["-vvv", "scan", "/dev/no-such-device"][..],
        &["-vvv", "scan", "--early", "--mem", "/none"],
    ] {
        let program = assert_cmd::cargo::cargo_bin("xen-pmem-discover");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = std::process::Command::new(program)
            .args(arguments)
            .stderr(full)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
}
