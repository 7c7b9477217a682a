//! Faults put in on purpose, to see how those who call bear them.

use std::rc::Rc;

use evenflow_rules::plan::FaultPlan;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Route;

use crate::connection::Connection;

/// Waits as the route's rule says. If the request is to fail: with this status, or because the
/// client left meanwhile.
pub async fn inject(
    connection: &mut Connection,
    route: &Route,
    fault: &FaultPlan,
) -> Option<Result<u16, Reason>> {
    let worker = Rc::clone(&connection.worker);
    let happened = |what| worker.stats.borrow_mut().happened(route.uid, what);
    if fault.delay_ms > 0 && fastrand::f64() < fault.delay_share {
        happened("fault_delayed");
        if let Err(reason) = connection.pause(fault.delay_ms).await {
            return Some(Err(reason));
        }
    }
    if fault.abort_status > 0 && fastrand::f64() < fault.abort_share {
        happened("fault_aborted");
        return Some(Ok(fault.abort_status));
    }
    None
}
