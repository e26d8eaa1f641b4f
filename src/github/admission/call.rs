//! What a call to GitHub is to admission: what it asks, what else would fail with it, and what it costs.

use std::hash::Hash;

use super::budget::Cost;
use super::topic::Topic;
use crate::keyed_hash::KeyedHash;
use crate::model::{AppName, InstallationId, Priority, Selector, TokenKey};

/// What is asked of GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// A token.
    Mint,
    /// An installation by name or id.
    LookUp,
    /// The installations, a page each.
    List,
    /// The app itself.
    App,
    /// The end of a token.
    Revoke,
    /// Who a user is.
    Identify,
}

impl Operation {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::LookUp => "look_up",
            Self::List => "list",
            Self::App => "app",
            Self::Revoke => "revoke",
            Self::Identify => "identify",
        }
    }
}

/// A call that wants to be let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) topic: Topic,
    pub(crate) cost: Cost,
}

/// Makes calls. Questions are known by their hash, so that long ones weigh no more than short ones.
#[derive(Debug, Default)]
pub(crate) struct Calls(KeyedHash);

impl Calls {
    pub(crate) fn mint(&self, key: &TokenKey) -> Call {
        let installation = self.installation(&key.app, key.installation);
        let topic = Topic { installation: Some(installation), ..self.topic(&key.app, &key, installation) };
        Call { operation: Operation::Mint, topic, cost: Cost::Mint }
    }

    /// A probe asks whatever is remembered of the question.
    pub(crate) fn look_up(&self, app: &AppName, selector: &Selector, priority: Priority) -> Call {
        let subject = match (selector, selector.owner()) {
            (Selector::Id(id), _) => self.installation(app, *id),
            // However many repositories somebody thinks of, they are one owner's.
            (_, Some(owner)) => self.hash(&(app, "owner", owner)),
            (_, None) => self.hash(&(app, selector)),
        };
        let question = self.hash(&(app, "look-up", selector));
        let topic = self.probed(app, question, subject, priority);
        Call { operation: Operation::LookUp, topic, cost: Cost::Read }
    }

    pub(crate) fn list(&self, app: &AppName) -> Call {
        self.read_of_app(Operation::List, app, Priority::New)
    }

    pub(crate) fn app(&self, app: &AppName, priority: Priority) -> Call {
        self.read_of_app(Operation::App, app, priority)
    }

    /// It is never made twice, so nothing is remembered of it.
    pub(crate) fn identify(&self, app: &AppName) -> Call {
        let subject = self.hash(&(app, "identity"));
        let topic = Topic { question: None, ..self.topic(app, &(), subject) };
        Call { operation: Operation::Identify, topic, cost: Cost::Write }
    }

    /// `of`: the app and installation of a token that was minted here.
    pub(crate) fn revoke(&self, of: Option<(&AppName, InstallationId)>) -> Call {
        let app = of.map(|(app, _)| app.clone());
        let subject = of.map_or_else(|| self.hash(&"foreign"), |(app, id)| self.installation(app, id));
        let cost = if of.is_some() { Cost::Free } else { Cost::Read };
        let topic = Topic { app, signed_by_app: false, installation: None, question: None, subject };
        Call { operation: Operation::Revoke, topic, cost }
    }

    fn read_of_app(&self, operation: Operation, app: &AppName, priority: Priority) -> Call {
        let question = self.hash(&(app, operation));
        Call { operation, topic: self.probed(app, question, question, priority), cost: Cost::Read }
    }

    fn topic(&self, app: &AppName, question: &impl Hash, subject: u128) -> Topic {
        let question = Some(self.hash(question));
        Topic { app: Some(app.clone()), signed_by_app: true, installation: None, question, subject }
    }

    fn probed(&self, app: &AppName, question: u128, subject: u128, priority: Priority) -> Topic {
        let question = (priority != Priority::Probe).then_some(question);
        Topic { question, ..self.topic(app, &(), subject) }
    }

    /// The hash of an installation, by which its failures are remembered.
    pub(crate) fn installation(&self, app: &AppName, id: InstallationId) -> u128 {
        self.hash(&(app, "installation", id))
    }

    fn hash(&self, question: &impl Hash) -> u128 {
        self.0.of(question)
    }
}
