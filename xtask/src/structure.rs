//! `cargo xtask lint`: which crate and module may use which. Crates stand on floors, and modules do not use each other in circles.
//!
//! `docs/architecture.md` draws what is checked here.

use crate::crates::{self, Package};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What the packages' names begin with.
const PREFIX: &str = "xen-pmem-";

/// The crates, by their folders, and those of ours that each may use.
const FLOORS: &[(&str, &[&str])] = &[
    ("format", &[]),
    ("nvdimm", &["format"]),
    ("cli", &[]),
    ("blkid", &[]),
    ("provision", &["format", "nvdimm", "cli", "blkid"]),
    ("discover", &["format", "nvdimm", "cli"]),
    ("report", &["format", "nvdimm", "cli", "discover"]),
    ("packaging", &["provision", "discover", "report"]),
    ("integration", &["format", "nvdimm", "provision", "discover", "report"]),
    ("xtask", &[]),
];

/// What crates for boot loaders and kernels have no use for.
const FORBIDDEN: &[(&str, &[&str])] = &[("format", &["clap", "serde", "serde_json", "tracing", "anyhow"])];

/// The crates that tools are made of and that leave sysfs to `nvdimm`.
const WITHOUT_SYSFS: &[&str] = &["format", "cli", "blkid", "provision", "discover", "report"];

/// A module's path in its crate; the crate itself has none.
type Module = Vec<String>;

/// Checks all crates.
///
/// # Errors
///
/// All that is not as it should be.
pub(crate) fn check() -> Result<()> {
    let packages = crates::own()?;
    let mut complaints = on_floors(&packages);
    for package in &packages {
        let folder = folder(package);
        let uses = uses_below(&workspace::root().join(folder).join("src"))?;
        if WITHOUT_SYSFS.contains(&folder) {
            let paths = uses
                .iter()
                .flat_map(|(module, uses)| uses.sysfs.iter().map(move |path| (module, path)));
            complaints.extend(paths.map(|(module, path)| {
                format!("{folder}: {} reads {path}: only nvdimm reads sysfs", module.join("::"))
            }));
        }
        complaints.extend(circles(&uses).into_iter().map(|circle| format!("{folder}: {circle}")));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("docs/architecture.md says otherwise:\n  {}", complaints.join("\n  "));
}

fn folder(package: &Package) -> &str {
    package.name.strip_prefix(PREFIX).unwrap_or(&package.name)
}

/// Returns which crates use one that they may not.
fn on_floors(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = folder(package);
        let Some((_, allowed)) = FLOORS.iter().find(|(of, _)| *of == name) else {
            complaints.push(format!("{name} has no floor: give it one in xtask/src/structure.rs"));
            continue;
        };
        let forbidden = FORBIDDEN
            .iter()
            .find(|(of, _)| *of == name)
            .map_or(&[][..], |(_, it)| it);
        for dependency in &package.dependencies {
            let ours = dependency.name.strip_prefix(PREFIX);
            let is_allowed = match ours {
                Some(ours) => allowed.contains(&ours),
                None => dependency.is_for_tests() || !forbidden.contains(&dependency.name.as_str()),
            };
            if !is_allowed {
                complaints.push(format!("{name} must not use {}", dependency.name));
            }
        }
    }
    complaints
}

/// What a module uses.
#[derive(Default)]
struct Uses {
    /// Paths into its own crate.
    paths: BTreeSet<Module>,
    /// Files of sysfs.
    sysfs: BTreeSet<String>,
}

/// Returns what the modules of a crate's folder `src` use.
fn uses_below(src: &Path) -> Result<BTreeMap<Module, Uses>> {
    let mut uses = BTreeMap::new();
    let mut folders = vec![(src.to_owned(), Module::new())];
    while let Some((folder, parent)) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let module = [parent.as_slice(), &[name]].concat();
            if path.is_dir() {
                folders.push((path, module));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_root = module == ["lib"] || module == ["main"];
                let module = if is_root { Module::new() } else { module };
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let tokens: TokenStream = text
                    .parse()
                    .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
                // A library's root and a program's are one module here.
                let found: &mut Uses = uses.entry(module.clone()).or_default();
                collect(tokens, &module, found);
            }
        }
    }
    Ok(uses)
}

/// Collects the paths that begin with `crate` or `super`, and the texts that are a path in sysfs, except those of tests.
fn collect(tokens: TokenStream, module: &[String], found: &mut Uses) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_test(after) => {
                // What the attribute stands before ends with its block, or without one.
                let end = |token: &TokenTree| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(punct) => punct.as_char() == ';',
                    _ => false,
                };
                let end = after
                    .iter()
                    .position(end)
                    .map_or(after.len(), |end| end.saturating_add(1));
                rest = after.get(end..).unwrap_or_default();
            }
            TokenTree::Ident(ident) if *ident == "crate" => path(after, Module::new(), &mut found.paths),
            TokenTree::Ident(ident) if *ident == "super" => {
                let parent = module.split_last().map_or(&[][..], |(_, parent)| parent);
                path(after, parent.to_vec(), &mut found.paths);
            }
            TokenTree::Group(group) => collect(group.stream(), module, found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let path = text.trim_matches('"');
                let is_sysfs = path.starts_with("/sys/") || path.starts_with("sys/");
                if is_sysfs && !path.contains(' ') {
                    found.sysfs.insert(path.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Returns whether these tokens go on with `[cfg(test)]`.
fn is_test(tokens: &[TokenTree]) -> bool {
    tokens
        .first()
        .is_some_and(|token| token.to_string().replace(' ', "") == "[cfg(test)]")
}

/// Follows a path behind `so_far`: `::a::b`, or `::{a, b::c}`.
fn path(tokens: &[TokenTree], mut so_far: Module, used: &mut BTreeSet<Module>) {
    let mut rest = tokens;
    while let [TokenTree::Punct(one), TokenTree::Punct(two), next, after @ ..] = rest {
        if one.as_char() != ':' || two.as_char() != ':' {
            break;
        }
        match next {
            TokenTree::Ident(ident) => so_far.push(ident.to_string()),
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inner.split(|token| token.to_string() == ",") {
                    if let [TokenTree::Ident(first), more @ ..] = part {
                        path(more, [so_far.as_slice(), &[first.to_string()]].concat(), used);
                    }
                }
                return;
            }
            _ => break,
        }
        rest = after;
    }
    used.insert(so_far);
}

/// Returns the circles among siblings: modules with the same parent, each with all modules below it. A module and those below it may use
/// each other.
fn circles(uses: &BTreeMap<Module, Uses>) -> Vec<String> {
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, used) in uses {
        for path in &used.paths {
            // What follows the module's name is an item of its.
            let to = (0..=path.len())
                .rev()
                .filter_map(|length| path.get(..length))
                .find(|prefix| uses.contains_key(*prefix));
            let common = to.map_or(0, |to| {
                from.iter().zip(to).take_while(|(one, other)| one == other).count()
            });
            let sibling = |of: &[String]| of.get(..=common).map(<[String]>::to_vec);
            if let (Some(one), Some(other)) = (sibling(from), to.and_then(sibling)) {
                edges.entry(one).or_default().insert(other);
            }
        }
    }
    // Whatever is left once all that uses nothing more has been taken away is in a circle, or uses one.
    loop {
        let using: BTreeSet<Module> = edges.keys().cloned().collect();
        for used in edges.values_mut() {
            used.retain(|module| using.contains(module));
        }
        let before = edges.len();
        edges.retain(|_, used| !used.is_empty());
        if edges.len() == before {
            break;
        }
    }
    edges
        .iter()
        .map(|(module, used)| {
            let used: Vec<String> = used.iter().map(|module| module.join("::")).collect();
            format!("{} uses {}, in a circle", module.join("::"), used.join(" and "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crates::Dependency;

    #[test]
    fn the_workspace_is_as_it_is_drawn() {
        check().unwrap();
    }

    fn crate_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        circles(&uses_below(folder.path()).unwrap())
    }

    #[test]
    fn circles_are_found_wherever_the_path_stands() {
        for text in [
            "use crate::b::X;",
            "use crate::{c::Y, b::X};",
            "fn f() { g(crate::b::x()) }",
            "fn f() { println!(\"{}\", crate::b::x()) }",
            "use super::b::X;",
            "mod inner { fn f() { crate::b::x() } }",
        ] {
            let found = crate_of(&[
                ("lib.rs", ""),
                ("a.rs", text),
                ("b.rs", "use crate::a::Z;"),
                ("c.rs", ""),
            ]);
            assert_eq!(found, ["a uses b, in a circle", "b uses a, in a circle"], "{text}");
        }
        let found = crate_of(&[
            ("lib.rs", ""),
            ("a.rs", "use crate::b::X;"),
            ("b/deep.rs", "use crate::c::X;"),
            ("b.rs", ""),
            ("c.rs", "use crate::a::X;"),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn what_is_no_circle() {
        for text in [
            "// use crate::b::X;",
            "const X: &str = \"crate::b\";",
            "#[cfg(test)] mod tests { use crate::b::X; }",
            "#[cfg(test)] use crate::b::X;",
            "mod below; use crate::a::below::X;",
        ] {
            let files = [
                ("lib.rs", "use crate::a::X;"),
                ("a.rs", text),
                ("a/below.rs", "use super::Y; use crate::a::Y;"),
                ("b.rs", "use crate::a::Z;"),
            ];
            assert_eq!(crate_of(&files), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn files_of_sysfs_are_found_and_messages_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"
            /// Reads /sys/a.
            fn f() { read("/sys/b"); join("sys/c"); println!("/sys/d is absent"); new("/sys"); }
            #[cfg(test)] mod tests { fn g() { read("/sys/e") } }
        "#;
        fs::write(folder.path().join("lib.rs"), text).unwrap();
        let uses = uses_below(folder.path()).unwrap();
        let found: Vec<&String> = uses.values().flat_map(|uses| &uses.sysfs).collect();
        assert_eq!(found, ["/sys/b", "sys/c"]);
    }

    #[test]
    fn crates_keep_to_their_floors() {
        let package = |name: &str, dependency: &str, kind: Option<&str>| Package {
            name: name.to_owned(),
            version: String::new(),
            license: None,
            links: None,
            rust_version: None,
            dependencies: vec![Dependency {
                name: dependency.to_owned(),
                kind: kind.map(str::to_owned),
            }],
        };
        for (name, dependency, kind, complains) in [
            ("xen-pmem-provision", "xen-pmem-format", None, false),
            ("xen-pmem-format", "xen-pmem-cli", None, true),
            ("xen-pmem-provision", "xen-pmem-report", None, true),
            ("xen-pmem-nvdimm", "xen-pmem-discover", Some("dev"), true),
            ("xen-pmem-format", "clap", None, true),
            ("xen-pmem-format", "serde_json", Some("dev"), false),
            ("xen-pmem-other", "libc", None, true),
        ] {
            let found = on_floors(&[package(name, dependency, kind)]);
            assert_eq!(found.is_empty(), !complains, "{name} {dependency}: {found:?}");
        }
    }
}
