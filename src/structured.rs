//! Reading of structured fields (RFC 9651), beside what their parser brings.

use std::convert::Infallible;

use sfv::{
    BareItemFromInput,
    visitor::{EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor},
};

/// Visitor that calls a closure with a bare item. Parameters mean nothing, nor does a list in place of the item.
pub(crate) struct OnItem<F>(pub(crate) F);

impl<'de, F: FnOnce(BareItemFromInput<'de>)> ItemVisitor<'de> for OnItem<F> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        (self.0)(item);
        Ok(Ignored)
    }
}

impl<'de, F: FnOnce(BareItemFromInput<'de>)> EntryVisitor<'de> for OnItem<F> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}
