// SPDX-License-Identifier: Apache-2.0
//! The most recently used things, up to a total weight. Few and large: a list is enough.

use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: VecDeque<(K, V, usize)>,
    weight: usize,
    limit: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), weight: 0, limit }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let index = self.entries.iter().position(|(known, ..)| known == key)?;
        if index > 0 {
            let entry = self.entries.remove(index)?;
            self.entries.push_front(entry);
        }
        self.entries.front().map(|(_, value, _)| value.clone())
    }

    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        self.entries.push_front((key, value, weight));
        self.weight += weight;
        while self.weight > self.limit && self.entries.len() > 1 {
            if let Some((_, _, dropped)) = self.entries.pop_back() {
                self.weight -= dropped;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut recent = Recent::new(10);
        for key in 0..3 {
            recent.put(key, key * 10, 4);
        }
        assert_eq!((recent.get(&0), recent.get(&1), recent.get(&2)), (None, Some(10), Some(20)));
        recent.get(&1);
        recent.put(3, 30, 4);
        assert_eq!((recent.get(&1), recent.get(&2)), (Some(10), None));
        recent.put(4, 40, 1000);
        assert_eq!((recent.get(&4), recent.get(&3)), (Some(40), None), "even what is too heavy serves once");
    }
}
