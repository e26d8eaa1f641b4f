//! A weighted fair queue for the calls of one app. Pure.
//!
//! Classes share what there is by weight, and the clients of a class take turns. Whatever one does not use, the others
//! have: there are no reserves. Stride scheduling: each class has a pass, the lowest goes next, and moves on by what its
//! call cost over the class's weight. A class that was idle starts at the lowest: what is rare goes next.

use std::collections::VecDeque;

use crate::model::ClientId;

/// What a call is waited for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Probes and confirmations.
    First,
    /// Mints of keys in use.
    InUse,
    /// Whatever else a caller waits for.
    New,
    /// Before its time.
    Ahead,
    /// Whose last attempt failed: what fails pays for itself.
    Suspect,
}

impl Class {
    const ALL: [Self; 5] = [Self::First, Self::InUse, Self::New, Self::Ahead, Self::Suspect];

    const fn weight(self) -> u64 {
        match self {
            Self::First | Self::InUse => 5,
            Self::New => 4,
            Self::Ahead => 3,
            Self::Suspect => 2,
        }
    }
}

/// Whether an item may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Take,
    /// Not this one; the next may.
    Skip,
    /// None may.
    Stop,
}

/// Items of type `T`, in turn; those of one client in the order of their rank `R`.
#[derive(Debug)]
pub(crate) struct FairQueue<R, T> {
    classes: [Lane<R, T>; Class::ALL.len()],
    virtual_time: u64,
    len: usize,
}

#[derive(Debug)]
struct Lane<R, T> {
    pass: u64,
    /// In the order of their turns, none empty.
    clients: VecDeque<(ClientId, VecDeque<(R, T)>)>,
}

impl<R: Ord, T> FairQueue<R, T> {
    pub(crate) fn new() -> Self {
        let classes = std::array::from_fn(|_| Lane { pass: 0, clients: VecDeque::new() });
        Self { classes, virtual_time: 0, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many items of `client` wait, in all classes.
    pub(crate) fn len_of(&self, client: ClientId) -> usize {
        let lanes = self.classes.iter().flat_map(|lane| &lane.clients);
        lanes.filter(|(of, _)| *of == client).map(|(_, items)| items.len()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.classes.iter().flat_map(|lane| &lane.clients).flat_map(|(_, items)| items).map(|(_, item)| item)
    }

    pub(crate) fn push(&mut self, class: Class, client: ClientId, rank: R, item: T) {
        self.len += 1;
        let virtual_time = self.virtual_time;
        let lane = &mut self.classes[class as usize];
        if lane.clients.is_empty() {
            // A class that was idle has saved up nothing, and goes next.
            lane.pass = lane.pass.max(virtual_time);
        }
        match lane.clients.iter_mut().find(|(of, _)| *of == client) {
            Some((_, items)) => {
                let at = items.partition_point(|(other, _)| *other <= rank);
                items.insert(at, (rank, item));
            }
            None => lane.clients.push_back((client, [(rank, item)].into())),
        }
    }

    /// Takes the item whose turn it is of those that may go; `cost` of it moves its class on.
    pub(crate) fn pop(&mut self, mut may_go: impl FnMut(&T) -> Turn, cost: impl Fn(&T) -> u32) -> Option<T> {
        for class in self.order() {
            let lane = &mut self.classes[class as usize];
            for client in 0..lane.clients.len() {
                for at in 0..lane.clients[client].1.len() {
                    match may_go(&lane.clients[client].1[at].1) {
                        Turn::Skip => {}
                        Turn::Stop => return None,
                        Turn::Take => return self.take(class, client, at, cost),
                    }
                }
            }
        }
        None
    }

    /// Takes out every item that is `meant`.
    pub(crate) fn remove_where(&mut self, meant: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for lane in &mut self.classes {
            for (_, items) in &mut lane.clients {
                if items.iter().any(|(_, item)| meant(item)) {
                    let (gone, kept): (Vec<_>, Vec<_>) = items.drain(..).partition(|(_, item)| meant(item));
                    items.extend(kept);
                    removed.extend(gone.into_iter().map(|(_, item)| item));
                }
            }
            lane.clients.retain(|(_, items)| !items.is_empty());
        }
        self.len -= removed.len();
        removed
    }

    fn take(&mut self, class: Class, client: usize, at: usize, cost: impl Fn(&T) -> u32) -> Option<T> {
        let lane = &mut self.classes[class as usize];
        let (of, mut items) = lane.clients.remove(client)?;
        let (_, item) = items.remove(at)?;
        if !items.is_empty() {
            lane.clients.push_back((of, items));
        }
        self.virtual_time = lane.pass;
        lane.pass += STRIDE * u64::from(cost(&item).max(1)) / class.weight();
        self.len -= 1;
        Some(item)
    }

    /// The classes in which something waits, in the order of their turns.
    fn order(&self) -> Vec<Class> {
        let lane = |class: Class| &self.classes[class as usize];
        let mut waiting: Vec<_> =
            Class::ALL.into_iter().filter(|class| !lane(*class).clients.is_empty()).collect();
        waiting.sort_by_key(|class| lane(*class).pass);
        waiting
    }
}

/// Fine enough for shares of single points.
const STRIDE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pop<T: Copy>(queue: &mut FairQueue<u64, T>) -> Option<T> {
        queue.pop(|_| Turn::Take, |_| 5)
    }

    fn client(number: u64) -> ClientId {
        ClientId::new(number)
    }

    #[test]
    fn backlogged_classes_share_by_weight() {
        let mut queue = FairQueue::new();
        for class in Class::ALL.into_iter().skip(1) {
            (0..1000).for_each(|_| queue.push(class, client(1), 0, class));
        }
        let mut served = [0; 5];
        (0..1400).for_each(|_| served[pop(&mut queue).unwrap() as usize] += 1);
        for (share, expected) in served.into_iter().zip([0_i32, 500, 400, 300, 200]) {
            assert!((share - expected).abs() <= 2, "{served:?}");
        }
    }

    #[test]
    fn clients_of_a_class_take_turns() {
        let mut queue = FairQueue::new();
        (0..100).for_each(|_| queue.push(Class::New, client(1), 0, 1));
        (0..2).for_each(|_| queue.push(Class::New, client(2), 0, 2));
        let served: Vec<_> = (0..5).filter_map(|_| pop(&mut queue)).collect();
        assert_eq!(served, [1, 2, 1, 2, 1]);
    }

    #[test]
    fn items_of_a_client_go_by_rank() {
        let mut queue = FairQueue::new();
        [3, 1, 2].into_iter().for_each(|rank| queue.push(Class::Ahead, client(0), rank, rank));
        assert_eq!([1, 2, 3].map(|_| pop(&mut queue)), [1, 2, 3].map(Some));
    }

    #[test]
    fn idle_class_saves_up_nothing() {
        let mut queue = FairQueue::new();
        (0..2000).for_each(|_| queue.push(Class::New, client(1), 0, Class::New));
        (0..1000).for_each(|_| assert!(pop(&mut queue).is_some()));
        (0..100).for_each(|_| queue.push(Class::Suspect, client(2), 0, Class::Suspect));
        let suspects = (0..60).filter(|_| pop(&mut queue) == Some(Class::Suspect)).count();
        assert!((19..=21).contains(&suspects), "{suspects}");
    }

    #[test]
    fn item_that_may_not_go_lets_the_next_pass() {
        let mut queue = FairQueue::new();
        (1..=3).for_each(|item| queue.push(Class::New, client(1), 0, item));
        queue.push(Class::First, client(0), 0, 9);
        assert_eq!(pop(&mut queue), Some(9), "probes go first");
        assert_eq!(queue.pop(|item| if *item == 1 { Turn::Skip } else { Turn::Take }, |_| 1), Some(2));
        assert_eq!(queue.pop(|_| Turn::Stop, |_| 1), None);
        assert_eq!(
            (queue.remove_where(|item| *item == 3), queue.len(), queue.len_of(client(1))),
            (vec![3], 1, 1)
        );
    }

    proptest! {
        #[test]
        fn everything_that_waits_is_served_once(
            items in proptest::collection::vec((0usize..5, 0u64..4), 0..100), removed in 0usize..100,
        ) {
            let mut queue = FairQueue::new();
            for (at, (class, of)) in items.iter().enumerate() {
                queue.push(Class::ALL[*class], client(*of), 0, at);
            }
            let mut served = queue.remove_where(|item| *item == removed);
            while let Some(item) = pop(&mut queue) {
                served.push(item);
            }
            served.sort_unstable();
            prop_assert_eq!(served, (0..items.len()).collect::<Vec<_>>());
            prop_assert_eq!(queue.len(), 0);
        }

        #[test]
        fn modest_client_waits_one_turn_of_each_other(greedy in 1u64..40) {
            let mut queue = FairQueue::new();
            for of in 1..=greedy {
                (0..64).for_each(|_| queue.push(Class::New, client(of), 0, of));
            }
            queue.push(Class::New, client(99), 0, 99);
            let place = std::iter::from_fn(|| pop(&mut queue)).position(|of| of == 99);
            prop_assert_eq!(place, Some(greedy as usize));
        }
    }
}
