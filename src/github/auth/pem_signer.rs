//! A signer whose private key is in this process, from a PEM text.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
// Named, as another crate in the build may bring jsonwebtoken a second provider, and then it has no default.
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use zeroize::Zeroizing;

use super::key_error::KeyProblem;
use super::signer::{SignError, Signature, Signer};

/// Shows as its fingerprint.
pub(super) struct PemSigner {
    private: EncodingKey,
    public: Vec<u8>,
    fingerprint: String,
}

impl PemSigner {
    /// The key in a text that holds nothing else, PKCS#1 or PKCS#8.
    pub(super) fn parse(pem: &str) -> Result<Self, KeyProblem> {
        let (label, der) = decode(pem)?;
        let pair = match label {
            PKCS8_LABEL => RsaKeyPair::from_pkcs8(&der),
            _ => RsaKeyPair::from_der(&der),
        };
        let pair = pair.map_err(rejected)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyProblem::Damaged)?;
        // jsonwebtoken signs with PKCS#1 only.
        let pkcs1 = pkcs8.as_ref().get(PKCS8_HEADER_BYTES..).ok_or(KeyProblem::Damaged)?;
        // DER has one form: a difference is what follows the key.
        if label == PKCS1_LABEL && pkcs1 != der.as_slice() {
            return Err(KeyProblem::Damaged);
        }
        let public = pair.public_key().as_der().map_err(|_| KeyProblem::Damaged)?.as_ref().to_vec();
        let fingerprint = format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &public)));
        Ok(Self { private: EncodingKey::from_rsa_der(pkcs1), public, fingerprint })
    }

    fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::RS256, &self.private);
        let signature = signer.map_err(|error| SignError::new(&error))?.try_sign(message);
        signature.map_err(|error| SignError::new(&error))
    }

    fn has_signed(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        let public = DecodingKey::from_rsa_der(&self.public);
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&Algorithm::RS256, &public);
        verifier.is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

impl Signer for PemSigner {
    fn sign<'a>(&'a self, message: &'a [u8]) -> Signature<'a> {
        Box::pin(async { self.sign_now(message) })
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn self_test(&self) -> Result<(), SignError> {
        match self.sign_now(SELF_TEST) {
            Ok(signature) if self.has_signed(SELF_TEST, &signature) => Ok(()),
            Ok(_) => Err(SignError::new(&"the signature does not verify")),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for PemSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PemSigner").field(&self.fingerprint).finish()
    }
}

/// Label and DER of a PEM text that holds one unencrypted RSA or PKCS#8 key and nothing else.
fn decode(pem: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeyProblem> {
    let (label, body) = block(pem)?;
    // OpenSSL's old form says so in a header; a colon is not base64.
    let is_encrypted = label == "ENCRYPTED PRIVATE KEY" || body.contains("Proc-Type:");
    match label {
        _ if is_encrypted => return Err(KeyProblem::Encrypted),
        PKCS1_LABEL | PKCS8_LABEL => {}
        "EC PRIVATE KEY" | "EC PARAMETERS" => return Err(KeyProblem::EllipticCurve),
        "OPENSSH PRIVATE KEY" => return Err(KeyProblem::OpenSsh),
        _ if label.ends_with("PUBLIC KEY") => return Err(KeyProblem::Public),
        _ if label.contains("CERTIFICATE") => return Err(KeyProblem::Certificate),
        _ => return Err(KeyProblem::OtherPem),
    }
    let mut compact = Zeroizing::new(String::with_capacity(body.len()));
    compact.extend(body.split_whitespace());
    let der = STANDARD.decode(compact.as_bytes()).map_err(|_| KeyProblem::NotBase64)?;
    Ok((label, Zeroizing::new(der)))
}

/// Label and body of the one PEM block in a text. The libraries for PEM skip what is around blocks and all blocks that
/// they do not know, so none of them can say what is wrong with a file; and they leave copies of a key in memory.
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

/// aws-lc-rs tells its reasons apart by their text only.
fn rejected(error: aws_lc_rs::error::KeyRejected) -> KeyProblem {
    match error.to_string().as_str() {
        "TooSmall" => KeyProblem::TooSmall,
        "WrongAlgorithm" => KeyProblem::NotRsa,
        _ => KeyProblem::Damaged,
    }
}

const SELF_TEST: &[u8] = b"ghtokend";
const PKCS1_LABEL: &str = "RSA PRIVATE KEY";
const PKCS8_LABEL: &str = "PRIVATE KEY";
/// Of a `PrivateKeyInfo`: two lengths of two bytes, version, algorithm. It is the same for each key of 2048 bits and more.
const PKCS8_HEADER_BYTES: usize = 26;
const BYTE_ORDER_MARK: char = '\u{feff}';
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
