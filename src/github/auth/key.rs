//! An app's private keys: read, checked and made ready to sign. No message quotes a byte of a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use zeroize::Zeroizing;

use crate::secret_file::{self, Accept, ReadError};

/// An RSA private key, ready to sign. Shows as its fingerprint. Its clones share one copy of it in memory.
#[derive(Clone)]
pub struct Key(Arc<Parts>);

struct Parts {
    origin: String,
    signer: EncodingKey,
    public: Vec<u8>,
    fingerprint: String,
    file: Option<File>,
}

/// The file of a key, as it was when the key was read from it.
struct File {
    path: PathBuf,
    /// SHA-256 of its content.
    digest: [u8; 32],
    warning: Option<Warning>,
}

impl Key {
    /// The key in a PEM file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let origin = path.display().to_string();
        let (pem, file) = read(path).map_err(|problem| KeyError { origin: origin.clone(), problem })?;
        Self::new(&pem, &origin, Some(file))
    }

    /// The key in a PEM text, PKCS#1 or PKCS#8. `origin` says in messages where the text came from.
    pub fn parse(pem: &str, origin: &str) -> Result<Self, KeyError> {
        Self::new(pem, origin, None)
    }

    /// The key that its file holds by now, checked and tried out; `None` if the file's content is what it was, or if the
    /// key did not come from a file.
    pub fn reread(&self) -> Result<Option<Self>, KeyError> {
        let Some(known) = &self.0.file else { return Ok(None) };
        let origin = &self.0.origin;
        let (pem, file) =
            read(&known.path).map_err(|problem| KeyError { origin: origin.clone(), problem })?;
        if file.digest == known.digest {
            return Ok(None);
        }
        let key = Self::new(&pem, origin, Some(file))?;
        key.self_test()?;
        Ok(Some(key))
    }

    fn new(pem: &str, origin: &str, file: Option<File>) -> Result<Self, KeyError> {
        // Another crate in the build may bring jsonwebtoken a second provider, and then it would not choose.
        // That one is installed already is fine.
        let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let parsed = pkcs1(pem).and_then(|der| Ok((public_key(&der)?, der)));
        let (public, der) = parsed.map_err(|problem| KeyError { origin: origin.into(), problem })?;
        let fingerprint = format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &public)));
        let signer = EncodingKey::from_rsa_der(&der);
        Ok(Self(Arc::new(Parts { origin: origin.into(), signer, public, fingerprint, file })))
    }

    /// What signs app JWTs, with RS256.
    pub fn signer(&self) -> &EncodingKey {
        &self.0.signer
    }

    /// As GitHub's settings page shows it: `SHA256:` and base64 of the SHA-256 of the public key.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// Where the key came from: a path or a variable.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The file that it came from, if it came from one.
    pub fn path(&self) -> Option<&Path> {
        self.0.file.as_ref().map(|file| file.path.as_path())
    }

    /// What an operator should know about its file, for the log.
    pub fn warning(&self) -> Option<&Warning> {
        self.0.file.as_ref()?.warning.as_ref()
    }

    /// Signs and verifies once. A key whose numbers do not fit together is found here, not by GitHub.
    pub fn self_test(&self) -> Result<(), KeyError> {
        let verify = || {
            let signature = crypto::sign(SELF_TEST, self.signer(), Algorithm::RS256)?;
            let verifier = DecodingKey::from_rsa_der(&self.0.public);
            crypto::verify(&signature, SELF_TEST, &verifier, Algorithm::RS256)
        };
        let verified: Result<bool, jsonwebtoken::errors::Error> = verify();
        match verified {
            Ok(true) => Ok(()),
            _ => Err(KeyError { origin: self.0.origin.clone(), problem: KeyProblem::Damaged }),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.0.fingerprint).finish()
    }
}

/// Why there is no key, and where it was looked for.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct KeyError {
    origin: String,
    problem: KeyProblem,
}

impl KeyError {
    /// Nothing comes of reading the file of `key`.
    pub(crate) fn hangs(key: &Key) -> Self {
        Self { origin: key.origin().to_owned(), problem: KeyProblem::Hangs }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &KeyProblem {
        &self.problem
    }
}

/// What is wrong with a private key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// The file is not there or may not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It does not come to an end.
    #[error("cannot be read: its volume does not answer")]
    Hangs,
    /// A directory, as a volume mounted one level too high.
    #[error("is a directory: name the key's file in it")]
    Directory,
    /// A pipe, a socket, a device.
    #[error("is not a regular file: a private key is read from a file")]
    NotAFile,
    /// Larger than any key.
    #[error("is larger than 64 KiB, so it is not a private key: name the .pem file that GitHub gave you")]
    TooLarge,
    /// Nothing, or blanks.
    #[error("is empty: put the private key there that GitHub gave you as a .pem file")]
    Empty,
    /// Bytes, perhaps DER.
    #[error(
        "is not text, so it is not PEM: convert DER with `openssl rsa -inform DER -in FILE -out key.pem`"
    )]
    NotText,
    /// Text without a PEM block.
    #[error(
        "is not PEM: the first line must be -----BEGIN RSA PRIVATE KEY----- or -----BEGIN PRIVATE KEY-----"
    )]
    NotPem,
    /// Something before the block.
    #[error("has other text before the -----BEGIN line: remove it")]
    TextBefore,
    /// Something after the block.
    #[error("has other text after the -----END line: remove it")]
    TextAfter,
    /// More than one block.
    #[error("holds more than one PEM block: put each key into a file of its own, and nothing else")]
    Several,
    /// No end line: half written, or cut.
    #[error("has no -----END line that fits its -----BEGIN line: it is cut off or half written")]
    Truncated,
    /// Not base64.
    #[error("is damaged: between -----BEGIN and -----END it is not base64; copy the file again")]
    NotBase64,
    /// A key of another algorithm.
    #[error("is an EC key: GitHub Apps sign with RSA; use the .pem file that GitHub gave you")]
    EllipticCurve,
    /// The other half.
    #[error("is a public key: the private key is wanted, the .pem file that GitHub gave you")]
    Public,
    /// A certificate.
    #[error("is a certificate: the private key is wanted, the .pem file that GitHub gave you")]
    Certificate,
    /// A key for ssh.
    #[error("is an OpenSSH key: the app's private key is wanted, the .pem file that GitHub gave you")]
    OpenSsh,
    /// A passphrase is needed.
    #[error("is encrypted: decrypt it with `openssl rsa -in FILE -out key.pem`, and guard it by its mode")]
    Encrypted,
    /// Some other PEM.
    #[error("is PEM, but not a private key: its first line must be -----BEGIN RSA PRIVATE KEY-----")]
    OtherPem,
    /// PKCS#8, but with Ed25519 or another algorithm.
    #[error("is not an RSA key: GitHub Apps sign with RSA; use the .pem file that GitHub gave you")]
    NotRsa,
    /// Breakable.
    #[error("is an RSA key with fewer than 2048 bits, which GitHub does not give out: use the app's own key")]
    TooSmall,
    /// Numbers that are not a key.
    #[error("is damaged: it does not hold a working RSA key; copy the file again")]
    Damaged,
}

impl From<ReadError> for KeyProblem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreadable(error) => Self::Unreadable(error),
            ReadError::Directory => Self::Directory,
            ReadError::NotAFile => Self::NotAFile,
            ReadError::TooLarge(_) => Self::TooLarge,
            ReadError::Silent => Self::Hangs,
        }
    }
}

/// What an operator should know about a key that works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Everyone on the machine can read the file. The group may, since that is how Kubernetes shares secrets.
    #[error("{}: every user can read this private key (mode {mode:04o}): make it 0400 or 0440", path.display())]
    WorldReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn read(path: &Path) -> Result<(Zeroizing<String>, File), KeyProblem> {
    let contents = secret_file::read(path, Accept::RegularFile, MAX_FILE_BYTES)?;
    let text = contents.text().map_err(|_| KeyProblem::NotText)?;
    let mode = contents.mode;
    let warning = (mode & 0o004 != 0).then(|| Warning::WorldReadable { path: path.into(), mode });
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &contents.bytes).as_ref());
    Ok((Zeroizing::new(text.to_owned()), File { path: path.into(), digest: hash, warning }))
}

/// The DER of the `RSAPrivateKey` in a PEM text that holds nothing else.
fn pkcs1(pem: &str) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let (label, body) = block(pem)?;
    // OpenSSL's old form says so in a header; a colon is not base64.
    let encrypted = label == "ENCRYPTED PRIVATE KEY" || body.contains("Proc-Type:");
    let problem = match label {
        "RSA PRIVATE KEY" | "PRIVATE KEY" if !encrypted => None,
        _ if encrypted => Some(KeyProblem::Encrypted),
        "EC PRIVATE KEY" | "EC PARAMETERS" => Some(KeyProblem::EllipticCurve),
        "OPENSSH PRIVATE KEY" => Some(KeyProblem::OpenSsh),
        _ if label.ends_with("PUBLIC KEY") => Some(KeyProblem::Public),
        _ if label.contains("CERTIFICATE") => Some(KeyProblem::Certificate),
        _ => Some(KeyProblem::OtherPem),
    };
    if let Some(problem) = problem {
        return Err(problem);
    }
    let mut compact = Zeroizing::new(String::with_capacity(body.len()));
    compact.extend(body.split_whitespace());
    let der = Zeroizing::new(STANDARD.decode(compact.as_bytes()).map_err(|_| KeyProblem::NotBase64)?);
    match label {
        "PRIVATE KEY" => pkcs1_of_pkcs8(&der),
        _ => Ok(der),
    }
}

/// Label and body of the one PEM block in a text.
fn block(pem: &str) -> Result<(&str, &str), KeyProblem> {
    let text = pem.trim_start_matches(BYTE_ORDER_MARK).trim();
    if text.is_empty() {
        return Err(KeyProblem::Empty);
    }
    let start = text.find(BEGIN).ok_or(KeyProblem::NotPem)?;
    let (label, rest) = text[start + BEGIN.len()..].split_once(DASHES).ok_or(KeyProblem::NotPem)?;
    let (body, after) = rest.split_once(&format!("{END}{label}{DASHES}")).ok_or(KeyProblem::Truncated)?;
    if body.contains(BEGIN) || after.contains(BEGIN) {
        return Err(KeyProblem::Several);
    }
    match (start, after.is_empty()) {
        (0, true) => Ok((label, body)),
        (0, false) => Err(KeyProblem::TextAfter),
        _ => Err(KeyProblem::TextBefore),
    }
}

/// The `RSAPrivateKey` in a `PrivateKeyInfo`: jsonwebtoken signs with the former only.
fn pkcs1_of_pkcs8(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    // The library judges the whole, so what follows walks over a structure that is known to be sound.
    RsaKeyPair::from_pkcs8(der).map_err(rejected)?;
    let info = element(der, SEQUENCE).map(|(info, _)| info);
    let key = info
        .and_then(|info| element(info, INTEGER))
        .and_then(|(_version, rest)| element(rest, SEQUENCE))
        .and_then(|(_algorithm, rest)| element(rest, OCTET_STRING));
    key.map(|(key, _)| Zeroizing::new(key.to_vec())).ok_or(KeyProblem::Damaged)
}

/// The `SubjectPublicKeyInfo` of a private key, which is thereby checked.
fn public_key(der: &[u8]) -> Result<Vec<u8>, KeyProblem> {
    if !element(der, SEQUENCE).is_some_and(|(_, after)| after.is_empty()) {
        return Err(KeyProblem::Damaged);
    }
    let pair = RsaKeyPair::from_der(der).map_err(rejected)?;
    let public = pair.public_key().as_der().map_err(|_| KeyProblem::Damaged)?;
    Ok(public.as_ref().to_vec())
}

/// Content of the first DER element, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // No key here has more bytes than two bytes can count.
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// aws-lc-rs tells its reasons apart by their text only.
fn rejected(error: aws_lc_rs::error::KeyRejected) -> KeyProblem {
    match error.to_string().as_str() {
        "TooSmall" => KeyProblem::TooSmall,
        "WrongAlgorithm" => KeyProblem::NotRsa,
        _ => KeyProblem::Damaged,
    }
}

/// GitHub's keys have 1.7 KB; one of 16,384 bits has 13 KB.
const MAX_FILE_BYTES: usize = 64 << 10;
const SELF_TEST: &[u8] = b"ghtokend";
const BYTE_ORDER_MARK: char = '\u{feff}';
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
