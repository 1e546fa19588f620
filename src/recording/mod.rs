//! Recording a body while it is served.
//!
//! A recorder owns the origin's body and reads it as fast as it comes. Readers share the chunks, so a slow
//! reader slows no other. If the body turns out not to be storable, the recorder hands the rest of it to
//! the first reader, which reads on at its own pace.

mod budget;
mod cursor;
mod recorder;
mod tape;

pub(crate) use self::{
    budget::{Budget, Reservation},
    cursor::{Cursor, Next, Recorded, Recording},
    recorder::{Recorder, Rest},
    tape::{Stop, Tape},
};
