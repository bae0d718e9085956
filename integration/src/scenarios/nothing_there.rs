//! stub

use crate::manifest::Manifest;
use anyhow::Result;
use std::path::Path;

pub(super) fn run(manifest: &Manifest, folder: &Path) -> Result<()> {
    let _ = (manifest, folder);
    anyhow::bail!("not written")
}
