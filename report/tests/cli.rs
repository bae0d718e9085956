//! The program as an operator runs it, on a machine that is not a Xen host. The scenarios of `integration` run it under real Xen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

use assert_cmd::Command;
use serde_json::{Value, json};

fn report() -> Command {
    Command::cargo_bin("xen-pmem-report").unwrap()
}

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;

fn device(name: &str, base: u64, uuid: &str) -> Value {
    json!({
        "device": name, "state": "prepared", "uuid": uuid, "mode": "raw",
        "region": {"base": base, "size": 512 * MIB},
        "namespace": {"base": base, "size": 512 * MIB},
        "device_range": {"base": base, "size": 512 * MIB},
        "numa_node": 0,
        "reserved": {"base": base + 2 * MIB, "size": 6 * MIB},
        "partitions": [{"number": 1, "base": base + 8 * MIB, "size": 500 * MIB}],
        "reason": null,
    })
}

const ONE: &str = "11111111-2222-4333-8444-555555555555";
const OTHER: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

/// Returns a dry run on a scan document that is handed in on standard input: what is decided, and the exit code.
fn decided(devices: Value) -> (Value, i32) {
    let scan = json!({"schema": 1, "devices": devices});
    let output = report()
        .args(["apply", "--from", "-", "--dry-run", "--json"])
        .write_stdin(scan.to_string())
        .output()
        .unwrap();
    (
        serde_json::from_slice(&output.stdout).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn off_xen_nothing_is_reported_and_the_reason_is_said() {
    for arguments in [
        &["apply", "--all"][..],
        &["apply", "/dev/pmem0"],
        &["apply", "--all", "--dry-run"],
        &["apply", "--all", "--early", "--bind"],
        &["apply", "/dev/pmem0", "--rebind"],
        &["status"],
        &["withdraw", "--all"],
        &["withdraw", ONE],
    ] {
        let failed = report().args(arguments).assert().code(6);
        let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(said.contains("not a Xen host"), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(failed.get_output().stdout.is_empty());
    }
}

#[test]
fn a_wrong_command_line_is_usage() {
    for arguments in [
        &["apply"][..],
        &["apply", "--all", "/dev/pmem0"],
        &["apply", "--all", "--from", "-"],
        &["apply", "--all", "--sink", "printer"],
        &["apply", "--early"],
        &["apply", "--all", "--bind"],
        &["apply", "--all", "--early", "--rebind"],
        &["apply", "--from", "-", "--early"],
        &["apply", "--from", "-", "--rebind"],
        &["withdraw"],
        &["withdraw", "--all", ONE],
        &["report"],
        &[],
    ] {
        report().args(arguments).assert().code(2);
    }
}

#[test]
fn a_dry_run_on_a_document_says_what_would_be_reported() {
    let (document, code) = decided(json!([
        device("/dev/pmem0", BASE, ONE),
        device("/dev/pmem1", 2 * BASE, OTHER)
    ]));
    assert_eq!(code, 0);
    let reported = |name: &str, uuid: &str| json!({"device": name, "uuid": uuid, "sinks": [], "refused": null});
    let expected =
        json!({"schema": 1, "dry_run": true, "devices": [reported("/dev/pmem0", ONE), reported("/dev/pmem1", OTHER)]});
    assert_eq!(document, expected);
}

#[test]
fn what_is_in_doubt_has_its_exit_code() {
    let with = |key: &str, value: Value| {
        let mut device = device("/dev/pmem0", BASE, ONE);
        device[key] = value;
        json!([device])
    };
    for (devices, code, words) in [
        (json!([]), 4, None),
        (with("state", json!("unprepared")), 4, Some("it is unprepared")),
        (with("state", json!("unsupported")), 4, Some("it is unsupported")),
        (with("state", json!("damaged")), 5, Some("it is damaged")),
        (
            with("reserved", json!({"base": BASE, "size": MIB})),
            3,
            Some("superpages"),
        ),
        (
            with("reserved", json!({"base": BASE + 8 * MIB, "size": 6 * MIB})),
            3,
            Some("partition 1 overlaps"),
        ),
        (
            with("namespace", json!({"base": BASE, "size": MIB})),
            3,
            Some("does not lie within"),
        ),
        (
            json!([device("/dev/pmem0", BASE, ONE), device("/dev/pmem1", 2 * BASE, ONE)]),
            3,
            Some("same reservation UUID"),
        ),
        (
            json!([
                device("/dev/pmem0", BASE, ONE),
                device("/dev/pmem1", BASE + 256 * MIB, OTHER)
            ]),
            3,
            Some("overlaps that of"),
        ),
    ] {
        let (document, found) = decided(devices);
        assert_eq!(found, code, "{document}");
        let refused = document["devices"][0]["refused"].as_str();
        assert_eq!(refused.is_some(), words.is_some());
        assert!(
            refused.unwrap_or_default().contains(words.unwrap_or_default()),
            "{document}"
        );
    }
}

#[test]
fn what_is_no_scan_document_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        r#"{"schema":2,"devices":[]}"#,
        r#"{"schema":1,"devices":[{"device":"x"}]}"#,
    ] {
        let failed = report()
            .args(["apply", "--from", "-", "--dry-run"])
            .write_stdin(text)
            .assert()
            .code(2);
        let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(said.starts_with("xen-pmem-report: standard input: "), "{said}");
    }
    report()
        .args(["apply", "--from", "/nonexistent", "--dry-run"])
        .assert()
        .code(1);
}

#[test]
fn a_full_standard_error_or_output_is_no_reason_to_panic() {
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-report");
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(arguments).stdin(std::process::Stdio::null());
        command
    };
    for (arguments, code) in [
        (&["-vvv", "apply", "--all"][..], 6),
        (&["-vvv", "apply", "--from", "/dev/no-such-file", "--dry-run"], 1),
        (&["-vvv", "status"], 6),
        (&["-vvv", "withdraw", "--all"], 6),
        (&["-vvv", "watch"], 6),
        (&["apply"], 2),
    ] {
        let output = run(arguments).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
    // A failure of standard output is reported.
    let scan = tempfile::NamedTempFile::new().unwrap();
    let document = json!({"schema": 1, "devices": [device("/dev/pmem0", BASE, ONE)]});
    std::fs::write(scan.path(), document.to_string()).unwrap();
    let from = scan.path().to_str().unwrap();
    for format in [&["--json"][..], &[]] {
        let mut command = run(&["apply", "--from", from, "--dry-run"]);
        let output = command.args(format).stdout(full()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    }
    for arguments in [&["doctor"][..], &["--help"], &["--version"]] {
        let output = run(arguments).stdout(full()).output().unwrap();
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 101), "{arguments:?}: {output:?}");
    }
}
