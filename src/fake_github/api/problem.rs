//! Error responses in GitHub's form: message, documentation URL and, for invalid fields, which.

use serde_json::{Value, json};

use crate::fake_github::options::Options;
use crate::fake_github::options::preview::ErrorResponse;
use crate::fake_github::wire::response::{Content, Response};
use crate::fake_github::world::product::Mode;

/// What a handler returns.
pub(super) type Outcome = Result<Response, Problem>;

/// Why a request was refused.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: u16,
    message: String,
    docs: Docs,
    headers: Vec<(String, String)>,
    /// The invalid fields, in a `Validation Failed`.
    errors: Vec<Value>,
}

/// Where the documentation of an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Docs {
    /// The start of the REST documentation.
    Root,
    /// The page of the requested operation.
    Operation,
}

impl Problem {
    pub(super) fn new(status: u16, message: impl Into<String>, docs: Docs) -> Self {
        Self { status, message: message.into(), docs, headers: Vec::new(), errors: Vec::new() }
    }

    /// For everything that does not exist, or must not be seen.
    pub(super) fn not_found() -> Self {
        Self::new(404, "Not Found", Docs::Operation)
    }

    pub(super) fn bad_credentials() -> Self {
        Self::new(401, "Bad credentials", Docs::Root)
    }

    pub(super) fn undecodable_jwt() -> Self {
        Self::new(401, "A JSON web token could not be decoded", Docs::Root)
    }

    pub(super) fn not_accessible_by_integration(accepted_permissions: &str) -> Self {
        let mut problem = Self::new(403, "Resource not accessible by integration", Docs::Operation);
        problem.headers.push(("X-Accepted-GitHub-Permissions".into(), accepted_permissions.into()));
        problem
    }

    /// The error that is configured as `response`. With the status 422 it also names the invalid `field`.
    pub(super) fn configured(response: &ErrorResponse, resource: &str, field: &str, code: &str) -> Self {
        let problem = Self::new(response.status, &response.message, Docs::Operation);
        if response.status == 422 { problem.with_error(resource, field, code) } else { problem }
    }

    /// Adds the invalid field, as in every `Validation Failed`.
    pub(super) fn with_error(mut self, resource: &str, field: &str, code: &str) -> Self {
        self.errors.push(json!({ "resource": resource, "field": field, "code": code }));
        self
    }

    /// The response of 2016: without `status`, and with one page of documentation for all operations.
    pub(super) fn into_preview_response(self) -> Response {
        let page = match self.docs {
            Docs::Root => "https://developer.github.com/v3",
            Docs::Operation => "https://developer.github.com/v3/integrations/",
        };
        self.documented_at(page)
    }

    /// Today's response. `page` documents the operation, such as `apps/apps#get-an-app`.
    pub(super) fn into_response(self, options: &Options, page: &str) -> Response {
        let (status, url) = (self.status, documentation_url(options, self.docs, page));
        let mut response = self.documented_at(&url);
        if let Content::Json(body) = &mut response.content
            && !options.legacy_errors
        {
            body["status"] = json!(status.to_string());
        }
        response
    }

    fn documented_at(self, url: &str) -> Response {
        let mut body = json!({ "message": self.message, "documentation_url": url });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        Response { headers: self.headers, ..Response::json(self.status, body) }
    }
}

fn documentation_url(options: &Options, docs: Docs, page: &str) -> String {
    let site = match options.mode {
        Mode::Ghes => format!("https://docs.github.com/enterprise-server@{}", options.ghes_release),
        Mode::Dotcom | Mode::Ghe => "https://docs.github.com".to_owned(),
    };
    match (docs, options.legacy_errors) {
        (Docs::Root, true) => "https://developer.github.com/v3".to_owned(),
        (Docs::Operation, _) if page.is_empty() => format!("{site}/rest"),
        // The old pages had one level less: `reference/apps#…` where there is `apps/apps#…` now.
        (Docs::Operation, true) => {
            format!("{site}/rest/reference/{}", page.split_once('/').map_or(page, |(_, rest)| rest))
        }
        (Docs::Root, false) => format!("{site}/rest"),
        (Docs::Operation, false) => format!("{site}/rest/{page}"),
    }
}
