//! Explains GitHub's answers to look-ups to callers.

use crate::broker::error::Error;
use crate::github::{Failure, Kind};
use crate::model::{AppName, Capabilities, Installation, Selector};

/// The app's only installation: the one for requests that name none.
pub(super) fn only_one(
    app: &AppName,
    list: Vec<Installation>,
    can: Capabilities,
) -> Result<Installation, Error> {
    if list.is_empty() {
        let message = format!("app {app} is not installed anywhere: install it on an account first");
        return Err(Error::UnknownInstallation(message));
    }
    if let [only] = list.as_slice() {
        return Ok(only.clone());
    }
    let named: Vec<_> = list.iter().filter_map(|installation| installation.account.as_deref()).collect();
    let more = if named.len() > MAX_NAMED_ACCOUNTS { ", …" } else { "" };
    let names = named.iter().take(MAX_NAMED_ACCOUNTS).copied().collect::<Vec<_>>().join(", ");
    let repository = if can.repository_lookup { ", repo=OWNER/NAME" } else { "" };
    let enterprise = if can.enterprise_lookup { ", enterprise=SLUG" } else { "" };
    let ways = format!("owner=LOGIN{repository}{enterprise} or installation=ID");
    let message = format!(
        "app {app} has several installations ({names}{more}): choose with {ways}, or configure app.installation"
    );
    Err(Error::SelectorNeeded(message))
}

/// The error for a caller whose look-up of `selector` failed.
pub(crate) fn explain(app: &AppName, selector: &Selector, failure: Failure) -> Error {
    let Some(wanted) = selector.in_words() else { return Error::Github(failure) };
    let message = match failure.kind {
        Kind::NotFound => format!(
            "app {app} has no installation for {wanted}: check the spelling, and that the app is installed there \
             and may see it"
        ),
        Kind::Moved => {
            format!(
                "{wanted} has been renamed or moved, GitHub answers with a redirect: ask for it by its new name"
            )
        }
        _ => return Error::Github(failure),
    };
    Error::Github(Failure { kind: Kind::NotFound, message, ..failure })
}

/// Accounts that an error message names.
const MAX_NAMED_ACCOUNTS: usize = 5;
