//! List that grows while it is read, without a lock.

use std::{ops::Index, sync::OnceLock};

/// List to which items are appended, up to a capacity. None is ever moved or removed.
#[derive(Debug)]
pub(super) struct AppendList<T> {
    places: Box<[OnceLock<Box<T>>]>,
}

impl<T> AppendList<T> {
    /// Creates a list of these items with room for `more`.
    pub(super) fn new(items: impl Iterator<Item = T>, more: usize) -> Self {
        let places = items.map(|item| OnceLock::from(Box::new(item)));
        Self { places: places.chain((0..more).map(|_| OnceLock::new())).collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map_while(|place| place.get().map(|item| &**item))
    }

    /// Returns the number of items for which there is room.
    pub(super) fn room(&self) -> usize {
        self.places.len() - self.iter().count()
    }

    /// Appends an item, if there is room. One thread at a time may append.
    pub(super) fn push(&self, item: T) {
        if let Some(place) = self.places.iter().find(|place| place.get().is_none()) {
            let _ = place.set(Box::new(item));
        }
    }
}

impl<T> Index<usize> for AppendList<T> {
    type Output = T;

    #[inline]
    fn index(&self, position: usize) -> &T {
        self.places[position].get().expect("a position is that of an item")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are_while_others_are_added() {
        let list = AppendList::new(["a"].into_iter(), 2);
        let first = &list[0];
        assert_eq!((list.iter().count(), list.room()), (1, 2));
        list.push("b");
        assert_eq!((first, &list[1], list.room()), (&"a", &"b", 1));
        list.push("c");
        list.push("d");
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
