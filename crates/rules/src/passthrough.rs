//! Where encrypted connections go that are not decrypted here: by what their client hello asks for.

use std::collections::HashMap;

use evenflow_wire::client_hello::ClientHello;

/// Compiled rules. An exact name wins over a wildcard, a longer wildcard over a shorter one, any
/// name of these over none; among rules for one name, one that names the protocol wins.
#[derive(Debug, Default)]
pub struct Passthrough {
    exact: HashMap<String, Vec<Rule>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<String, Vec<Rule>>,
    any: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Empty takes any.
    alpn: Vec<Vec<u8>>,
    pool: usize,
}

impl Passthrough {
    /// Adds a rule for a name: `a.example`, `*.example`, or `*`, which also takes clients that name
    /// none. `false`: an earlier rule takes the same.
    pub fn add(&mut self, name: &str, alpn: &[String], pool: usize) -> bool {
        let rules = match name.strip_prefix('*') {
            Some("") => &mut self.any,
            Some(suffix) => {
                let suffix = suffix.trim_start_matches('.');
                self.wildcard.entry(suffix.to_owned()).or_default()
            }
            None => self.exact.entry(name.to_owned()).or_default(),
        };
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let same = |rule: &Rule| {
            rule.alpn.is_empty() && alpn.is_empty()
                || rule.alpn.iter().any(|name| alpn.contains(name))
        };
        if rules.iter().any(same) {
            return false;
        }
        // Those that name protocols come first.
        let at = if alpn.is_empty() { rules.len() } else { 0 };
        rules.insert(at, Rule { alpn, pool });
        true
    }

    /// The pool for a client; `None` where no rule takes it.
    pub fn pool(&self, hello: &ClientHello) -> Option<usize> {
        let choose = |rules: &[Rule]| {
            let fits = |rule: &&Rule| {
                rule.alpn.is_empty() || rule.alpn.iter().any(|name| hello.alpn.contains(name))
            };
            rules.iter().find(fits).map(|rule| rule.pool)
        };
        if let Some(name) = hello.server_name.as_deref() {
            if let Some(pool) = self.exact.get(name).and_then(|rules| choose(rules)) {
                return Some(pool);
            }
            let mut rest = name;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(pool) = self.wildcard.get(suffix).and_then(|rules| choose(rules)) {
                    return Some(pool);
                }
                rest = suffix;
            }
        }
        choose(&self.any)
    }
}
