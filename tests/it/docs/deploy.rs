//! What is shipped beside the program. `.ci/run` follows the Dockerfile; this needs no tools.

use std::path::{Path, PathBuf};

const DOCKERFILE: &str = include_str!("../../../deploy/Dockerfile");
const DENY: &str = include_str!("../../../.config/deny.toml");

#[test]
fn the_image_is_a_static_binary_on_nothing_run_by_nobody() {
    let (build, image) = DOCKERFILE.split_once("\nFROM scratch\n").unwrap();
    let rust = concat!("FROM rust:", env!("CARGO_PKG_RUST_VERSION"));
    assert!(build.contains(rust), "the image is built with another Rust than Cargo.toml demands: {rust}");
    assert!(build.ends_with("&& deploy/build-static out/ghtokend\n"), "{build}");
    for line in [
        "COPY --from=build /src/out/ghtokend /ghtokend",
        "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
        "USER 65532:65532",
        "ENTRYPOINT [\"/ghtokend\"]",
        "CMD [\"serve\"]",
    ] {
        assert!(image.lines().any(|found| found == line), "{line} is not in\n{image}");
    }
    assert!(image.contains("CMD [\"/ghtokend\", \"healthcheck\"]"));
    assert!(image.contains(concat!("image.version=\"", env!("CARGO_PKG_VERSION"), "\"")));
    let pages: String = super::pages::all().into_iter().map(|page| page.text).collect();
    let images = pages.split("ghtokend:0").skip(1).map(|rest| rest.split([' ', '\n']).next().unwrap());
    let versions: std::collections::BTreeSet<_> = images.map(|rest| format!("0{rest}")).collect();
    assert_eq!(versions, [env!("CARGO_PKG_VERSION").to_owned()].into());
}

#[test]
fn the_static_build_is_the_locked_release() {
    let script = include_str!("../../../deploy/build-static");
    for part in ["-C target-feature=+crt-static", "cargo build --release --locked", "--target"] {
        assert!(script.contains(part), "{part}");
    }
}

#[test]
fn a_second_crypto_stack_is_banned() {
    let deny: toml::Table = DENY.parse().unwrap();
    let banned: Vec<_> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    for name in ["rsa", "openssl", "openssl-sys", "native-tls"] {
        assert!(banned.contains(&name), "{name}");
    }
    for sources in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][sources].as_str(), Some("deny"), "{sources}");
    }
}

#[test]
fn repository_names_no_machine_specific_path() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("Cargo.toml"), root.join("README.md"), root.join(".dockerignore")];
    for dir in [".ci", ".config", "config", "deploy", "src", "tests"] {
        walk(&root.join(dir), &mut files);
    }
    let places =
        [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for place in places {
            assert!(!text.contains(place), "{} names {place}", file.display());
        }
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // What npm and pip have put there is not ours.
        if path.ends_with("node_modules") || path.ends_with(".venv") {
            continue;
        }
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}
