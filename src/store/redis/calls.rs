//! Calls to the origin, which processes count together.

use std::time::Duration;

use redis::{Cmd, Value};

use super::{
    link::{SHARE_CALLS, bulk},
    state::StoreState,
};
use crate::{
    metrics::operations::Operation,
    origin::{CallReport, SharedBudget},
};

impl StoreState {
    /// Adds the calls of this process to those of all; `None` if the server could not be asked.
    pub(super) async fn share_calls(&self, report: &CallReport) -> Option<SharedBudget> {
        let connection = self.link.connection()?;
        let key = self.link.settings.calls_key(report.origin());
        let times = [report.spent(), report.owed(), report.initial(), report.longest_debt()];
        let arguments = |call: &mut Cmd| {
            call.arg(format!("{:016x}", report.process()));
            for time in times {
                call.arg(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            }
        };
        let mut transport = connection.transport();
        let called = SHARE_CALLS.call(&mut transport, &key, arguments);
        let reply = self.link.ask(&connection, Operation::ShareCalls, called).await.ok()?;
        let Value::Array(reply) = reply else { return None };
        let [owed, processes] = <[Value; 2]>::try_from(reply).ok()?;
        let owed = std::str::from_utf8(&bulk(owed)?).ok()?.parse().ok()?;
        let Value::Int(processes) = processes else { return None };
        let processes = u32::try_from(processes).ok()?;
        Some(SharedBudget { owed: Duration::from_micros(owed), processes })
    }
}
