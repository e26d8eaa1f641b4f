//! GitHub's own endpoints, served locally: an SDK's app calls go here, and need no private key. In whichever of GitHub's two
//! styles the caller speaks, and whichever dialect the upstream does.

mod app_selection;
mod base_url;
mod calls;
mod identity;
mod installations;
mod object;
mod tokens;

pub(super) use calls::GithubApi;
