//! Keys of features that this version does not have. A value that asks for one is refused, because to start
//! without it would break what the operator relies on. Whoever builds a feature deletes its refusal here.

use super::error::Error;
use super::values::Values;

pub(super) fn refuse(values: &Values) -> Result<(), Error> {
    let callers = values.get("callers");
    if callers.has_items() {
        return Err(callers.error(
            "[[callers]] is not enforced by this version, so it will not start with it: remove the entries, \
             or guard the unix socket by its mode",
        ));
    }
    Ok(())
}
