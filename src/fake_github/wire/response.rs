//! What a handler says: an answer, or a problem in GitHub's form. The frame adds the headers every answer has.

use serde::Serialize;
use serde_json::{Value, json};

use crate::fake_github::options::{Mode, Options};

/// How handlers end.
pub(crate) type Outcome = Result<Answer, Problem>;

/// Status, headers of its own, and content.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content: Content,
}

/// The body.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Nothing,
    Json(Value),
    Text { content_type: &'static str, text: String },
}

/// Why a request was refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: u16,
    message: String,
    docs: Docs,
    headers: Vec<(String, String)>,
    /// What is wrong with which field, in a `Validation Failed`.
    errors: Vec<Value>,
}

/// Where the documentation of an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Docs {
    /// The start of the REST documentation.
    Root,
    /// The page of the operation asked for.
    Operation,
}

impl Answer {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), content: Content::Json(body) }
    }

    /// JSON with its fields in the order in which `body` declares them.
    pub(crate) fn ordered(status: u16, body: &impl Serialize) -> Self {
        // Only a map with keys that are not text cannot be written, and there is none.
        let text = serde_json::to_string(body).unwrap_or_default();
        Self::text(status, "application/json; charset=utf-8", text)
    }

    pub(crate) fn no_content() -> Self {
        Self { status: 204, headers: Vec::new(), content: Content::Nothing }
    }

    pub(crate) fn text(status: u16, content_type: &'static str, text: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), content: Content::Text { content_type, text: text.into() } }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::Nothing => Vec::new(),
            Content::Json(value) => value.to_string().into_bytes(),
            Content::Text { text, .. } => text.clone().into_bytes(),
        }
    }
}

impl Problem {
    pub(crate) fn new(status: u16, message: impl Into<String>, docs: Docs) -> Self {
        Self { status, message: message.into(), docs, headers: Vec::new(), errors: Vec::new() }
    }

    /// What GitHub says to whatever it cannot or will not show.
    pub(crate) fn not_found() -> Self {
        Self::new(404, "Not Found", Docs::Operation)
    }

    pub(crate) fn bad_credentials() -> Self {
        Self::new(401, "Bad credentials", Docs::Root)
    }

    pub(crate) fn undecodable_jwt() -> Self {
        Self::new(401, "A JSON web token could not be decoded", Docs::Root)
    }

    pub(crate) fn not_for_integrations(accepted_permissions: &str) -> Self {
        let mut problem = Self::new(403, "Resource not accessible by integration", Docs::Operation);
        problem.headers.push(("X-Accepted-GitHub-Permissions".into(), accepted_permissions.into()));
        problem
    }

    /// Names the field that is to blame, as in every `Validation Failed`.
    pub(crate) fn blaming(mut self, resource: &str, field: &str, code: &str) -> Self {
        self.errors.push(json!({ "resource": resource, "field": field, "code": code }));
        self
    }

    /// As it was said in 2016: without `status`, and with one page of documentation for all operations.
    pub(crate) fn into_preview_answer(self) -> Answer {
        let page = match self.docs {
            Docs::Root => "https://developer.github.com/v3",
            Docs::Operation => "https://developer.github.com/v3/integrations/",
        };
        self.documented_at(page)
    }

    /// `page` is the documentation of the operation asked for, such as `apps/apps#get-an-app`.
    pub(crate) fn into_answer(self, options: &Options, page: &str) -> Answer {
        let (status, url) = (self.status, documentation_url(options, self.docs, page));
        let mut answer = self.documented_at(&url);
        if let Content::Json(body) = &mut answer.content
            && !options.legacy_errors
        {
            body["status"] = json!(status.to_string());
        }
        answer
    }

    fn documented_at(self, url: &str) -> Answer {
        let mut body = json!({ "message": self.message, "documentation_url": url });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        Answer { headers: self.headers, ..Answer::json(self.status, body) }
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
