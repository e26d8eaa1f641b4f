//! The part of the settings that can change while the daemon runs.

use std::collections::BTreeSet;

use super::{Settings, effective};

impl Settings {
    /// These settings, with what of `new` can be put in force without a restart: `log.level`, `listen.allowed_hosts`,
    /// `listen.require_client_header`, and the key files of an app that is still the same app.
    pub fn with_live_part_of(&self, new: &Self) -> Self {
        let mut next = self.clone();
        next.log.level = new.log.level;
        next.listen.allowed_hosts.clone_from(&new.listen.allowed_hosts);
        next.listen.require_client_header = new.listen.require_client_header;
        for (name, app) in &mut next.apps {
            if let Some(new) = new.apps.get(name).filter(|new| new.id == app.id) {
                app.keys.clone_from(&new.keys);
            }
        }
        next
    }

    /// The keys whose values are not the same here and in `other`, such as `listen.tcp`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (effective::values(self), effective::values(other));
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).cloned().collect();
        // Its password is masked among the values.
        let is_other_proxy = self.github.proxy != other.github.proxy;
        let differs =
            |name: &String| ours.get(name) != theirs.get(name) || (name == "github.proxy" && is_other_proxy);
        names.into_iter().filter(differs).collect()
    }
}
