//! The operations of the API: method, path, documentation page, and the handler in each dialect that has them.

use super::context::RequestContext;
use super::dialect::{Dialect, is_of_preview};
use super::problem::Outcome;
use super::{apps, installations, meta, preview, repositories, tokens};
use crate::fake_github::wire::path_template::match_path;
use crate::fake_github::wire::request::Request;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::store::{Store, Token};

/// An operation of the API.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) template: &'static str,
    /// The page in the REST documentation that errors point to. Errors of the preview all point to the same one.
    pub(super) docs: &'static str,
    availability: Availability,
}

/// The dialects that have an operation, each with its handler.
#[derive(Debug, Clone, Copy)]
enum Availability {
    /// Today's.
    Apps(Handler),
    /// That of the preview of 2016.
    Preview(Handler),
    /// Both; the request decides.
    Both { apps: Handler, preview: Handler },
}

/// A handler, by the credential that it requires.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handler {
    /// An app's JWT.
    Jwt(fn(&RequestContext<'_>, &mut Store, &App) -> Outcome),
    /// An installation token.
    Token(fn(&RequestContext<'_>, &mut Store, &Token) -> Outcome),
    /// A token, a JWT or nothing.
    Anyone(fn(&RequestContext<'_>, &Store, Option<&Token>) -> Outcome),
    /// As [`Handler::Anyone`], but not charged to the rate limit.
    Uncharged(fn(&RequestContext<'_>, &Store, Option<&Token>) -> Outcome),
}

/// A request's operation.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) route: &'static Route,
    pub(super) dialect: Dialect,
    pub(super) handler: Handler,
    /// The values of the path's parameters.
    pub(super) parameters: Vec<&'a str>,
}

/// The operation of `request`. A retired preview has none.
pub(super) fn find(request: &Request, preview_retired: bool) -> Option<Operation<'_>> {
    let path = request.path.as_deref()?;
    // GitHub answers HEAD wherever it answers GET.
    let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
    let (route, parameters) = ROUTES
        .iter()
        .filter(|route| route.method == method)
        .find_map(|route| match_path(route.template, path).map(|parameters| (route, parameters)))?;
    let (dialect, handler) = match route.availability {
        Availability::Apps(handler) => (Dialect::Apps, handler),
        Availability::Preview(_) if preview_retired => return None,
        Availability::Preview(handler) => (Dialect::Preview, handler),
        Availability::Both { preview, .. } if !preview_retired && is_of_preview(request) => {
            (Dialect::Preview, preview)
        }
        Availability::Both { apps, .. } => (Dialect::Apps, apps),
    };
    Some(Operation { route, dialect, handler, parameters })
}

use Handler::{Anyone, Jwt, Token as ByToken, Uncharged};

/// Every operation there is.
#[rustfmt::skip]
const ROUTES: &[Route] = &[
    apps("GET", "/app", "apps/apps#get-the-authenticated-app", Jwt(apps::authenticated)),
    apps("GET", "/app/installations", "apps/apps#list-installations-for-the-authenticated-app", Jwt(installations::list)),
    apps("GET", "/app/installations/{installation_id}", "apps/apps#get-an-installation-for-the-authenticated-app", Jwt(installations::get)),
    apps("DELETE", "/app/installations/{installation_id}", "apps/apps#delete-an-installation-for-the-authenticated-app", Jwt(installations::delete)),
    apps("POST", "/app/installations/{installation_id}/access_tokens", "apps/apps#create-an-installation-access-token-for-an-app", Jwt(tokens::mint)),
    apps("PUT", "/app/installations/{installation_id}/suspended", "apps/apps#suspend-an-app-installation", Jwt(installations::suspend)),
    apps("DELETE", "/app/installations/{installation_id}/suspended", "apps/apps#unsuspend-an-app-installation", Jwt(installations::unsuspend)),
    apps("GET", "/app/installation-requests", "apps/apps#list-installation-requests-for-the-authenticated-app", Jwt(installations::requests)),
    apps("GET", "/orgs/{org}/installation", "apps/apps#get-an-organization-installation-for-the-authenticated-app", Jwt(installations::of_organization)),
    apps("GET", "/repos/{owner}/{repo}/installation", "apps/apps#get-a-repository-installation-for-the-authenticated-app", Jwt(installations::of_repository)),
    apps("GET", "/repositories/{repository_id}/installation", "apps/apps#get-a-repository-installation-for-the-authenticated-app", Jwt(installations::of_repository_id)),
    apps("GET", "/users/{username}/installation", "apps/apps#get-a-user-installation-for-the-authenticated-app", Jwt(installations::of_user)),
    apps("GET", "/enterprises/{enterprise}/installation", "apps/apps#get-an-enterprise-installation-for-the-authenticated-app", Jwt(installations::of_enterprise)),
    apps("GET", "/apps/{app_slug}", "apps/apps#get-an-app", Anyone(apps::by_slug)),
    both("GET", "/installation/repositories", "apps/installations#list-repositories-accessible-to-the-app-installation", ByToken(repositories::list), ByToken(preview::repositories::list)),
    apps("DELETE", "/installation/token", "apps/installations#revoke-an-installation-access-token", ByToken(tokens::revoke)),
    apps("GET", "/repos/{owner}/{repo}", "repos/repos#get-a-repository", Anyone(repositories::get)),
    apps("GET", "/repos/{owner}/{repo}/issues", "issues/issues#list-repository-issues", Anyone(repositories::issues)),
    apps("GET", "/repos/{owner}/{repo}/branches", "branches/branches#list-branches", Anyone(repositories::branches)),
    apps("GET", "/repositories/{repository_id}", "repos/repos#get-a-repository", Anyone(repositories::get_by_id)),
    apps("GET", "/user", "users/users#get-the-authenticated-user", ByToken(meta::user)),
    apps("GET", "/user/installations", "apps/installations#list-app-installations-accessible-to-the-user-access-token", ByToken(meta::user_installations)),
    apps("GET", "/user/installations/{installation_id}/repositories", "apps/installations#list-repositories-accessible-to-the-user-access-token", ByToken(meta::user_installations)),
    apps("GET", "/rate_limit", "rate-limit/rate-limit#get-rate-limit-status-for-the-authenticated-user", Uncharged(meta::rate_limit)),
    apps("GET", "/versions", "meta/meta#get-all-api-versions", Anyone(meta::versions)),
    apps("GET", "/", "meta/meta#github-api-root", Anyone(meta::root)),
    preview("GET", "/integration/installations", Jwt(preview::installations::list)),
    preview("POST", "/integration/identity/user", Jwt(preview::identity::user)),
    preview("POST", "/installations/{installation_id}/access_tokens", Jwt(preview::tokens::mint)),
    preview("PUT", "/installations/{installation_id}/repositories/{repository_id}", Jwt(preview::repositories::add)),
    preview("DELETE", "/installations/{installation_id}/repositories/{repository_id}", Jwt(preview::repositories::remove)),
];

const fn apps(method: &'static str, template: &'static str, docs: &'static str, handler: Handler) -> Route {
    Route { method, template, docs, availability: Availability::Apps(handler) }
}

const fn preview(method: &'static str, template: &'static str, handler: Handler) -> Route {
    Route { method, template, docs: "", availability: Availability::Preview(handler) }
}

const fn both(
    method: &'static str,
    template: &'static str,
    docs: &'static str,
    apps: Handler,
    preview: Handler,
) -> Route {
    Route { method, template, docs, availability: Availability::Both { apps, preview } }
}
