//! What tests are called: `subject_condition_expectation`, the way a reader searches for a behaviour.

use std::path::Path;

use syn::visit::{self, Visit};
use syn::{ImplItemFn, ItemFn};

/// A name is a line of the test runner's list.
const MAX_LENGTH: usize = 60;

/// Clauses as subjects: such a name tells nothing of what is tested.
const NO_SUBJECTS: &[&str] = &[
    "all_who",
    "each_that",
    "everybody",
    "he",
    "it",
    "nobody",
    "of",
    "one_that",
    "she",
    "so",
    "somebody",
    "that",
    "these",
    "they",
    "this",
    "those",
    "what",
    "whatever",
    "who",
    "whoever",
    "whom",
    "whose",
];

#[derive(Default)]
struct TestNames(Vec<String>);

impl<'ast> Visit<'ast> for TestNames {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
        };
        if function.attrs.iter().any(is_test) {
            self.0.push(function.sig.ident.to_string());
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, _: &'ast ImplItemFn) {}
}

fn test_names(directory: &Path, names: &mut TestNames) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            test_names(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            names.visit_file(
                &syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            );
        }
    }
}

fn breaks_the_rule(name: &str) -> bool {
    let is_subject = |subject: &&str| name.strip_prefix(*subject).is_some_and(|rest| rest.starts_with('_'));
    name.len() > MAX_LENGTH || NO_SUBJECTS.iter().any(is_subject)
}

#[test]
fn test_names_have_a_subject_within_60_characters() {
    let (root, mut names) = (Path::new(env!("CARGO_MANIFEST_DIR")), TestNames::default());
    for directory in ["src", "tests"] {
        test_names(&root.join(directory), &mut names);
    }
    assert!(names.0.len() > 600, "the tests were not found: {}", names.0.len());
    let wrong: Vec<_> = names.0.iter().filter(|name| breaks_the_rule(name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rule_of_test_names_finds_clauses() {
    assert!(breaks_the_rule("what_may_pass_is_tried_twice_more"));
    assert!(breaks_the_rule(&"long_".repeat(13)));
    assert!(!breaks_the_rule("offset_is_shared"));
}
