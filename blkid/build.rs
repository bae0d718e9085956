//! Links libblkid: the shared library, or the archive where the C library is static, too.

#![allow(clippy::print_stdout, reason = "that is how Cargo is told")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_static = std::env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"));
    // pkg-config's crate never links what lies below /usr statically, so only the folder comes from it.
    match pkg_config::get_variable("blkid", "libdir") {
        Ok(folder) => println!("cargo::rustc-link-search=native={folder}"),
        Err(error) => println!("cargo::error=libblkid is missing (Debian: libblkid-dev, pkg-config): {error}"),
    }
    let kind = if is_static { "static" } else { "dylib" };
    println!("cargo::rustc-link-lib={kind}=blkid");
}
