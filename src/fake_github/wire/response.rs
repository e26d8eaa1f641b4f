//! Responses as handlers make them, and as they go over the wire.

use serde::Serialize;
use serde_json::Value;

/// Status, headers of its own, and content. The middleware adds the headers that every response has.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content: Content,
}

/// The content of a response.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Nothing,
    Json(Value),
    Text { content_type: &'static str, text: String },
}

/// A response with all its headers.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
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
