//! Private keys: what is accepted, and what is said about the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ghtokend::github::key::{Key, KeyError, Warning};

const RSA: &str = include_str!("../keys/rsa.pem");
const PKCS8: &str = include_str!("../keys/rsa-pkcs8.pem");
const RSA_4096: &str = include_str!("../keys/rsa-4096.pem");
const EC: &str = include_str!("../keys/ec.pem");

/// By `openssl rsa -in rsa.pem -pubout -outform DER | openssl sha256 -binary | openssl base64`.
const FINGERPRINT: &str = "SHA256:Vht+hOEign3QfJYquWKQqmnDvkUMma6QHJDaQdNWKhw=";
const FINGERPRINT_4096: &str = "SHA256:fUs9rvPWPX+8vdBYR4qQRXI6rX64p2xq8wWmakU3WL4=";

#[test]
fn key_in_pkcs1_or_pkcs8_shows_github_fingerprint() {
    for (name, pem, fingerprint) in [
        ("PKCS#1", RSA.to_owned(), FINGERPRINT),
        ("PKCS#8", PKCS8.to_owned(), FINGERPRINT),
        ("4096 bits", RSA_4096.to_owned(), FINGERPRINT_4096),
        ("CRLF", RSA.replace('\n', "\r\n"), FINGERPRINT),
        ("PKCS#8 with CRLF", PKCS8.replace('\n', "\r\n"), FINGERPRINT),
        ("BOM and blank lines", format!("\u{feff}\n \n{RSA}\n\n"), FINGERPRINT),
        ("no newline at the end", RSA.trim_end().to_owned(), FINGERPRINT),
        ("indented, as YAML may leave it", RSA.replace('\n', "\n  "), FINGERPRINT),
    ] {
        let key = Key::parse(&pem, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(key.fingerprint(), fingerprint, "{name}");
        key.self_test().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{key:?}"), format!("Key({fingerprint:?})"), "{name}");
    }
}

#[tokio::test]
async fn signature_by_either_form_verifies_with_the_public_key() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(r#"{"iss":"1"}"#));
    let mut tokens = Vec::new();
    for pem in [RSA, PKCS8] {
        let key = Key::parse(pem, "test").unwrap();
        let signature = key.signer().sign(message.as_bytes()).await.unwrap();
        tokens.push(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)));
    }
    assert_eq!(tokens[0], tokens[1]);
    let body: String =
        include_str!("../keys/public.pem").lines().filter(|line| !line.starts_with('-')).collect();
    let public = STANDARD.decode(body).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.required_spec_claims.clear();
    let verifier = jsonwebtoken::DecodingKey::from_rsa_der(&public);
    jsonwebtoken::decode::<serde_json::Value>(&tokens[0], &verifier, &validation).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn wrong_key_file_is_named_without_quoting_it() {
    let lines: Vec<&str> = RSA.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    let shortened = [&lines[..10], &lines[lines.len() - 1..]].concat().join("\n");
    let other_end = RSA.replace("-----END RSA ", "-----END ");
    let flipped = flip_a_byte_of_the_key();
    let relabelled = RSA.replace("RSA PRIVATE KEY", "PRIVATE KEY");
    let table: Vec<(&str, String, &str)> = vec![
        ("EC", EC.into(), "is an EC key: GitHub Apps sign with RSA; use the .pem file that GitHub gave you"),
        (
            "EC in PKCS#8",
            include_str!("../keys/ec-pkcs8.pem").into(),
            "is not an RSA key: GitHub Apps sign with RSA; use the .pem file that GitHub gave you",
        ),
        (
            "Ed25519",
            include_str!("../keys/ed25519.pem").into(),
            "is not an RSA key: GitHub Apps sign with RSA; use the .pem file that GitHub gave you",
        ),
        (
            "public key",
            include_str!("../keys/public.pem").into(),
            "is a public key: the private key is wanted, the .pem file that GitHub gave you",
        ),
        (
            "RSA public key",
            include_str!("../keys/rsa-public.pem").into(),
            "is a public key: the private key is wanted, the .pem file that GitHub gave you",
        ),
        (
            "certificate",
            include_str!("../keys/certificate.pem").into(),
            "is a certificate: the private key is wanted, the .pem file that GitHub gave you",
        ),
        (
            "OpenSSH",
            include_str!("../keys/openssh.pem").into(),
            "is an OpenSSH key: the app's private key is wanted, the .pem file that GitHub gave you",
        ),
        ("encrypted, old form", include_str!("../keys/encrypted.pem").into(), ENCRYPTED),
        ("encrypted PKCS#8", include_str!("../keys/encrypted-pkcs8.pem").into(), ENCRYPTED),
        ("1024 bits", include_str!("../keys/rsa-1024.pem").into(), TOO_SMALL),
        ("1024 bits in PKCS#8", include_str!("../keys/rsa-1024-pkcs8.pem").into(), TOO_SMALL),
        ("text after", format!("{RSA}rubbish\n"), "has other text after the -----END line: remove it"),
        ("text before", format!("rubbish\n{RSA}"), "has other text before the -----BEGIN line: remove it"),
        ("two keys", format!("{RSA}{RSA}"), SEVERAL),
        ("key and certificate", format!("{RSA}{}", include_str!("../keys/certificate.pem")), SEVERAL),
        ("cut off", cut, TRUNCATED),
        ("another END line", other_end, TRUNCATED),
        ("cut off, then another", format!("{}\n{RSA}", lines[..5].join("\n")), SEVERAL),
        ("lines missing", shortened, DAMAGED),
        ("a byte changed", flipped, DAMAGED),
        ("PKCS#1 labelled as PKCS#8", relabelled, DAMAGED),
        ("PKCS#8 labelled as PKCS#1", PKCS8.replace("PRIVATE KEY", "RSA PRIVATE KEY"), DAMAGED),
        ("not base64", RSA.replacen("MII", "M*I", 1), NOT_BASE64),
        ("bytes after the key", with_a_byte_more(), DAMAGED),
        ("no body", format!("{}\n{}\n", lines[0], lines[lines.len() - 1]), DAMAGED),
        ("empty", String::new(), EMPTY),
        ("blanks", " \n\r\n".into(), EMPTY),
        ("a path", "/run/secrets/app.pem".into(), NOT_PEM),
        ("base64 without its lines", lines[1..lines.len() - 1].join("\n"), NOT_PEM),
        ("half a BEGIN line", "-----BEGIN RSA PRIV".into(), NOT_PEM),
        (
            "a certificate request",
            "-----BEGIN NEW THING-----\nAAAA\n-----END NEW THING-----\n".into(),
            "is PEM, but not a private key: its first line must be -----BEGIN RSA PRIVATE KEY-----",
        ),
    ];
    for (name, pem, expected) in table {
        let error = Key::parse(&pem, "app.pem").expect_err(name);
        assert_eq!(error.to_string(), format!("app.pem: {expected}"), "{name}");
        quotes_nothing(&error, &pem);
    }
}

#[test]
fn numbers_that_do_not_fit_together_never_pass() {
    // The last byte of the body belongs to the CRT coefficient: each number alone is sound.
    let pem = flip_a_byte_of_the_key();
    assert!(Key::parse(&pem, "test").and_then(|key| key.self_test()).is_err());
}

#[test]
fn key_file_is_reparsed_only_when_content_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.pem");
    write(&path, RSA.as_bytes(), 0o440);
    let key = Key::read(&path).unwrap();
    assert_eq!((key.fingerprint(), key.path(), key.warning()), (FINGERPRINT, Some(&*path), None));
    assert_eq!(key.origin(), path.display().to_string());
    assert!(key.reread().unwrap().is_none());
    write(&path, RSA_4096.as_bytes(), 0o440);
    let other = key.reread().unwrap().unwrap();
    assert_eq!((other.fingerprint(), other.path()), (FINGERPRINT_4096, Some(&*path)));
    assert!(other.reread().unwrap().is_none());
    write(&path, b"", 0o440);
    assert_eq!(other.reread().unwrap_err().to_string(), format!("{}: {EMPTY}", path.display()));
    assert!(Key::parse(RSA, "VARIABLE").unwrap().reread().unwrap().is_none());
}

#[test]
fn a_file_that_everyone_can_read_is_worth_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.pem");
    for (mode, expected) in [(0o400, false), (0o440, false), (0o640, false), (0o444, true), (0o604, true)] {
        write(&path, RSA.as_bytes(), mode);
        let key = Key::read(&path).unwrap();
        let warning = expected.then(|| Warning::WorldReadable { path: path.clone(), mode });
        assert_eq!(key.warning(), warning.as_ref(), "{mode:o}");
    }
    let text = Key::read(&path).unwrap().warning().unwrap().to_string();
    let expected = "every user can read this private key (mode 0604): make it 0400 or 0440";
    assert_eq!(text, format!("{}: {expected}", path.display()));
}

#[test]
fn files_that_hold_no_key_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        write(&path, bytes, 0o400);
        path
    };
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    for (path, expected) in [
        (folder.path().join("missing"), "cannot be read: No such file or directory (os error 2)"),
        (folder.path().to_owned(), "is a directory: name the key's file in it"),
        (folder.path().join("pipe"), "is not a regular file: a private key is read from a file"),
        (file("empty", b""), EMPTY),
        (
            file("der", &[0x30, 0x82, 0xff, 0xfe]),
            "is not text, so it is not PEM: convert DER with `openssl rsa -inform DER -in FILE -out key.pem`",
        ),
        (
            file("huge", &vec![b'A'; (64 << 10) + 1]),
            "is larger than 64 KiB, so it is not a private key: name the .pem file that GitHub gave you",
        ),
        (file("largest", &vec![b'A'; 64 << 10]), NOT_PEM),
        (file("half-written", &RSA.as_bytes()[..RSA.len() / 2]), TRUNCATED),
    ] {
        let error = Key::read(&path).expect_err(expected);
        assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
    }
}

/// A byte near the end of the body, inside the last of the key's numbers.
fn flip_a_byte_of_the_key() -> String {
    let at = RSA.rfind("\n-----END").unwrap() - 8;
    let other = if RSA.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut pem = RSA.to_owned();
    pem.replace_range(at..=at, other);
    pem
}

/// The key's PEM with a byte after the DER of the key.
fn with_a_byte_more() -> String {
    let body: String = RSA.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(body).unwrap();
    der.push(0);
    format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", STANDARD.encode(der))
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// No eight characters of the body in a row are in the message or in its `Debug`.
fn quotes_nothing(error: &KeyError, pem: &str) {
    let shown = format!("{error} {error:?}");
    let body: Vec<char> =
        pem.lines().filter(|line| !line.starts_with('-')).collect::<String>().chars().collect();
    for window in body.windows(8) {
        let window: String = window.iter().collect();
        assert!(!shown.contains(&window), "{shown}");
    }
}

const ENCRYPTED: &str =
    "is encrypted: decrypt it with `openssl rsa -in FILE -out key.pem`, and guard it by its mode";
const TOO_SMALL: &str =
    "is an RSA key with fewer than 2048 bits, which GitHub does not give out: use the app's own key";
const SEVERAL: &str = "holds more than one PEM block: put each key into a file of its own, and nothing else";
const TRUNCATED: &str = "has no -----END line that fits its -----BEGIN line: it is cut off or half written";
const DAMAGED: &str = "is damaged: it does not hold a working RSA key; copy the file again";
const NOT_BASE64: &str = "is damaged: between -----BEGIN and -----END it is not base64; copy the file again";
const EMPTY: &str = "is empty: put the private key there that GitHub gave you as a .pem file";
const NOT_PEM: &str =
    "is not PEM: the first line must be -----BEGIN RSA PRIVATE KEY----- or -----BEGIN PRIVATE KEY-----";
