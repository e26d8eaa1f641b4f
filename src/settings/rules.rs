//! Rules about several keys, and options reserved for future versions.

use super::error::Error;
use super::key_table::Listen;
use super::read;
use super::values::Values;

/// Refuses keys of features that this version does not have: to start without one would break what the operator relies
/// on. Delete the refusal when the feature is built.
pub(super) fn supported(values: &Values) -> Result<(), Error> {
    let callers = values.get("callers");
    if callers.has_items() {
        return Err(callers.error(
            "[[callers]] is not enforced by this version, so it will not start with it: remove the entries, \
             or guard the unix socket by its mode",
        ));
    }
    Ok(())
}

/// Callers need a listener.
pub(super) fn has_listener(listen: &Listen, values: &Values) -> Result<(), Error> {
    if listen.tcp.is_some() || listen.unix.is_some() {
        return Ok(());
    }
    let unix = values.get("listen.unix").origin();
    let problem = format!("is off, and so is listen.unix ({unix}): no caller could connect; set one");
    Err(values.get("listen.tcp").error(problem))
}

/// The windows of a token's life follow each other.
pub(super) fn ordered_windows(values: &Values) -> Result<(), Error> {
    for (longer, shorter) in [("renew_before", "min_validity"), ("min_validity", "grace")] {
        let get = |key| values.get(&format!("cache.{key}"));
        let (long, short) = (get(longer), get(shorter));
        if read::duration(long)? < read::duration(short)? {
            return Err(long.error(format!(
                "{} is less than cache.{shorter} = {} ({}): renew_before ≥ min_validity ≥ grace is wanted",
                long.shown(),
                short.shown(),
                short.origin()
            )));
        }
    }
    Ok(())
}
