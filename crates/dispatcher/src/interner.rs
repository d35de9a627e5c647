//! Equal keys get one small number, counted by use.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A number given by an [`Interner`].
pub(crate) trait Number: Copy {
    /// The number as an index.
    fn index(self) -> usize;
    /// The number at an index.
    fn at(index: u32) -> Self;
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(u32);

        impl Number for $name {
            fn index(self) -> usize {
                self.0 as usize
            }
            fn at(index: u32) -> Self {
                Self(index)
            }
        }
    };
}

number!(
    /// A requirement class.
    ClassId
);
number!(
    /// A repository.
    RepositoryId
);
number!(
    /// A runner group.
    GroupId
);
number!(
    /// A group and the part of a scope that its runners serve.
    PoolId
);
number!(
    /// What runners with equal abilities have in common.
    ProfileId
);

/// Keys with their numbers, values and use counts. Numbers are handed out and reused in a fixed order.
#[derive(Debug)]
pub(crate) struct Interner<I, K, V> {
    numbers: BTreeMap<Arc<K>, I>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<I>,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: Arc<K>,
    uses: usize,
    value: V,
}

impl<I, K, V> Default for Interner<I, K, V> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<I: Number, K: Ord, V: Default> Interner<I, K, V> {
    /// The number of `key`, used once more, and whether the key is new.
    pub(crate) fn retain(&mut self, key: K) -> (I, bool) {
        if let Some(&id) = self.numbers.get(&key) {
            self.slot_mut(id).uses += 1;
            return (id, false);
        }
        let key = Arc::new(key);
        let slot = Some(Slot { key: Arc::clone(&key), uses: 1, value: V::default() });
        let id = if let Some(id) = self.free.pop() {
            self.slots[id.index()] = slot;
            id
        } else {
            self.slots.push(slot);
            I::at(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 keys fit into memory"))
        };
        self.numbers.insert(key, id);
        (id, true)
    }

    /// One more use of a key.
    pub(crate) fn reuse(&mut self, id: I) {
        self.slot_mut(id).uses += 1;
    }

    /// The number of a key that has one.
    pub(crate) fn find(&self, key: &K) -> Option<I> {
        self.numbers.get(key).copied()
    }

    /// Ends one use and says how many are left. A key without uses stays until [`Self::remove`].
    pub(crate) fn release(&mut self, id: I) -> usize {
        let slot = self.slot_mut(id);
        slot.uses -= 1;
        slot.uses
    }

    /// Forgets a key without uses.
    pub(crate) fn remove(&mut self, id: I) -> (Arc<K>, V) {
        let slot = self.slots[id.index()].take().expect("the number is in use");
        debug_assert_eq!(slot.uses, 0);
        self.numbers.remove(&slot.key);
        self.free.push(id);
        (slot.key, slot.value)
    }

    pub(crate) fn key(&self, id: I) -> &Arc<K> {
        &self.slot(id).key
    }

    pub(crate) fn get(&self, id: I) -> &V {
        &self.slot(id).value
    }

    pub(crate) fn get_mut(&mut self, id: I) -> &mut V {
        &mut self.slot_mut(id).value
    }

    /// Every number, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = I> + '_ {
        (0u32..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).map(|(at, _)| I::at(at))
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn slot(&self, id: I) -> &Slot<K, V> {
        self.slots[id.index()].as_ref().expect("the number is in use")
    }

    fn slot_mut(&mut self, id: I) -> &mut Slot<K, V> {
        self.slots[id.index()].as_mut().expect("the number is in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_a_number_until_the_last_use_ends() {
        let mut interner: Interner<ClassId, String, u8> = Interner::default();
        let (a, new) = interner.retain("a".to_owned());
        assert!(new);
        assert_eq!(interner.retain("a".to_owned()), (a, false));
        let (b, _) = interner.retain("b".to_owned());
        assert_ne!(a, b);
        assert_eq!(interner.release(a), 1);
        assert_eq!(interner.release(a), 0);
        interner.remove(a);
        assert_eq!(interner.ids().collect::<Vec<_>>(), [b]);
        assert_eq!(interner.retain("c".to_owned()), (a, true), "the number is free again");
        assert_eq!(interner.len(), 2);
    }
}
