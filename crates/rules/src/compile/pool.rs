//! Pools and pickers, compiled.

use std::collections::HashSet;
use std::sync::Arc;

use evenflow_state::endpoint::Endpoint;

use crate::compile::{Compiled, Registry};
use crate::decode::Refused;
use crate::decode::refuse;
use crate::member::Member;
use crate::picker::Picker;
use crate::plan;
use crate::pool::Pool;
use crate::sticky::Sticky;
use crate::table::Table;
use crate::tls::client::{EndpointTls, Rules};

pub fn compile_pool(
    pool: &plan::PoolPlan,
    path: &str,
    registry: &mut Registry,
    kept: Option<&Arc<Pool>>,
    states: &mut Vec<(Arc<Endpoint>, plan::EndpointPlan)>,
    added: &mut usize,
) -> Result<Pool, Refused> {
    if let Some(outlier) = &pool.outlier
        && (!(0.0..=1.0).contains(&outlier.max_ejected) || outlier.consecutive_errors == 0)
    {
        return refuse(
            format!("{path}.outlier"),
            "expected consecutive_errors of at least 1 and max_ejected from 0 to 1",
        );
    }
    let tls = compile_tls(pool, path, kept)?;
    let mut ids = HashSet::with_capacity(pool.endpoints.len());
    let mut members = Vec::with_capacity(pool.endpoints.len());
    for (index, wanted) in pool.endpoints.iter().enumerate() {
        check_endpoint(wanted, &mut ids, || format!("{path}.endpoints[{index}]"))?;
        // Most plans change little: the member at the same place is most often the same endpoint,
        // and found without building its key.
        let same = kept
            .and_then(|pool| pool.members.get(index))
            .map(|member| &member.endpoint)
            .filter(|old| {
                old.pool == pool.name && old.id == wanted.id && old.target == wanted.target
            });
        let (endpoint, new) = match same {
            Some(endpoint) => (Arc::clone(endpoint), false),
            None => registry.endpoint(&pool.name, wanted),
        };
        *added += usize::from(new);
        let before = kept
            .filter(|pool| same_rules(pool.tls.as_ref(), tls.as_ref()))
            .and_then(|pool| pool.members.get(index))
            .filter(|member| member.endpoint.uid == endpoint.uid)
            .and_then(|member| member.tls.as_ref());
        let path = || format!("{path}.endpoints[{index}]");
        let own = member_tls(wanted, tls.as_ref(), before, registry, path)?;
        states.push((Arc::clone(&endpoint), wanted.clone()));
        members.push(member(endpoint, wanted, own));
    }
    let sticky = match &pool.sticky {
        None => None,
        Some(sticky) => match Sticky::compile(sticky, &pool.endpoints) {
            Ok(sticky) => Some(Arc::new(sticky)),
            Err(text) => return refuse(format!("{path}.sticky"), text),
        },
    };
    let picker = compile_picker(&pool.picker, members.len(), &format!("{path}.picker"))?;
    Ok(Pool {
        rules: registry.uid(),
        name: Arc::from(pool.name.as_str()),
        counts_in_flight: counts_in_flight(&picker),
        picker,
        members: members.into(),
        use_all: pool.use_all,
        panic: pool.panic,
        queue: pool.queue,
        outlier: pool.outlier,
        breaker: pool.breaker,
        connections: pool.connections,
        sticky,
        retry_budget: pool.retry_budget.clamp(0.0, 1.0),
        retry_floor: pool.retry_floor,
        tls,
        send_proxy: pool.send_proxy,
        state: registry.pool(&pool.name),
    })
}

fn check_endpoint<'a>(
    wanted: &'a plan::EndpointPlan,
    ids: &mut HashSet<&'a str>,
    path: impl Fn() -> String,
) -> Result<(), Refused> {
    if !ids.insert(wanted.id.as_str()) {
        return refuse(format!("{}.id", path()), "used twice");
    }
    if !(1..=65_535).contains(&wanted.weight) {
        return refuse(format!("{}.weight", path()), "expected 1 to 65535");
    }
    Ok(())
}

/// An endpoint's TLS by its pool's rules; `before` is what it had by the very same ones.
fn member_tls(
    wanted: &plan::EndpointPlan,
    rules: Option<&Arc<(plan::UpstreamTls, Rules)>>,
    before: Option<&EndpointTls>,
    registry: &mut Registry,
    path: impl Fn() -> String,
) -> Result<Option<EndpointTls>, Refused> {
    let Some(name) = &wanted.tls_name else {
        return Ok(None);
    };
    if let Some(before) = before
        && before.is_for(name)
    {
        // Its sessions go on.
        return Ok(Some(before.clone()));
    }
    let at = || format!("{}.tls_name", path());
    let Some(rules) = rules else {
        return refuse(at(), "expected null: the pool has no tls");
    };
    let made = rules.1.endpoint(name, registry.uid());
    made.map(Some).map_err(|message| Refused {
        path: at(),
        message,
    })
}

fn member(
    endpoint: Arc<Endpoint>,
    wanted: &plan::EndpointPlan,
    tls: Option<EndpointTls>,
) -> Member {
    Member {
        endpoint,
        connect_timeout_ms: wanted.connect_timeout_ms,
        first_byte_timeout_ms: wanted.first_byte_timeout_ms,
        idle_timeout_ms: wanted.idle_timeout_ms,
        tls,
        http: wanted.http,
    }
}

/// The table in which one pool has other members. What it costs beyond the change is a copy of the
/// list of members.
///
/// # Errors
/// The first thing that is wrong, with its place in the change.
pub fn change_members(
    change: &plan::MembersChange,
    registry: &mut Registry,
    previous: &Table,
) -> Result<Compiled, Refused> {
    let found = previous
        .pools
        .iter()
        .position(|pool| *pool.name == *change.pool);
    let Some(index) = found else {
        return refuse("pool", format!("no pool {:?}", change.pool));
    };
    let old = &previous.pools[index];
    if old.members.len() != change.members {
        return refuse("members", format!("there are {}", old.members.len()));
    }
    let end = change.at.saturating_add(change.remove);
    if end > old.members.len() {
        return refuse("remove", format!("there are {}", old.members.len()));
    }
    let (before, after) = (&old.members[..change.at], &old.members[end..]);
    let mut ids: HashSet<&str> = before
        .iter()
        .chain(after)
        .map(|member| member.endpoint.id.as_str())
        .collect();
    let mut members = Vec::with_capacity(ids.len() + change.insert.len());
    members.extend_from_slice(before);
    let mut states = Vec::with_capacity(change.insert.len());
    let mut added = 0;
    for (index, wanted) in change.insert.iter().enumerate() {
        check_endpoint(wanted, &mut ids, || format!("insert[{index}]"))?;
        let (endpoint, new) = registry.endpoint(&change.pool, wanted);
        added += usize::from(new);
        states.push((Arc::clone(&endpoint), wanted.clone()));
        let path = || format!("insert[{index}]");
        let tls = member_tls(wanted, old.tls.as_ref(), None, registry, path)?;
        members.push(member(endpoint, wanted, tls));
    }
    members.extend_from_slice(after);
    let picker = compile_picker(&change.picker, members.len(), "picker")?;
    let pool = Pool {
        rules: registry.uid(),
        // A pool that ever counted goes on counting: requests in flight were counted in.
        counts_in_flight: old.counts_in_flight || counts_in_flight(&picker),
        picker,
        members: members.into(),
        use_all: change.use_all,
        panic: change.panic,
        ..(**old).clone()
    };
    let mut table = previous.clone();
    table.revision = change.revision;
    table.pools[index] = Arc::new(pool);
    Ok(Compiled {
        table,
        added,
        states,
    })
}

type PoolTls = Option<Arc<(plan::UpstreamTls, Rules)>>;

/// The pool's TLS; what is as it was in the plan before is not compiled again.
fn compile_tls(
    pool: &plan::PoolPlan,
    path: &str,
    kept: Option<&Arc<Pool>>,
) -> Result<PoolTls, Refused> {
    let Some(wanted) = &pool.tls else {
        return Ok(None);
    };
    if let Some(tls) = kept.and_then(|pool| pool.tls.as_ref())
        && tls.0 == *wanted
    {
        return Ok(Some(Arc::clone(tls)));
    }
    let rules = Rules::compile(wanted).map_err(|(field, message)| Refused {
        path: format!("{path}.tls.{field}"),
        message,
    })?;
    Ok(Some(Arc::new((wanted.clone(), rules))))
}

fn same_rules(
    before: Option<&Arc<(plan::UpstreamTls, Rules)>>,
    now: Option<&Arc<(plan::UpstreamTls, Rules)>>,
) -> bool {
    matches!((before, now), (Some(before), Some(now)) if Arc::ptr_eq(before, now))
}

/// Whether requests in flight over the whole pool must be counted for this picker.
pub fn counts_in_flight(picker: &Picker) -> bool {
    matches!(
        picker,
        Picker::Hash {
            load_bound: Some(_),
            ..
        }
    )
}

/// Compiles a picker for a pool of so many members.
///
/// # Errors
/// An index outside the pool, or an empty table for a pool that has members.
pub fn compile_picker(
    picker: &plan::PickerPlan,
    members: usize,
    path: &str,
) -> Result<Picker, Refused> {
    let checked = |table: &[u32]| {
        if let Some(at) = table.iter().position(|&index| index as usize >= members) {
            return refuse(
                format!("{path}.table[{at}]"),
                format!("expected an index below {members}"),
            );
        }
        if table.is_empty() && members > 0 {
            return refuse(format!("{path}.table"), "expected at least one index");
        }
        Ok(Box::from(table))
    };
    Ok(match picker {
        plan::PickerPlan::Cycle { table } => Picker::Cycle(checked(table)?),
        plan::PickerPlan::Hash {
            key,
            table,
            load_bound,
        } => {
            if load_bound.is_some_and(|bound| !(bound.is_finite() && bound >= 1.0)) {
                return refuse(format!("{path}.load_bound"), "expected a number from 1");
            }
            Picker::Hash {
                key: key.clone(),
                table: checked(table)?,
                load_bound: *load_bound,
            }
        }
        plan::PickerPlan::Least { score, choices } => Picker::Least {
            score: *score,
            choices: *choices,
        },
    })
}
