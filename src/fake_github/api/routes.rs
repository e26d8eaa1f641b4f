//! Every operation there is: method, path, its page in GitHub's documentation, who may call it, what it does.

use super::context::Call;
use super::{apps, installations, meta, preview, repositories, tokens};
use crate::fake_github::wire::response::Outcome;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::store::{Store, Token};

/// An operation of the API.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    /// The page in the REST documentation, which errors point to.
    pub(crate) docs: &'static str,
    pub(crate) spoken: Availability,
    pub(crate) handler: Handler,
}

/// Which of the two dialects an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Today's.
    Today,
    /// That of the preview of 2016.
    ByPreview,
    /// Either, as the request says.
    InBoth,
}

/// What carries an operation out, by the credential it wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handler {
    /// An app's JWT.
    Jwt(fn(&Call<'_>, &mut Store, &App) -> Outcome),
    /// An installation token.
    Token(fn(&Call<'_>, &mut Store, &Token) -> Outcome),
    /// A token, a JWT or nothing.
    Anyone(fn(&Call<'_>, &Store, Option<&Token>) -> Outcome),
}

/// The operation for `method` and `path`, with what the path has in the places of `{…}`.
pub(crate) fn find<'a>(method: &str, path: &'a str) -> Option<(&'static Route, Vec<&'a str>)> {
    // GitHub answers HEAD wherever it answers GET.
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES
        .iter()
        .chain(preview::ROUTES)
        .filter(|route| route.method == method)
        .find_map(|route| parameters(route.template, path).map(|parameters| (route, parameters)))
}

/// What `path` has in the places of `template`'s `{…}`, if it fits.
pub(crate) fn parameters<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut parameters = Vec::new();
    let mut segments = path.split('/');
    for expected in template.split('/') {
        let segment = segments.next()?;
        if !expected.starts_with('{') {
            (segment == expected).then_some(())?;
        } else if segment.is_empty() {
            return None;
        } else {
            parameters.push(segment);
        }
    }
    segments.next().is_none().then_some(parameters)
}

const fn route(method: &'static str, template: &'static str, docs: &'static str, handler: Handler) -> Route {
    Route { method, template, docs, spoken: Availability::Today, handler }
}

use Handler::{Anyone, Jwt, Token as ByToken};

#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("GET", "/app", "apps/apps#get-the-authenticated-app", Jwt(apps::authenticated)),
    route("GET", "/app/installations", "apps/apps#list-installations-for-the-authenticated-app", Jwt(installations::list)),
    route("GET", "/app/installations/{installation_id}", "apps/apps#get-an-installation-for-the-authenticated-app", Jwt(installations::get)),
    route("DELETE", "/app/installations/{installation_id}", "apps/apps#delete-an-installation-for-the-authenticated-app", Jwt(installations::delete)),
    route("POST", "/app/installations/{installation_id}/access_tokens", "apps/apps#create-an-installation-access-token-for-an-app", Jwt(tokens::mint)),
    route("PUT", "/app/installations/{installation_id}/suspended", "apps/apps#suspend-an-app-installation", Jwt(installations::suspend)),
    route("DELETE", "/app/installations/{installation_id}/suspended", "apps/apps#unsuspend-an-app-installation", Jwt(installations::unsuspend)),
    route("GET", "/app/installation-requests", "apps/apps#list-installation-requests-for-the-authenticated-app", Jwt(installations::requests)),
    route("GET", "/orgs/{org}/installation", "apps/apps#get-an-organization-installation-for-the-authenticated-app", Jwt(installations::of_organization)),
    route("GET", "/repos/{owner}/{repo}/installation", "apps/apps#get-a-repository-installation-for-the-authenticated-app", Jwt(installations::of_repository)),
    route("GET", "/repositories/{repository_id}/installation", "apps/apps#get-a-repository-installation-for-the-authenticated-app", Jwt(installations::of_repository_id)),
    route("GET", "/users/{username}/installation", "apps/apps#get-a-user-installation-for-the-authenticated-app", Jwt(installations::of_user)),
    route("GET", "/enterprises/{enterprise}/installation", "apps/apps#get-an-enterprise-installation-for-the-authenticated-app", Jwt(installations::of_enterprise)),
    route("GET", "/apps/{app_slug}", "apps/apps#get-an-app", Anyone(apps::by_slug)),
    Route { spoken: Availability::InBoth, ..route("GET", "/installation/repositories", "apps/installations#list-repositories-accessible-to-the-app-installation", ByToken(repositories::list)) },
    route("DELETE", "/installation/token", "apps/installations#revoke-an-installation-access-token", ByToken(tokens::revoke)),
    route("GET", "/repos/{owner}/{repo}", "repos/repos#get-a-repository", Anyone(repositories::get)),
    route("GET", "/repos/{owner}/{repo}/issues", "issues/issues#list-repository-issues", Anyone(repositories::issues)),
    route("GET", "/repos/{owner}/{repo}/branches", "branches/branches#list-branches", Anyone(repositories::branches)),
    route("GET", "/repositories/{repository_id}", "repos/repos#get-a-repository", Anyone(repositories::get_by_id)),
    route("GET", "/user", "users/users#get-the-authenticated-user", ByToken(meta::user)),
    route("GET", "/user/installations", "apps/installations#list-app-installations-accessible-to-the-user-access-token", ByToken(meta::user_installations)),
    route("GET", "/user/installations/{installation_id}/repositories", "apps/installations#list-repositories-accessible-to-the-user-access-token", ByToken(meta::user_installations)),
    route("GET", "/rate_limit", "rate-limit/rate-limit#get-rate-limit-status-for-the-authenticated-user", Anyone(meta::rate_limit)),
    route("GET", "/versions", "meta/meta#get-all-api-versions", Anyone(meta::versions)),
    route("GET", "/", "meta/meta#github-api-root", Anyone(meta::root)),
];
