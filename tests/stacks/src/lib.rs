//! Nothing: the stacks are tests.
