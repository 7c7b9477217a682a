//! The table in force, with what the engine opens for it.

use std::ops::Deref;
use std::sync::Arc;

use evenflow_rules::table::Table;

use crate::access_log::AccessLog;

/// What all workers serve by. A request takes it once and keeps it to its end.
#[derive(Debug)]
pub struct Published {
    table: Table,
    /// Where requests are recorded.
    pub access_log: Option<Arc<AccessLog>>,
}

impl Published {
    /// A table with its access log.
    pub fn new(table: Table, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { table, access_log }
    }

    /// Another table with the same access log.
    pub fn with(&self, table: Table) -> Self {
        Self::new(table, self.access_log.clone())
    }

    /// The rules.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl Deref for Published {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        &self.table
    }
}
