//! Which file imports which. No circle: what is below can be read, tested and moved without what is above it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, ImplItemFn, Item, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility};

use super::tidy::sources;

/// A path such as `crate::broker::cache::TokenCache`, without the `crate`.
type ModulePath = Vec<String>;

/// What a file says of others, outside its tests.
#[derive(Default)]
struct Imports {
    module: ModulePath,
    /// Child modules in files of their own.
    children: BTreeSet<String>,
    /// What a name stands for here.
    names: BTreeMap<String, ModulePath>,
    /// Every path of this crate that the code names; not what it only passes on with `pub use`.
    paths: Vec<ModulePath>,
}

impl Imports {
    fn of(module: ModulePath, file: &File) -> Self {
        let children = file.items.iter().filter_map(|item| match item {
            Item::Mod(ItemMod { content: None, ident, .. }) => Some(ident.to_string()),
            _ => None,
        });
        let mut imports = Self { children: children.collect(), module, ..Self::default() };
        imports.visit_file(file);
        imports
    }

    /// From the crate's root, if it leads into this crate.
    fn absolute(&self, segments: &[String]) -> Option<ModulePath> {
        let (first, rest) = segments.split_first()?;
        let mut base = match first.as_str() {
            "crate" | "ghtokend" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module.split_last()?.1.to_vec(),
            child if self.children.contains(child) => [&self.module[..], &segments[..1]].concat(),
            _ => return None,
        };
        let ups = rest.iter().take_while(|segment| *segment == "super").count();
        base.truncate(base.len().checked_sub(ups)?);
        base.extend_from_slice(&rest[ups..]);
        Some(base)
    }

    fn note(&mut self, segments: &[String]) {
        self.paths.extend(self.absolute(segments));
    }

    fn note_use(&mut self, tree: &UseTree, mut prefix: Vec<String>, passed_on: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.note_use(&path.tree, prefix, passed_on);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, prefix.clone(), passed_on));
            }
            UseTree::Name(name) => self.bind(prefix, name.ident.to_string(), None, passed_on),
            UseTree::Rename(name) => {
                self.bind(prefix, name.ident.to_string(), Some(name.rename.to_string()), passed_on);
            }
            UseTree::Glob(_) if !passed_on => self.note(&prefix),
            _ => {}
        }
    }

    fn bind(&mut self, mut path: Vec<String>, name: String, renamed: Option<String>, passed_on: bool) {
        let known_as = match (&renamed, name.as_str()) {
            (Some(renamed), _) => renamed.clone(),
            (None, "self") => path.last().cloned().unwrap_or_default(),
            (None, name) => name.to_owned(),
        };
        if name != "self" || path.is_empty() {
            path.push(name);
        }
        if let Some(path) = self.absolute(&path) {
            self.names.insert(known_as, path.clone());
            if !passed_on {
                self.paths.push(path);
            }
        }
    }

    /// Macros are not parsed: every `a::b::c` in them is taken for a path.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() && colons < 2 => {
                    colons += 1;
                    continue;
                }
                _ => {}
            }
            self.note(&std::mem::take(&mut path));
            colons = 0;
            match token {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                _ => {}
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            let passed_on = !matches!(item.vis, Visibility::Inherited);
            self.note_use(&item.tree, Vec::new(), passed_on);
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.note_tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

/// `src/broker/cache.rs` is `broker::cache`.
fn module_of(path: &str) -> ModulePath {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// From each file to those that it imports.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeMap<ModulePath, (String, Imports)> = sources()
        .into_iter()
        .map(|source| {
            let module = module_of(&source.path);
            let file =
                syn::parse_file(&source.code).unwrap_or_else(|error| panic!("{}: {error}", source.path));
            let imports = Imports::of(module.clone(), &file);
            (module, (source.path, imports))
        })
        .collect();
    let targets = |(path, imports): &(String, Imports)| {
        let found = imports.paths.iter().filter_map(|named| file_of(&files, named));
        found.filter(|target| target != path && target != "src/lib.rs").collect()
    };
    files.values().map(|file| (file.0.clone(), targets(file))).collect()
}

/// The file that defines what `path` names: re-exports are followed.
fn file_of(files: &BTreeMap<ModulePath, (String, Imports)>, path: &[String]) -> Option<String> {
    let mut path = path.to_vec();
    for _ in 0..8 {
        let depth = (0..=path.len()).rev().find(|depth| files.contains_key(&path[..*depth]))?;
        let (file, imports) = &files[&path[..depth]];
        match path.get(depth).and_then(|name| imports.names.get(name)) {
            Some(elsewhere) => path = [&elsewhere[..], &path[depth + 1..]].concat(),
            None => return Some(file.clone()),
        }
    }
    None
}

/// A way from `start` back to it, if there is one.
fn circle<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, start: &'a str) -> Option<Vec<&'a str>> {
    let (mut seen, mut ways) = (BTreeSet::new(), vec![vec![start]]);
    while let Some(way) = ways.pop() {
        for next in way.last().and_then(|last| graph.get(*last)).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push([&way[..], &[next.as_str()]].concat());
            }
        }
    }
    None
}

#[test]
fn imports_have_no_circle() {
    let graph = graph();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 300, "the imports were not found: {graph:#?}");
    let circles: Vec<_> = graph.keys().filter_map(|file| circle(&graph, file)).collect();
    assert!(circles.is_empty(), "{} files import themselves by way of others: {circles:#?}", circles.len());
}

#[test]
fn imports_are_seen_in_code_and_in_macros() {
    let code =
        "use super::b::B; pub use super::c::C; fn f() { crate::d::g(); vec![super::e::E, h(crate::i::I)]; }
        #[cfg(test)] mod tests { use crate::j::J; }";
    let imports = Imports::of(module_of("src/x/a.rs"), &syn::parse_str(code).unwrap());
    let found: BTreeSet<_> = imports.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["d::g", "i::I", "x::b::B", "x::e::E"].map(str::to_owned).into());
}
