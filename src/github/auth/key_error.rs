//! What can be wrong with a private key, and what to do about it. No message quotes a byte of a key.

use std::io;

use crate::secret_file::ReadError;

/// Why there is no key, and where it was looked for.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct KeyError {
    origin: String,
    problem: KeyProblem,
}

impl KeyError {
    pub(super) fn new(origin: &str, problem: KeyProblem) -> Self {
        Self { origin: origin.to_owned(), problem }
    }

    /// Reading the file at `origin` does not come to an end.
    pub(crate) fn hangs(origin: &str) -> Self {
        Self::new(origin, KeyProblem::Hangs)
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
