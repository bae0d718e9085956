//! `cargo xtask xen --each`: the series patch by patch, each built, booted, and asked for its operations.
//!
//! A search for a fault between two versions of Xen may end at each of these hypervisors. So each has to build and to boot, and none may
//! have the operations without their protection.
//!
//! Two more configurations are only compiled: one with Flask and its policy, one without the feature.
//!
//! The result for a patch stays valid as long as its inputs are the same. The tree goes from patch to patch, so that each build compiles
//! only what its patch changes. Each configuration has its own tree.

use crate::host::{self, Need};
use crate::progress::step;
use crate::xen::source::Source;
use crate::xen::tree::{self, Configuration, Tree};
use crate::{command, e2e, workspace};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scenario that asks a hypervisor for the operations, and that takes a hypervisor without them, too.
const SCENARIO: &str = "xen-operations@patched";
/// What the scenario's verdict depends on, beside the hypervisor.
const TESTS: [&str; 4] = [
    "integration/src/scenarios/xen_operations.rs",
    "xen/include/xen-pmem.h",
    "xen/tests/hypercalls.h",
    "xen/tests/pmemctl.c",
];

/// What the configurations that are only compiled take, beside what building takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "checkpolicy",
        package: "checkpolicy",
    },
    Need {
        program: "m4",
        package: "m4",
    },
];

/// A configuration that is compiled, and not booted.
struct Compiled {
    name: &'static str,
    options: &'static [&'static str],
}

/// The configurations that each patch must compile with, beside the one that boots.
const COMPILED: [Compiled; 2] = [
    Compiled {
        name: "flask",
        options: tree::FLASK,
    },
    Compiled {
        name: "off",
        options: tree::OFF,
    },
];

/// Builds and boots the hypervisor after each of the patches, in order.
pub(super) fn run(release: &str, source: &Source, patches: &[PathBuf], debug: bool) -> Result<()> {
    host::install(NEEDS)?;
    let folder = workspace::target()
        .join("xen")
        .join(release)
        .join(if debug { "each-debug" } else { "each" });
    let mut walk = Walk::new(source, &folder)?;
    // Assertions are the same in each of them: once is enough.
    let mut compiled = COMPILED
        .iter()
        .filter(|_| !debug)
        .map(|configuration| Ok((configuration, Walk::new(source, &folder.join(configuration.name))?)))
        .collect::<Result<Vec<_>>>()?;
    let texts = patches
        .iter()
        .map(|patch| {
            let text = fs::read_to_string(patch).with_context(|| format!("cannot read {}", patch.display()))?;
            // How many patches follow makes no difference.
            Ok(without_number(&text))
        })
        .collect::<Result<Vec<_>>>()?;
    let tests = TESTS
        .iter()
        .map(|file| fs::read_to_string(workspace::root().join(file)).with_context(|| format!("cannot read {file}")))
        .collect::<Result<Vec<_>>>()?;

    let runner = e2e::runner("scenarios")?;
    let machines = e2e::set_up(crate::xen::SUITE, false, "", None)?;
    for count in 1..=patches.len() {
        let (done, texts) = (&patches[..count], &texts[..count]);
        let name = subject(done);
        let stamp = stamp(source, texts, debug);
        let place = folder.join(format!("{count:02}"));
        let hypervisor = place.join("xen");
        let whole = count == patches.len();
        if !says(&place.join("built"), &stamp) || !hypervisor.is_file() {
            step(&format!("{count} of {}: {name}", patches.len()));
            workspace::discard(&place)?;
            fs::create_dir_all(&place)?;
            walk.bring_to(done, texts)?;
            let configuration = Configuration {
                debug,
                options: tree::ON,
                whole,
            };
            let made = walk
                .tree
                .make(configuration, &place.join("build.log"))
                .with_context(|| format!("patch {count}, {name}, does not build"))?;
            fs::copy(made, &hypervisor).context("the build made no hypervisor")?;
            fs::write(place.join("built"), &stamp)?;
        }
        let booted = format!("{stamp}{:016x}\n", hash(&tests));
        if !says(&place.join("booted"), &booted) {
            step(&format!("{count} of {}: booting {name}", patches.len()));
            boot(&runner, &machines.manifest, &hypervisor, &place)
                .with_context(|| format!("patch {count}, {name}, does not boot, or its operations fail"))?;
            fs::write(place.join("booted"), &booted)?;
        }
        for (Compiled { name: kind, options }, walk) in &mut compiled {
            let stamp = format!("{stamp}{}\n", options.join("\n"));
            let stamp_file = place.join(format!("built-{kind}"));
            if says(&stamp_file, &stamp) {
                continue;
            }
            step(&format!("{count} of {}, configuration `{kind}`: {name}", patches.len()));
            walk.bring_to(done, texts)?;
            let configuration = Configuration { debug, options, whole };
            walk.tree
                .make(configuration, &place.join(format!("build-{kind}.log")))
                .with_context(|| format!("patch {count}, {name}, does not build with {}", options.join(", ")))?;
            fs::write(&stamp_file, &stamp)?;
            println!("{count:02} {name}: builds with configuration `{kind}`");
        }
        println!("{count:02} {name}: builds, boots, operations as they should be");
    }
    Ok(())
}

/// The tree on its way from patch to patch.
struct Walk<'a> {
    source: &'a Source,
    tree: Tree,
    /// The file that says which patches the tree has.
    applied: PathBuf,
    folder: PathBuf,
}

impl<'a> Walk<'a> {
    /// Begins, or goes on where the last one in this folder ended.
    fn new(source: &'a Source, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            source,
            tree: Tree::at(&folder.join("tree")),
            applied: folder.join("applied"),
            folder: folder.to_owned(),
        })
    }

    /// Brings the tree to where exactly these patches are applied.
    fn bring_to(&mut self, patches: &[PathBuf], texts: &[String]) -> Result<()> {
        let hashes: Vec<String> = texts.iter().map(|text| format!("{:016x}", hash(text))).collect();
        let applied = fs::read_to_string(&self.applied).unwrap_or_default();
        let mut applied: Vec<String> = applied.lines().map(str::to_owned).collect();
        let base = self.source.name();
        let on_the_way = applied.first().is_some_and(|first| *first == base)
            && hashes.starts_with(applied.get(1..).unwrap_or_default());
        if !on_the_way {
            // Without it, a tree that is half unpacked is unpacked anew.
            match fs::remove_file(&self.applied) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            workspace::discard(&self.folder.join("tree"))?;
            self.tree.unpack(self.source)?;
            self.tree.commit()?;
            applied = vec![base];
        }
        for (patch, hash) in patches.iter().zip(&hashes).skip(applied.len().saturating_sub(1)) {
            self.tree
                .am(patch)
                .with_context(|| format!("{} does not apply", patch.display()))?;
            applied.push(hash.clone());
            fs::write(&self.applied, applied.join("\n"))?;
        }
        Ok(())
    }
}

/// Runs the scenario on a hypervisor.
fn boot(runner: &Path, manifest: &Path, hypervisor: &Path, place: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let mut document: Value = serde_json::from_str(&text)?;
    document["xen_patched"] = hypervisor.to_string_lossy().into();
    let own = place.join("manifest.json");
    fs::write(&own, serde_json::to_string_pretty(&document)?)?;
    command::run(
        Command::new(runner)
            .env(e2e::MANIFEST, &own)
            .args(["--boot", "--test-threads", "1", SCENARIO]),
    )
}

/// Returns what the last of these patches is called.
fn subject(patches: &[PathBuf]) -> String {
    let name = patches.last().and_then(|patch| patch.file_stem());
    name.unwrap_or_default().to_string_lossy().into_owned()
}

fn says(file: &Path, stamp: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text == stamp)
}

fn stamp(source: &Source, texts: &[String], debug: bool) -> String {
    format!("{}\ndebug={debug}\n{:016x}\n", source.name(), hash(texts))
}

/// Returns a patch's text without its number in the series, `[PATCH v1 n/m]`.
fn without_number(text: &str) -> String {
    let Some((before, after)) = text.split_once("Subject: [PATCH") else {
        return text.to_owned();
    };
    let after = after.split_once(']').map_or(after, |(_, after)| after);
    format!("{before}Subject:{after}")
}

fn hash<T: std::hash::Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
