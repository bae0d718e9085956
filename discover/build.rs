//! Builds the eBPF object and its skeleton, if the feature `bpf` is on.

#![allow(clippy::print_stdout, reason = "that is how Cargo is told")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "bpf")]
    bpf::build()?;
    Ok(())
}

#[cfg(feature = "bpf")]
mod bpf {
    use libbpf_cargo::SkeletonBuilder;
    use std::path::PathBuf;
    use std::process::Command;

    const SOURCE: &str = "bpf/watch.bpf.c";

    pub(crate) fn build() -> Result<(), Box<dyn std::error::Error>> {
        println!("cargo::rerun-if-changed={SOURCE}");
        if Command::new("clang").arg("--version").output().is_err() {
            return Err("clang is needed for the eBPF part (the feature `bpf`): apt-get install clang libelf-dev zlib1g-dev pkg-config".into());
        }
        let skeleton = PathBuf::from(std::env::var("OUT_DIR")?).join("watch.skel.rs");
        // The user-space headers of the build machine's architecture; nothing comes from its running kernel.
        let mut arguments = [
            "-O2",
            "-Wall",
            "-Werror",
            "-I/usr/include/x86_64-linux-gnu",
            "-D__TARGET_ARCH_x86",
        ]
        .map(str::to_owned)
        .to_vec();
        // The object's line information names no folder of the machine that builds.
        arguments.push(format!("-ffile-prefix-map={}=.", std::env::var("CARGO_MANIFEST_DIR")?));
        arguments.push(format!("-ffile-prefix-map={}=.", std::env::current_dir()?.display()));
        SkeletonBuilder::new()
            .source(SOURCE)
            .clang_args(arguments)
            .build_and_generate(&skeleton)?;
        Ok(())
    }
}
