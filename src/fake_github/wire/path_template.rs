//! Path templates such as `/repos/{owner}/{repo}`.

/// The values that `path` has for the parameters `{…}` of `template`, if it matches.
pub(crate) fn match_path<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
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
