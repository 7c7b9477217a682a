//! Plans: any document is compiled or refused with a reason.

use evenflow_rules::compile;

use super::{Target, rule};

const SEED: &[u8] = br#"{"version":1,"revision":1,"access_log":null,"server_name":"evenflow","buffer_bytes":1073741824,"listeners":[],"filters":[{"name":"f","steps":[{"body_limit":{"bytes":1}},{"request_headers":{"remove":["a"],"set":[["b","c"]],"add":[],"default":[]}}]}],"routes":[{"name":"r","listeners":[],"match":{"host":"a","path":{"prefix":"/a"},"priority":0,"methods":["GET"],"headers":[["x",{"exact":"1"}]],"query":[["q",{"regex":"[a-z]+"}]],"cookies":[["c",{"present":true}]],"client":["10.0.0.0/8"]},"filters":["f"],"action":{"split":{"key":{"cookie":"c"},"issue_s":60,"arms":[{"pool":"p","weight":1,"when":null}]}},"fallback":"p","rewrite":{"pattern":"/a/(.*)","path":[{"text":"/b/"},{"capture":1}],"host":"h"},"mirror":{"pool":"p","share":0.5,"max_in_flight":1,"timeout_ms":1},"fault":{"delay_ms":1,"delay_share":0.1,"abort_status":503,"abort_share":0.1},"internal":false,"timeout_ms":0,"retries":{"max":3,"delay_ms":0,"per_try_timeout_ms":0,"statuses":[502],"on_timeout":false},"hedge":{"after_ms":50,"max":1,"budget":0.1},"upgrade":{"idle_ms":1,"max_ms":0,"drain_ms":1}}],"pools":[{"name":"p","picker":{"cycle":{"table":[0]}},"endpoints":[{"id":"e","target":"a:1","addresses":["127.0.0.1:1"],"token":"a1","weight":1,"max_connections":0,"up":true,"drain":false,"connect_timeout_ms":1,"first_byte_timeout_ms":1,"idle_timeout_ms":1}],"use_all":false,"queue":{"max":1,"timeout_ms":1},"outlier":null,"breaker":{"endpoints":true,"whole":true,"consecutive_errors":5,"slow_ms":100},"sticky":{"cookie":"lb","max_age_s":60},"connections":{"max_idle":1,"idle_ms":1,"tcp_keepalive_ms":1,"ping_ms":1,"ping_timeout_ms":1},"retry_budget":0.2,"retry_floor":10}]}"#;

/// The document that Python sends.
pub const PLAN: Target = Target {
    name: "plan",
    seeds: &[SEED],
    words: &[
        b"null",
        b"true",
        b"-1",
        b"0",
        b"1e99",
        b"18446744073709551616",
        b"\"\"",
        b"[]",
        b"{}",
        b",",
        b":",
        b"\"cycle\"",
        b"\"hash\"",
        b"\"least\"",
        b"\"table\":[0,1,2]",
        b"\"version\":2",
        b"\\u0000",
        b"\\r\\n",
    ],
    check,
};

fn check(input: &[u8]) -> Result<(), String> {
    match compile::check(input) {
        Ok(_) => Ok(()),
        Err(error) => rule(
            !error.message.is_empty(),
            "a plan is refused without a word",
        ),
    }
}
