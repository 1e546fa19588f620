//! A list that mostly has one member, and allocates only where it has more.

use std::{
    mem,
    ops::{Deref, DerefMut},
    slice,
};

#[derive(Clone, Debug)]
pub(crate) enum Few<T> {
    One(T),
    /// Or none.
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(crate) fn push(&mut self, member: T) {
        match self {
            Self::Many(members) if members.capacity() == 0 => *self = Self::One(member),
            Self::Many(members) => members.push(member),
            Self::One(_) => {
                if let Self::One(first) = mem::take(self) {
                    *self = Self::Many(vec![first, member]);
                }
            }
        }
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        match self {
            Self::One(member) if is_kept(member) => {}
            Self::One(_) => *self = Self::default(),
            Self::Many(members) => members.retain(is_kept),
        }
    }

    /// Removes the member that was pushed first.
    pub(crate) fn remove_oldest(&mut self) -> Option<T> {
        match mem::take(self) {
            Self::One(member) => Some(member),
            Self::Many(mut members) => {
                let oldest = (!members.is_empty()).then(|| members.remove(0));
                *self = Self::Many(members);
                oldest
            }
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(member) => slice::from_ref(member),
            Self::Many(members) => members,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(member) => slice::from_mut(member),
            Self::Many(members) => members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_in_the_order_they_came_in_however_many_there_are() {
        let mut few = Few::default();
        assert!(few.is_empty() && few.remove_oldest().is_none());
        (0..4).for_each(|member| few.push(member));
        assert_eq!(*few, [0, 1, 2, 3]);
        assert_eq!(few.remove_oldest(), Some(0));
        few.retain(|member| *member != 2);
        assert_eq!(*few, [1, 3]);
        few.retain(|_| false);
        few.push(5);
        assert_eq!(*few, [5]);
    }

    #[test]
    fn one_member_comes_and_goes() {
        let mut few = Few::default();
        few.push(1);
        few.retain(|member| *member == 1);
        few[0] = 2;
        assert_eq!(few.remove_oldest(), Some(2));
        few.push(3);
        few.retain(|_| false);
        assert!(few.is_empty());
    }
}
