//! Pages of a list, and the `Link` header that leads from one to the next.

use super::context::RequestContext;
use crate::fake_github::wire::response::Response;

/// One page: its first item, its size, and `Link`.
#[derive(Debug)]
pub(super) struct Page {
    first: usize,
    size: usize,
    link: Option<String>,
}

impl Page {
    /// The page of `total` items that `context` requests.
    pub(super) fn of(context: &RequestContext<'_>, total: usize) -> Self {
        let number = |name| context.request.parameter(name).and_then(|text| text.parse::<usize>().ok());
        let size = number("per_page").unwrap_or(PER_PAGE).clamp(1, context.state.options.per_page_max);
        let page = number("page").unwrap_or(1).max(1);
        Self { first: (page - 1).saturating_mul(size), size, link: link(context, page, total.div_ceil(size)) }
    }

    /// The items of `all` on this page.
    pub(super) fn items<'a, T>(&self, all: &'a [T]) -> impl Iterator<Item = &'a T> {
        all.iter().skip(self.first).take(self.size)
    }

    pub(super) fn linked(self, response: Response) -> Response {
        match self.link {
            Some(link) => response.with_header("Link", link),
            None => response,
        }
    }
}

const PER_PAGE: usize = 30;

/// In GitHub's order: prev, next, last, first. None if everything is on one page.
fn link(context: &RequestContext<'_>, page: usize, last: usize) -> Option<String> {
    if last <= 1 && page <= 1 {
        return None;
    }
    let mut links = Vec::new();
    if page > 1 {
        links.push(("prev", (page - 1).min(last.max(1))));
    }
    if page < last {
        links.push(("next", page + 1));
        if !context.state.options.drop_last_link {
            links.push(("last", last));
        }
    }
    if page > 1 {
        links.push(("first", 1));
    }
    let links: Vec<String> =
        links.iter().map(|(rel, page)| format!("<{}>; rel=\"{rel}\"", url(context, *page))).collect();
    Some(links.join(", "))
}

/// The requested URL with another `page`, all other parameters kept.
fn url(context: &RequestContext<'_>, page: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(context.request.query.iter().filter(|(name, _)| name != "page"));
    query.append_pair("page", &page.to_string());
    format!(
        "{}{}?{}",
        context.state.urls.api,
        context.request.path.as_deref().unwrap_or_default(),
        query.finish()
    )
}
