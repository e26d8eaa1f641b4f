//! The key pairs of the apps, as GitHub gives them: PKCS#1 PEM, identified by a fingerprint of the public key.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use pem::Pem;
use serde::Serialize;

use super::definition::App;
use crate::fake_github::digest::sha256_base64;

/// One private key of an app.
#[derive(Clone, Serialize)]
pub struct AppKey {
    /// Base64 of the SHA-256 of the public key in DER, as GitHub's settings page shows it.
    pub fingerprint: String,
    /// The private key, PKCS#1 in PEM.
    pub private_key_pem: String,
    #[serde(skip)]
    public_key_der: Vec<u8>,
}

impl AppKey {
    /// A new 2048-bit key.
    pub(crate) fn generate() -> io::Result<Self> {
        let pair =
            KeyPair::generate(KeySize::Rsa2048).map_err(|_| unusable("no RSA key could be generated"))?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| unusable("the RSA key cannot be encoded"))?;
        let pkcs1 =
            pkcs1_in_pkcs8(pkcs8.as_ref()).ok_or_else(|| unusable("the RSA key has an unknown shape"))?;
        Self::new(&pair, pkcs1.to_vec())
    }

    /// The key in `pem`, PKCS#1.
    pub(crate) fn from_pem(pem: &Pem) -> io::Result<Self> {
        let pair = KeyPair::from_der(pem.contents())
            .map_err(|_| unusable("a private key must be an RSA key of at least 2048 bits in PKCS#1 PEM"))?;
        Self::new(&pair, pem.contents().to_vec())
    }

    /// Whether `signature` over `message` was made with this key by RS256.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key_der)
            .verify(message, signature)
            .is_ok()
    }

    fn new(pair: &KeyPair, pkcs1: Vec<u8>) -> io::Result<Self> {
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| unusable("the public key cannot be encoded"))?;
        Ok(Self {
            fingerprint: sha256_base64(public.as_ref()),
            private_key_pem: pem::encode_config(&Pem::new("RSA PRIVATE KEY", pkcs1), PEM_LINES),
            public_key_der: public.as_ref().to_vec(),
        })
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKey").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The keys of all apps, and a stock to take from before new ones are generated.
#[derive(Debug, Clone)]
pub(crate) struct AppKeys {
    by_app: BTreeMap<String, Vec<AppKey>>,
    spare: VecDeque<AppKey>,
}

impl AppKeys {
    /// The configured keys of each app, or one key each: with a seed from the bundle, else a new one.
    pub(crate) fn new(apps: &[App], seed: Option<u64>) -> io::Result<Self> {
        let spare = if seed.is_some() { parse(BUNDLED)?.into() } else { VecDeque::new() };
        let mut all = Self { by_app: BTreeMap::new(), spare };
        for app in apps {
            let keys = match &app.private_keys {
                Some(text) => parse(text)?,
                None => vec![all.next_key()?],
            };
            all.by_app.insert(app.name.clone(), keys);
        }
        Ok(all)
    }

    pub(crate) fn of_app(&self, app: &str) -> &[AppKey] {
        self.by_app.get(app).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a key. None if there is no such app, or it has as many as GitHub allows.
    pub(crate) fn add(&mut self, app: &str) -> Option<AppKey> {
        if self.by_app.get(app).is_none_or(|keys| keys.len() >= MAX_KEYS) {
            return None;
        }
        let key = self.next_key().ok()?;
        self.by_app.get_mut(app)?.push(key.clone());
        Some(key)
    }

    /// Removes a key. Whether there was such a key.
    pub(crate) fn remove(&mut self, app: &str, fingerprint: &str) -> bool {
        let Some(keys) = self.by_app.get_mut(app) else { return false };
        let before = keys.len();
        keys.retain(|key| key.fingerprint != fingerprint);
        keys.len() < before
    }

    fn next_key(&mut self) -> io::Result<AppKey> {
        self.spare.pop_front().map_or_else(AppKey::generate, Ok)
    }
}

/// GitHub's limit, since 2024.
const MAX_KEYS: usize = 25;
const BUNDLED: &str = include_str!("keys.pem");
const PEM_LINES: pem::EncodeConfig = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);

fn parse(text: &str) -> io::Result<Vec<AppKey>> {
    let pems = pem::parse_many(text).map_err(|error| unusable(&format!("not PEM: {error}")))?;
    pems.iter().map(AppKey::from_pem).collect()
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// PKCS#8 is SEQUENCE { version, algorithm, OCTET STRING }, and the octets are the PKCS#1 key.
fn pkcs1_in_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (content, _) = der_element(0x30, pkcs8)?;
    let (_version, rest) = der_element(0x02, content)?;
    let (_algorithm, rest) = der_element(0x30, rest)?;
    Some(der_element(0x04, rest)?.0)
}

/// The content of the DER element at the start of `input`, which must have `tag`, and what follows it.
fn der_element(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}
