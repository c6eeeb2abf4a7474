//! No two files of a crate import one another, directly or through others.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, ItemUse, UseTree};

use super::tidy::{check, read, sources};

/// Where the modules of a crate or program begin.
const ROOTS: [&str; 6] = [
    "proxy/src/bin/headgate/",
    "protocol/transport/src/",
    "protocol/src/",
    "migrator/src/",
    "proxy/src/",
    "bench/src/",
];

/// Files that do import one another, as `a.rs b.rs` below their root, each with the reason.
const EXCUSED: &[(&str, &str)] = &[
    (
        "config.rs config/keys.rs config/kinds.rs config/reader.rs config/section.rs config/sections.rs tls.rs",
        "the table of keys says how each is read, and the reader asks the table which keys there are",
    ),
    (
        "mysql/follow/batch.rs mysql/follow/batch/distributed.rs",
        "one type, whose methods for distributed transactions stand apart",
    ),
    (
        "mysql/wire.rs mysql/wire/chosen.rs mysql/wire/own.rs",
        "one type, whose methods for commands of Headgate's own stand apart",
    ),
];

/// A module's path below its crate, such as `mysql`, `fence`, `mark`.
type Module = Vec<String>;

/// What one file names.
#[derive(Default)]
struct Names {
    /// The paths of its `use` items, each with the name that it gives, and whether others may use that.
    uses: Vec<(Vec<String>, String, bool)>,
    /// Every other path of more than one segment.
    paths: Vec<Vec<String>>,
    /// The modules that it declares in files of their own.
    children: BTreeSet<String>,
}

impl Names {
    fn of(text: &str) -> Self {
        let mut names = Self::default();
        names.visit_file(&syn::parse_file(text).expect("it compiles"));
        names
    }

    fn add(&mut self, before: &[String], tree: &UseTree, open: bool) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add(&with(&path.ident), &path.tree, open),
            UseTree::Group(group) => group.items.iter().for_each(|one| self.add(before, one, open)),
            UseTree::Name(name) if name.ident == "self" => {
                let given = before.last().cloned().unwrap_or_default();
                self.uses.push((before.to_vec(), given, open));
            }
            UseTree::Name(name) => self.uses.push((with(&name.ident), name.ident.to_string(), open)),
            UseTree::Rename(name) => self.uses.push((with(&name.ident), name.rename.to_string(), open)),
            UseTree::Glob(_) => self.uses.push((before.to_vec(), String::new(), open)),
        }
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        if let Item::Mod(module) = item {
            let is_test = |attribute: &syn::Attribute| {
                attribute.path().is_ident("cfg")
                    && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
            };
            if module.attrs.iter().any(is_test) {
                return;
            }
            if module.content.is_none() {
                self.children.insert(module.ident.to_string());
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.add(&[], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// One crate's files by their modules, and what they name.
struct House {
    files: BTreeMap<Module, (String, Names)>,
}

impl House {
    fn below(root: &str) -> Self {
        let inner: Vec<&str> = ROOTS.into_iter().filter(|other| *other != root && other.starts_with(root)).collect();
        let ours = sources().into_iter().filter(|file| !inner.iter().any(|other| file.starts_with(other)));
        let files = ours.filter_map(|file| {
            let path = file.strip_prefix(root)?.strip_suffix(".rs")?;
            let mut module: Module = path.split('/').map(str::to_owned).collect();
            if module.last().is_some_and(|last| last == "tests") {
                return None;
            }
            if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                module.pop();
            }
            let names = Names::of(&read(&file));
            Some((module, (path.to_owned(), names)))
        });
        Self { files: files.collect() }
    }

    /// A path below the crate, from where `from` stands; nothing for another crate's.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Vec<String>> {
        let (_, names) = self.files.get(from)?;
        let mut rest = path;
        let mut at = match rest.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.clone(),
            child if names.children.contains(child) => return Some([from.as_slice(), path].concat()),
            name => {
                let (used, ..) =
                    names.uses.iter().find(|(used, given, _)| given == name && used.first() != Some(given))?;
                return self.absolute(from, &[used.as_slice(), path.get(1..)?].concat());
            }
        };
        if rest.first()? != "super" {
            rest = rest.get(1..)?;
        }
        while rest.first().is_some_and(|first| first == "super") {
            at.pop()?;
            rest = rest.get(1..)?;
        }
        at.extend(rest.iter().cloned());
        Some(at)
    }

    /// The module that defines what an absolute path leads to, through whatever hands it on.
    fn home(&self, path: &[String], hops: usize) -> Option<Module> {
        let at = (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(at);
        let module = module.to_vec();
        let (_, names) = self.files.get(&module)?;
        if let Some(name) = rest.first()
            && hops > 0
            && let Some((used, ..)) = names.uses.iter().find(|(_, given, open)| *open && given == name)
            && let Some(further) = self.absolute(&module, used)
        {
            return self.home(&[further.as_slice(), &rest[1..]].concat(), hops - 1);
        }
        Some(module)
    }

    /// Which files each file takes something from. To hand on what a part of its own defines is no use of it.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let arrows = self.files.iter().map(|(module, (_, names))| {
            let used = names.uses.iter().map(|(path, given, open)| (path, *open && !given.is_empty()));
            let named = names.paths.iter().map(|path| (path, false));
            let to = used.chain(named).filter_map(|(path, handed_on)| {
                let absolute = self.absolute(module, path)?;
                let home = self.home(&absolute, 8)?;
                let own_part = home.len() > module.len() && home.starts_with(module);
                let nothing = home == *module || home.is_empty() || own_part && handed_on;
                // To name a module above is no use of what stands in its file.
                let only_named = home == absolute && module.starts_with(&home);
                (!nothing && !only_named).then_some(home)
            });
            (module, to.collect())
        });
        arrows.collect()
    }

    /// Every file that is reached from itself, with those it shares that with.
    fn circles(&self) -> BTreeSet<String> {
        let arrows = self.arrows();
        let reached = |from: &Module| {
            let mut seen: BTreeSet<Module> = BTreeSet::new();
            let mut next: Vec<Module> = arrows.get(from).into_iter().flatten().cloned().collect();
            while let Some(one) = next.pop() {
                if seen.insert(one.clone()) {
                    next.extend(arrows.get(&one).into_iter().flatten().cloned());
                }
            }
            seen
        };
        let all: BTreeMap<&Module, BTreeSet<Module>> = arrows.keys().map(|module| (*module, reached(module))).collect();
        let circle = |module: &&Module| {
            let around =
                all.iter().filter(|(other, theirs)| theirs.contains(*module) && all[*module].contains(**other));
            let paths: Vec<String> = around.map(|(other, _)| format!("{}.rs", self.files[*other].0)).collect();
            paths.join(" ")
        };
        all.keys().filter(|module| all[**module].contains(**module)).map(circle).collect()
    }
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let excused: BTreeSet<&str> = EXCUSED.iter().map(|(files, _)| *files).collect();
    let found: BTreeSet<String> = ROOTS.iter().flat_map(|root| House::below(root).circles()).collect();
    check(
        "files that import one another, and nothing says why",
        found.iter().filter(|circle| !excused.contains(circle.as_str())).cloned(),
    );
    check("excused, and no circle", excused.into_iter().filter(|files| !found.contains(*files)).map(str::to_owned));
}
