//! An app's private keys as they are loaded: from where, by which signer, and whether their files have changed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

pub use super::key_error::{KeyError, KeyProblem};
use super::pem_signer::PemSigner;
pub use super::signer::{SignError, Signature, Signer};
use crate::secret_file::{self, Accept};

/// A private key, ready to sign. Shows as its fingerprint. Its clones share one copy of it in memory.
#[derive(Clone)]
pub struct Key(Arc<Parts>);

struct Parts {
    origin: String,
    signer: Arc<dyn Signer>,
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
        let (pem, file) = read(path).map_err(|problem| KeyError::new(&origin, problem))?;
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
        let (pem, file) = read(&known.path).map_err(|problem| KeyError::new(origin, problem))?;
        if file.digest == known.digest {
            return Ok(None);
        }
        let key = Self::new(&pem, origin, Some(file))?;
        key.self_test()?;
        Ok(Some(key))
    }

    /// The key of `signer`. `origin` says in messages and in the log where it is.
    pub fn of_signer(signer: Arc<dyn Signer>, origin: &str) -> Self {
        Self(Arc::new(Parts { origin: origin.into(), signer, file: None }))
    }

    fn new(pem: &str, origin: &str, file: Option<File>) -> Result<Self, KeyError> {
        let signer = PemSigner::parse(pem).map_err(|problem| KeyError::new(origin, problem))?;
        Ok(Self(Arc::new(Parts { origin: origin.into(), signer: Arc::new(signer), file })))
    }

    /// What signs app JWTs.
    pub fn signer(&self) -> Arc<dyn Signer> {
        Arc::clone(&self.0.signer)
    }

    /// As GitHub's settings page shows it: `SHA256:` and base64 of the SHA-256 of the public key.
    pub fn fingerprint(&self) -> &str {
        self.0.signer.fingerprint()
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
        self.0.signer.self_test().map_err(|_| KeyError::new(self.origin(), KeyProblem::Damaged))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.fingerprint()).finish()
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

/// GitHub's keys have 1.7 KB; one of 16,384 bits has 13 KB.
const MAX_FILE_BYTES: usize = 64 << 10;
