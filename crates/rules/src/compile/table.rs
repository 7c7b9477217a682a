//! From a plan to a table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use evenflow_wire::http1::head::MAX_FIELDS;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustls::ServerConfig;

use crate::action::Action;
use crate::compile::Registry;
use crate::compile::compiled::Compiled;
use crate::compile::filters::Filters;
use crate::compile::pool::compile_pool;
use crate::decode::refuse;
use crate::decode::{Refused, decode};
use crate::filters::ip_set::IpSet;
use crate::mirror::Mirror;
use crate::passthrough::Passthrough;
use crate::plan::{self, EscapedSlashes, Plan, Protocol};
use crate::rewrite::Rewrite;
use crate::route::{RouteError, Router};
use crate::table::{Listener, Route, Table};
use crate::tls::server::{self, Certificates};

/// Compiles a plan. The registry may gain entries for a plan that is refused in the end; the next
/// [`Registry::prune`] takes them away.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn compile(
    plan: &Plan,
    registry: &mut Registry,
    previous: Option<&Table>,
) -> Result<Compiled, Refused> {
    check_globals(plan)?;
    let mut filters = Filters::new(plan, registry, previous)?;

    let mut states = Vec::new();
    let mut added = 0;
    let mut pool_indices = Indices::default();
    let mut pools = Vec::with_capacity(plan.pools.len());
    for (index, pool) in plan.pools.iter().enumerate() {
        let path = format!("pools[{index}]");
        if pool_indices.insert(pool.name.as_str(), index).is_some() {
            return refuse(format!("{path}.name"), "used twice");
        }
        let kept = previous.and_then(|table| table.pools.get(index));
        pools.push(Arc::new(compile_pool(
            pool,
            &path,
            registry,
            kept,
            &mut states,
            &mut added,
        )?));
    }

    let mut routes: Vec<Route> = Vec::with_capacity(plan.routes.len());
    let mut names = HashSet::new();
    for (index, route) in plan.routes.iter().enumerate() {
        let path = format!("routes[{index}]");
        if !names.insert(&route.name) {
            return refuse(format!("{path}.name"), "used twice");
        }
        routes.push(compile_route(
            route,
            &path,
            registry,
            &pool_indices,
            &mut filters,
        )?);
    }

    let certificates = certificates(plan, registry)?;
    let mut listeners = Vec::with_capacity(plan.listeners.len());
    let mut names = HashSet::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let path = format!("listeners[{index}]");
        if !names.insert(listener.name.as_str()) {
            return refuse(format!("{path}.name"), "used twice");
        }
        check_listener(listener, &path)?;
        let pool = listener_pool(listener, &path, &pool_indices)?;
        filters.compile(&listener.filters, &format!("{path}.filters"))?;
        let chains = filters.chains(plan, listener)?;
        listeners.push(Listener {
            state: registry.listener(&listener.name),
            addresses: addresses(listener),
            answers: listener.answers,
            retries: listener.retries,
            protocol: listener.protocol,
            http2: listener.http2,
            chain: chains.alone,
            chains: chains.by_route,
            pool,
            limits: listener.limits.clone(),
            timeouts: listener.timeouts.clone(),
            trusted: trusted(&listener.trusted_proxies),
            forwarded: listener.forwarded,
            trace: listener.trace,
            decode_slashes: listener.escaped_slashes == EscapedSlashes::Decode,
            tls: tls(listener, &path, &certificates, registry)?,
            redirect_https: listener.redirect_https,
            passthrough: passthrough(listener, &path, &pool_indices)?,
            proxies: listener.proxy_protocol.as_ref().map(proxies),
            router: router(plan, listener)?,
        });
    }
    check_listeners_of_routes(plan, &names)?;
    let (filter_state, refusals) = filters.into_state(plan);
    let numbers = listeners.iter().map(|listener| listener.state.uid);
    let listener_indices = Arc::new(numbers.zip(0..).collect());
    Ok(Compiled {
        table: Table {
            listener_indices,
            route_indices: Arc::new(routes.iter().map(|route| route.uid).zip(0..).collect()),
            revision: plan.revision,
            server_name: Arc::from(plan.server_name.as_str()),
            access_sample: plan.access_log.as_ref().map_or(0.0, |log| log.sample),
            listeners: listeners.into(),
            routes: routes.into(),
            pools,
            filter_state,
            refusals,
        },
        added,
        states,
    })
}

/// Compiles a plan without serving it: for fuzzing and benchmarks.
///
/// # Errors
/// Where the plan is wrong.
pub fn check(document: &[u8]) -> Result<Compiled, Refused> {
    let plan: Plan = decode(document)?;
    compile(&plan, &mut Registry::default(), None)
}

/// Places of named things in the plan.
type Indices<'a> = HashMap<&'a str, usize>;

fn check_globals(plan: &Plan) -> Result<(), Refused> {
    if plan.version != plan::VERSION {
        return refuse("version", format!("expected {}", plan::VERSION));
    }
    if let Some(log) = &plan.access_log
        && !(0.0..=1.0).contains(&log.sample)
    {
        return refuse("access_log.sample", "expected a share from 0 to 1");
    }
    if !plan.server_name.bytes().all(|byte| byte.is_ascii_graphic()) || plan.server_name.is_empty()
    {
        return refuse("server_name", "expected visible ASCII characters");
    }
    Ok(())
}

fn certificates<'a>(plan: &'a Plan, registry: &mut Registry) -> Result<Certificates<'a>, Refused> {
    let mut out = Certificates::new();
    for (index, certificate) in plan.certificates.iter().enumerate() {
        let path = format!("certificates[{index}]");
        let pair = registry
            .tls
            .pair(certificate)
            .map_err(|(field, message)| Refused {
                path: format!("{path}.{field}"),
                message,
            })?;
        let twice = out.insert(certificate.name.as_str(), (certificate, pair));
        if twice.is_some() {
            return refuse(format!("{path}.name"), "used twice");
        }
    }
    Ok(out)
}

fn tls(
    listener: &plan::ListenerPlan,
    path: &str,
    certificates: &Certificates<'_>,
    registry: &mut Registry,
) -> Result<Option<Arc<ServerConfig>>, Refused> {
    let Some(wanted) = &listener.tls else {
        return Ok(None);
    };
    if listener.redirect_https.is_some() {
        return refuse(
            format!("{path}.redirect_https"),
            "expected null: this listener speaks https itself",
        );
    }
    if listener.protocol == Protocol::Udp {
        return refuse(format!("{path}.tls"), "expected null: no connections");
    }
    server::compile(wanted, certificates, &mut registry.tls)
        .map(Some)
        .map_err(|(below, message)| Refused {
            path: format!("{path}.tls.{below}"),
            message,
        })
}

fn compile_route(
    route: &plan::RoutePlan,
    path: &str,
    registry: &mut Registry,
    pools: &Indices<'_>,
    filters: &mut Filters<'_>,
) -> Result<Route, Refused> {
    let number = |name: &str| pools.get(name).copied();
    let wrong = |(below, message): (String, String)| Refused {
        path: format!("{path}.{below}"),
        message,
    };
    let action = Action::compile(&route.action, number).map_err(wrong)?;
    let named = |name: &str, below: &str| {
        number(name).ok_or_else(|| wrong((below.into(), format!("no pool {name:?}"))))
    };
    let fallback = match &route.fallback {
        None => None,
        Some(name) => Some(named(name, "fallback")?),
    };
    let rewrite = match &route.rewrite {
        None => None,
        Some(rewrite) => Some(Box::new(
            Rewrite::compile(rewrite)
                .map_err(|(below, text)| wrong((format!("rewrite.{below}"), text)))?,
        )),
    };
    let mirror = match &route.mirror {
        None => None,
        Some(mirror) => Some(Box::new(Mirror {
            pool: named(&mirror.pool, "mirror.pool")?,
            share: mirror.share,
            max_in_flight: mirror.max_in_flight,
            timeout_ms: mirror.timeout_ms,
        })),
    };
    if let Some(fault) = &route.fault
        && fault.abort_status != 0
        && !(200..=599).contains(&fault.abort_status)
    {
        return refuse(format!("{path}.fault.abort_status"), "expected 200 to 599");
    }
    filters.compile(&route.filters, &format!("{path}.filters"))?;
    let (uid, name) = registry.route(&route.name);
    Ok(Route {
        uid,
        name,
        action,
        fallback,
        rewrite,
        mirror,
        fault: route.fault.map(Box::new),
        internal: route.internal,
        timeout_ms: route.timeout_ms,
        on_client_close: route.on_client_close,
        retries: plan::Retries {
            budget: route.retries.budget.map(|share| share.clamp(0.0, 1.0)),
            ..route.retries.clone()
        },
        hedge: route.hedge.map(|rules| Box::new(rules.into())),
        upgrade: route.upgrade,
    })
}

fn listener_pool(
    listener: &plan::ListenerPlan,
    path: &str,
    pools: &Indices<'_>,
) -> Result<Option<usize>, Refused> {
    match (&listener.protocol, &listener.pool) {
        (Protocol::Http, None) => Ok(None),
        (Protocol::Tcp | Protocol::Udp, Some(name)) => match pools.get(name.as_str()) {
            Some(&pool) => Ok(Some(pool)),
            None => refuse(format!("{path}.pool"), format!("no pool {name:?}")),
        },
        (Protocol::Http, Some(_)) => refuse(
            format!("{path}.pool"),
            "expected null: routes name the pools",
        ),
        (Protocol::Tcp, None) if !listener.passthrough.is_empty() => Ok(None),
        (Protocol::Tcp | Protocol::Udp, None) => {
            refuse(format!("{path}.pool"), "expected the name of a pool")
        }
    }
}

/// The addresses to bind; those for datagrams are marked, so that they are never taken for others.
fn addresses(listener: &plan::ListenerPlan) -> Vec<String> {
    let mark = match listener.protocol {
        Protocol::Udp => plan::DATAGRAMS,
        Protocol::Http | Protocol::Tcp => "",
    };
    let addresses = listener.addresses.iter();
    addresses
        .map(|address| format!("{mark}{address}"))
        .collect()
}

fn passthrough(
    listener: &plan::ListenerPlan,
    path: &str,
    pools: &Indices<'_>,
) -> Result<Option<Passthrough>, Refused> {
    if listener.passthrough.is_empty() {
        return Ok(None);
    }
    if listener.protocol != Protocol::Tcp || listener.tls.is_some() {
        return refuse(
            format!("{path}.passthrough"),
            "expected none, unless the protocol is tcp and nothing is decrypted",
        );
    }
    let mut compiled = Passthrough::default();
    for (index, rule) in listener.passthrough.iter().enumerate() {
        let path = format!("{path}.passthrough[{index}]");
        let Some(&pool) = pools.get(rule.pool.as_str()) else {
            return refuse(format!("{path}.pool"), format!("no pool {:?}", rule.pool));
        };
        for (at, name) in rule.server_names.iter().enumerate() {
            if !compiled.add(name, &rule.alpn, pool) {
                return refuse(
                    format!("{path}.server_names[{at}]"),
                    "an earlier rule takes the same clients",
                );
            }
        }
    }
    Ok(Some(compiled))
}

fn check_listeners_of_routes(plan: &Plan, names: &HashSet<&str>) -> Result<(), Refused> {
    for (index, route) in plan.routes.iter().enumerate() {
        let mut wanted = route.listeners.iter();
        if let Some(name) = wanted.find(|name| !names.contains(name.as_str())) {
            return refuse(
                format!("routes[{index}].listeners"),
                format!("no listener {name:?}"),
            );
        }
    }
    Ok(())
}

fn check_listener(listener: &plan::ListenerPlan, path: &str) -> Result<(), Refused> {
    if listener.addresses.is_empty() {
        return refuse(format!("{path}.addresses"), "expected at least one address");
    }
    if !(1..=MAX_FIELDS as u32).contains(&listener.limits.headers) {
        return refuse(
            format!("{path}.limits.headers"),
            format!("expected 1 to {MAX_FIELDS}"),
        );
    }
    if listener.limits.streams == 0 {
        return refuse(format!("{path}.limits.streams"), "expected at least 1");
    }
    if !(1024..=1024 * 1024).contains(&listener.limits.head_bytes) {
        return refuse(
            format!("{path}.limits.head_bytes"),
            "expected 1024 to 1048576",
        );
    }
    Ok(())
}

/// Those whose PROXY headers are read. No network means nobody, and not everybody.
fn proxies(proxies: &plan::ProxyProtocol) -> IpSet {
    if proxies.trusted.is_empty() {
        let everybody = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        return IpSet::new(&[], &everybody);
    }
    IpSet::new(&proxies.trusted, &[])
}

fn trusted(networks: &[IpNet]) -> Option<IpSet> {
    (!networks.is_empty()).then(|| IpSet::new(networks, &[]))
}

fn router(plan: &Plan, listener: &plan::ListenerPlan) -> Result<Router, Refused> {
    let mut router = Router::new(listener.escaped_slashes);
    if listener.protocol != Protocol::Http {
        return Ok(router);
    }
    for (index, route) in plan.routes.iter().enumerate() {
        if !route.listeners.is_empty() && !route.listeners.contains(&listener.name) {
            continue;
        }
        let at = format!("routes[{index}].match");
        match router.add(&route.matcher, index, route.internal) {
            Ok(()) => {}
            Err(RouteError::Taken(earlier)) => {
                let earlier = &plan.routes[earlier].name;
                return refuse(at, format!("the same as that of route {earlier:?}"));
            }
            Err(RouteError::Wrong(below, text)) if below.is_empty() => return refuse(at, text),
            Err(RouteError::Wrong(below, text)) => return refuse(format!("{at}.{below}"), text),
        }
    }
    if let Err(text) = router.finish() {
        return refuse("routes", text);
    }
    Ok(router)
}
