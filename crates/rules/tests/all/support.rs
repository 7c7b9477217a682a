//! Plans to begin with. Tests change the one thing they are about.

use serde_json::{Value, json};

/// A plan with one HTTP listener on a free port, one route and these pools; the route takes the
/// first.
pub fn plan(pools: &[Value]) -> Value {
    json!({
        "version": 1,
        "revision": 1,
        "access_log": null,
        "server_name": "evenflow",
        "buffer_bytes": 1_u64 << 40,
        "certificates": [],
        "listeners": [listener("web", "127.0.0.1:0")],
        "filters": [],
        "routes": [route("default", pools.first().map_or("default", name))],
        "pools": pools,
    })
}

fn name(pool: &Value) -> &str {
    pool["name"].as_str().unwrap()
}

/// An HTTP listener.
pub fn listener(name: &str, address: &str) -> Value {
    json!({
        "name": name,
        "addresses": [address],
        "protocol": "http",
        "http2": true,
        "filters": [],
        "pool": null,
        "limits": {
            "head_bytes": 32768, "headers": 100, "streams": 128, "target_bytes": 8192,
            "body_bytes": 0,
            "connections": 0,
            "client_connections": 0,
        },
        "timeouts": {
            "head_ms": 10000, "body_ms": 10000, "write_ms": 10000, "idle_ms": 60000,
            "drain_ms": 30000, "min_body_rate": 0,
        },
        "trusted_proxies": [],
        "forwarded": false,
        "escaped_slashes": "auto",
        "trace": false,
        "tls": null,
        "redirect_https": null,
        "passthrough": [], "answers": 0, "retries": {"max": 3, "delay_ms": 0},
        "proxy_protocol": null,
    })
}

/// A route that takes everything.
pub fn route(name: &str, pool: &str) -> Value {
    json!({
        "name": name,
        "listeners": [],
        "match": {
            "host": null, "path": null, "priority": 0, "methods": [], "headers": [], "query": [],
            "cookies": [], "client": [],
        },
        "filters": [],
        "action": {"pool": pool},
        "fallback": null,
        "rewrite": null,
        "mirror": null,
        "fault": null,
        "internal": false,
        "timeout_ms": 0,
        "on_client_close": "abort",
        "retries": {
            "max": 0, "delay_ms": 0, "per_try_timeout_ms": 0, "statuses": [], "on_timeout": false,
            "budget": null,
        },
        "hedge": null,
        "upgrade": null,
    })
}

/// A pool whose members take turns.
pub fn pool(name: &str, endpoints: &[Value]) -> Value {
    let table: Vec<usize> = (0..endpoints.len()).collect();
    json!({
        "name": name,
        "picker": {"cycle": {"table": table}},
        "endpoints": endpoints,
        "use_all": false,
        "queue": {"max": 0, "timeout_ms": 1000},
        "outlier": null,
        "breaker": null,
        "sticky": null,
        "connections": {"max_idle": null, "idle_ms": 60000, "tcp_keepalive_ms": 0,
            "ping_ms": 0, "ping_timeout_ms": 1000},
        "retry_budget": 0.0,
        "retry_floor": 10,
        "tls": null,
        "send_proxy": null,
    })
}

/// An endpoint that is up.
pub fn endpoint(id: &str, address: &str) -> Value {
    json!({
        "id": id,
        "target": address,
        "addresses": [address],
        "token": "",
        "weight": 100,
        "max_connections": 0,
        "up": true,
        "drain": false,
        "connect_timeout_ms": 5000,
        "first_byte_timeout_ms": 10000,
        "idle_timeout_ms": 10000,
        "tls_name": null,
        "http": "h1",
    })
}
