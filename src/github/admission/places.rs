//! Concurrency limit: places for calls in flight. Pure.
//!
//! A call holds its place for as long as GitHub takes to answer, so whatever hangs is kept from holding all of them.

use std::collections::HashMap;
use std::hash::Hash;

use super::fair_queue::Class;
use crate::model::ClientId;

/// A bounded pool with caps.
#[derive(Debug)]
pub(crate) struct Places {
    total: usize,
    taken: usize,
    by_holder: HashMap<Holder, usize>,
}

/// Who must not hold all places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Class(Class),
    Client(ClientId),
    /// An installation, or a name that is looked up, by its hash.
    Subject(u128),
}

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) class: Class,
    pub(crate) client: ClientId,
    pub(crate) subject: u128,
}

impl Places {
    pub(crate) fn new(total: usize) -> Self {
        Self { total: total.max(1), taken: 0, by_holder: HashMap::new() }
    }

    /// Whether `claim` may have a place.
    pub(crate) fn has_room(&self, claim: &Claim) -> bool {
        self.taken < self.total
            && holders(claim)
                .all(|holder| self.by_holder.get(&holder).is_none_or(|held| *held < self.cap(holder)))
    }

    pub(crate) fn take(&mut self, claim: &Claim) {
        self.taken += 1;
        for holder in holders(claim) {
            *self.by_holder.entry(holder).or_default() += 1;
        }
    }

    pub(crate) fn release(&mut self, claim: &Claim) {
        self.taken = self.taken.saturating_sub(1);
        for holder in holders(claim) {
            if let Some(held) = self.by_holder.get_mut(&holder) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    self.by_holder.remove(&holder);
                }
            }
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    fn cap(&self, holder: Holder) -> usize {
        let share = match holder {
            Holder::Class(Class::Suspect) => self.total / 3,
            Holder::Class(Class::Ahead) => self.total / 2,
            // The daemon's own calls are bounded by their class.
            Holder::Class(_) | Holder::Client(ClientId::BACKGROUND) => self.total,
            Holder::Client(_) => self.total * 3 / 4,
            Holder::Subject(_) => self.total / 4,
        };
        share.max(1)
    }
}

fn holders(claim: &Claim) -> impl Iterator<Item = Holder> + use<> {
    [Holder::Class(claim.class), Holder::Client(claim.client), Holder::Subject(claim.subject)].into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(class: Class, client: u64, subject: u128) -> Claim {
        Claim { class, client: ClientId::new(client), subject }
    }

    fn fill(places: &mut Places, claims: impl Iterator<Item = Claim>) -> usize {
        claims
            .take_while(|claim| {
                places.has_room(claim) && {
                    places.take(claim);
                    true
                }
            })
            .count()
    }

    #[test]
    fn caps_keep_each_holder_to_its_share() {
        for (class, client, expected) in
            [(Class::Suspect, 0, 21), (Class::Ahead, 0, 32), (Class::New, 0, 64), (Class::New, 1, 48)]
        {
            let mut places = Places::new(64);
            assert_eq!(fill(&mut places, (0..100).map(|subject| claim(class, client, subject))), expected);
        }
        let mut places = Places::new(64);
        assert_eq!(fill(&mut places, (0..100).map(|client| claim(Class::New, client, 7))), 16);
        assert!(places.has_room(&claim(Class::New, 200, 8)));
    }

    #[test]
    fn single_place_serves_every_class() {
        for class in [Class::First, Class::InUse, Class::New, Class::Ahead, Class::Suspect] {
            assert!(Places::new(1).has_room(&claim(class, 1, 1)));
        }
    }

    proptest! {
        #[test]
        fn released_places_leave_nothing_behind(
            steps in proptest::collection::vec((0u64..4, 0u128..4, any::<bool>()), 1..300),
        ) {
            let (mut places, mut held) = (Places::new(8), Vec::new());
            for (client, subject, takes) in steps {
                let claim = claim(Class::New, client, subject);
                if takes && places.has_room(&claim) {
                    places.take(&claim);
                    held.push(claim);
                } else if let Some(claim) = held.pop() {
                    places.release(&claim);
                }
                prop_assert!(places.taken() == held.len() && held.len() <= 8);
            }
            held.iter().for_each(|claim| places.release(claim));
            prop_assert!(places.taken() == 0 && places.by_holder.is_empty());
        }
    }
}
