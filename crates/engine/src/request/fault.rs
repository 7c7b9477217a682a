//! Faults put in on purpose, to see how those who call bear them.

use std::time::Duration;

use evenflow_rules::plan::FaultPlan;
use evenflow_rules::table::Route;

use crate::connection::Connection;

/// Waits as the route's rule says; the status to answer with, if the request is to fail.
pub async fn inject(connection: &Connection, route: &Route, fault: &FaultPlan) -> Option<u16> {
    let happened = |what| {
        let mut stats = connection.worker.stats.borrow_mut();
        stats.happened(route.uid, what);
    };
    if fault.delay_ms > 0 && fastrand::f64() < fault.delay_share {
        happened("fault_delayed");
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    if fault.abort_status > 0 && fastrand::f64() < fault.abort_share {
        happened("fault_aborted");
        return Some(fault.abort_status);
    }
    None
}
