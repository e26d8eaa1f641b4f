//! Webhook deliveries: whether they come from GitHub, and what they say of tokens.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>,
//! <https://docs.github.com/en/webhooks/webhook-events-and-payloads>.

use std::borrow::Cow;
use std::path::Path;

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::form_urlencoded;

use crate::model::{InstallationId, Secret, UserId, WebhookEvent};
use crate::secret_file::{self, Accept, ReadError};

/// The secrets that GitHub may sign with: each is enough.
#[derive(Debug, Clone)]
pub struct Secrets(Vec<Secret>);

/// Why a file holds no webhook secret.
#[derive(Debug, thiserror::Error)]
#[error("webhook.secret_file: {path}: {problem}")]
pub struct SecretsError {
    path: String,
    problem: SecretsProblem,
}

#[derive(Debug, thiserror::Error)]
enum SecretsProblem {
    #[error("{0}")]
    Unreadable(ReadError),
    #[error("cannot be read: its volume does not answer")]
    Hangs,
    #[error("is not a file of a line or two: put the secret into one that is in the app's webhook settings")]
    NoSecret,
    #[error("is empty: put the secret into it that is in the app's webhook settings")]
    Empty,
}

impl Secrets {
    /// Those in a file, one on each of at most two lines: while a secret is replaced by another, both are good.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let failed = |problem| SecretsError { path: path.display().to_string(), problem };
        let contents =
            secret_file::read(path, Accept::RegularFile, MAX_FILE_BYTES).map_err(|error| match error {
                ReadError::Unreadable(_) => failed(SecretsProblem::Unreadable(error)),
                _ => failed(SecretsProblem::NoSecret),
            })?;
        let text = contents.text().map_err(|_| failed(SecretsProblem::NoSecret))?;
        let lines = text.trim_start_matches(BYTE_ORDER_MARK).lines().map(str::trim);
        let secrets: Vec<_> =
            lines.filter(|line| !line.is_empty()).map(|line| line.to_owned().into()).collect();
        match secrets.len() {
            0 => Err(failed(SecretsProblem::Empty)),
            1..=MAX_SECRETS => Ok(Self(secrets)),
            _ => Err(failed(SecretsProblem::NoSecret)),
        }
    }

    /// Whether `signature`, the value of `X-Hub-Signature-256`, was made of `body` with one of them.
    pub fn verify_signature(&self, body: &[u8], signature: &[u8]) -> bool {
        let Some(tag) = signature.strip_prefix(b"sha256=").and_then(decode_hex) else { return false };
        let made_with = |secret: &Secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            hmac::verify(&key, body, &tag).is_ok()
        };
        self.0.iter().any(made_with)
    }
}

impl SecretsError {
    /// Nothing comes of reading the file.
    pub(crate) fn hangs(path: &Path) -> Self {
        Self { path: path.display().to_string(), problem: SecretsProblem::Hangs }
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(Secret::expose).eq(other.0.iter().map(Secret::expose))
    }
}

fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    // Looked at before: `from_str_radix` would take a sign.
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// What a delivery of `event` with this body says of tokens; `None` if nothing. It is an error, which names what is
/// missing, if it should say something and does not.
pub fn read(event: &str, body: &[u8]) -> Result<Option<WebhookEvent>, &'static str> {
    let payload: Payload =
        serde_json::from_slice(&unwrapped(body)).map_err(|_| "the body is not a JSON object of GitHub's")?;
    let action = payload.action.as_deref().unwrap_or_default();
    let event = match (event, action) {
        (INSTALLATION | INSTALLATION_2016, "deleted" | "suspend") => {
            WebhookEvent::InstallationRemoved(payload.installation()?)
        }
        (INSTALLATION | INSTALLATION_2016, "created" | "unsuspend") => {
            WebhookEvent::InstallationRestored(payload.installation()?)
        }
        (INSTALLATION, "new_permissions_accepted") => {
            WebhookEvent::PermissionsChanged(payload.installation()?)
        }
        (REPOSITORIES | REPOSITORIES_2016, "added") => {
            WebhookEvent::RepositoriesAdded(payload.installation()?)
        }
        (REPOSITORIES | REPOSITORIES_2016, "removed") => {
            WebhookEvent::PermissionsChanged(payload.installation()?)
        }
        ("installation_target", "renamed") => WebhookEvent::AccountRenamed(payload.installation()?),
        ("repository", "renamed" | "transferred" | "deleted") => payload.moved()?,
        ("github_app_authorization", "revoked") => WebhookEvent::UserAuthorizationRevoked(payload.user()?),
        _ => return Ok(None),
    };
    Ok(Some(event))
}

/// The JSON of a delivery: a webhook may be set up to send it as a form.
fn unwrapped(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.starts_with(b"payload=") {
        return Cow::Borrowed(body);
    }
    let payload = form_urlencoded::parse(body).next().map(|(_, value)| value.into_owned());
    Cow::Owned(payload.unwrap_or_default().into_bytes())
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    installation: Option<Numbered>,
    sender: Option<Numbered>,
    repository: Option<Repository>,
    team: Option<IgnoredAny>,
    changes: Option<Changes>,
}

#[derive(Deserialize)]
struct Numbered {
    id: u64,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
    owner: Option<Account>,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

/// What was there before. What it looks like depends on the event.
#[derive(Deserialize)]
struct Changes {
    owner: Option<From<Owner>>,
    repository: Option<Renamed>,
}

#[derive(Deserialize)]
struct From<T> {
    from: T,
}

#[derive(Deserialize)]
struct Owner {
    user: Option<Account>,
    organization: Option<Account>,
}

#[derive(Deserialize)]
struct Renamed {
    name: Option<From<String>>,
}

impl Payload {
    /// The installation that an event of an app is about. GitHub signs the body alone: that of another event,
    /// forwarded under this one's name, is recognised by its content.
    fn installation(&self) -> Result<InstallationId, &'static str> {
        if self.repository.is_some() || self.team.is_some() {
            return Err("the body is that of another event");
        }
        let id = self.installation.as_ref().and_then(|installation| InstallationId::new(installation.id));
        id.ok_or("installation.id is missing")
    }

    fn user(&self) -> Result<UserId, &'static str> {
        self.sender.as_ref().and_then(|sender| UserId::new(sender.id)).ok_or("sender.id is missing")
    }

    /// The repository that is no longer where it was. After a transfer the event goes to the new owner.
    fn moved(&self) -> Result<WebhookEvent, &'static str> {
        let repository = self.repository.as_ref().ok_or("repository is missing")?;
        let changes = self.changes.as_ref();
        let renamed = changes.and_then(|changes| changes.repository.as_ref()?.name.as_ref());
        let left = changes.and_then(|changes| {
            let Owner { user, organization } = &changes.owner.as_ref()?.from;
            user.as_ref().or(organization.as_ref())
        });
        let name = renamed.map_or(&repository.name, |name| &name.from).parse();
        let owner = left.or(repository.owner.as_ref()).ok_or("repository.owner is missing")?.login.parse();
        match (owner, name) {
            (Ok(owner), Ok(name)) => Ok(WebhookEvent::RepositoryMoved(owner, name)),
            _ => Err("the repository's name is none"),
        }
    }
}

const INSTALLATION: &str = "installation";
const REPOSITORIES: &str = "installation_repositories";
/// What these events were called until November 2017:
/// <https://developer.github.com/changes/2017-05-22-github-apps-production-ship/>.
const INSTALLATION_2016: &str = "integration_installation";
const REPOSITORIES_2016: &str = "integration_installation_repositories";
const MAX_FILE_BYTES: usize = 4096;
const MAX_SECRETS: usize = 2;
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(lines: &[&str]) -> Secrets {
        Secrets(lines.iter().map(|line| Secret::from((*line).to_owned())).collect())
    }

    #[test]
    fn the_signature_that_github_documents_is_the_only_one_accepted() {
        const SIGNATURE: &[u8] = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let (body, secret) = (&b"Hello, World!"[..], "It's a Secret to Everybody");
        assert!(secrets(&[secret]).verify_signature(body, SIGNATURE));
        assert!(secrets(&["the new one", secret]).verify_signature(body, SIGNATURE), "any of them is enough");
        assert!(!secrets(&["It's a secret to everybody"]).verify_signature(body, SIGNATURE));
        assert!(!secrets(&[secret]).verify_signature(b"Hello, World", SIGNATURE));
        assert!(!secrets(&[secret]).verify_signature(body, &SIGNATURE[..SIGNATURE.len() - 1]));
        assert!(!secrets(&[secret]).verify_signature(body, b""));
        assert!(!secrets(&[]).verify_signature(body, SIGNATURE));
    }
}
