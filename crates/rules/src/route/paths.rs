//! The routes of one host by path.

use regex::bytes::RegexSet;
use rustc_hash::FxHashMap;

use crate::plan::{Match, PathMatch};
use crate::route::conditions::Conditions;
use crate::route::normal::normal_path;
use crate::route::pattern::{anchored, anchored_set};
use crate::route::query::{RouteError, RouteQuery};

/// How many routes may have the very same host and path.
pub const MAX_ALTERNATIVES: usize = 128;
/// The most segments of a prefix or template.
pub const MAX_SEGMENTS: usize = 32;

#[derive(Debug, Default)]
pub struct Paths {
    exact: FxHashMap<Box<[u8]>, Choices>,
    templates: Option<Box<Templates>>,
    prefixes: FxHashMap<Box<[u8]>, Choices>,
    /// The most segments a prefix has: longer ones need not be looked up.
    depth: usize,
    regexes: Option<Box<Regexes>>,
    any: Choices,
}

/// A route that fits by host and path.
#[derive(Debug)]
pub struct Candidate {
    /// Its number.
    pub route: usize,
    /// What else it asks for.
    pub conditions: Option<Box<Conditions>>,
    /// The leading segments that it asks for, in normal form: all of an exact path, those before the
    /// first parameter of a template; empty is any path. `None` for a regular expression.
    pub base: Option<Box<[u8]>>,
    priority: i32,
}

/// The routes of one host and path, the most specific first.
#[derive(Debug, Default)]
struct Choices(Vec<Candidate>);

/// Templates by segment, those with at least one parameter.
#[derive(Debug, Default)]
struct Templates {
    root: Node,
    /// Whether any ends in `/*`.
    open: bool,
}

#[derive(Debug, Default)]
struct Node {
    literals: FxHashMap<Box<[u8]>, Node>,
    parameter: Option<Box<Node>>,
    /// The path ends here.
    end: Choices,
    /// The path may go on.
    open: Choices,
}

#[derive(Debug, Default)]
struct Regexes {
    /// By priority and pattern.
    groups: Vec<(i32, Box<str>, Choices)>,
    set: Option<RegexSet>,
}

impl Candidate {
    /// Whether its conditions hold for a request.
    pub fn takes(&self, asked: &RouteQuery<'_>) -> bool {
        match &self.conditions {
            None => true,
            Some(conditions) => conditions.hold(asked),
        }
    }

    fn count(&self) -> usize {
        self.conditions
            .as_ref()
            .map_or(0, |conditions| conditions.count())
    }
}

impl Choices {
    fn add(&mut self, matcher: &Match, route: usize) -> Result<(), RouteError> {
        let new = Candidate {
            route,
            conditions: Conditions::compile(matcher)?,
            base: base(matcher.path.as_ref()),
            priority: matcher.priority,
        };
        let same = |old: &&Candidate| {
            old.priority == new.priority
                && match (&old.conditions, &new.conditions) {
                    (None, None) => true,
                    (Some(old), Some(new)) => old.same(new),
                    _ => false,
                }
        };
        if let Some(old) = self.0.iter().find(same) {
            return Err(RouteError::Taken(old.route));
        }
        if self.0.len() >= MAX_ALTERNATIVES {
            let text = format!("more than {MAX_ALTERNATIVES} routes have this host and path");
            return Err(RouteError::Wrong(String::new(), text));
        }
        let rank = |one: &Candidate| (one.priority, one.count());
        let at = self.0.partition_point(|old| rank(old) >= rank(&new));
        self.0.insert(at, new);
        Ok(())
    }

    fn each<'a, T>(&'a self, take: &mut impl FnMut(&'a Candidate) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(take)
    }
}

impl Paths {
    pub fn add(&mut self, matcher: &Match, route: usize) -> Result<(), RouteError> {
        let wrong = |text: &str| Err(RouteError::Wrong("path".into(), text.into()));
        let choices = match &matcher.path {
            None => &mut self.any,
            Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) if !path.starts_with('/') => {
                return wrong("expected a path that begins with /");
            }
            Some(PathMatch::Exact(path)) => {
                let path = normal_path(path.as_bytes());
                self.exact.entry(path.into()).or_default()
            }
            Some(PathMatch::Prefix(path)) => {
                let path = normal_path(path.as_bytes());
                match path.strip_suffix(b"/").unwrap_or(&path) {
                    b"" => &mut self.any,
                    prefix => {
                        let depth = memchr::memchr_iter(b'/', prefix).count();
                        if depth > MAX_SEGMENTS {
                            return wrong("expected at most 32 segments");
                        }
                        self.depth = self.depth.max(depth);
                        self.prefixes.entry(prefix.into()).or_default()
                    }
                }
            }
            Some(PathMatch::Template(segments) | PathMatch::TemplatePrefix(segments))
                if segments.len() > MAX_SEGMENTS || segments.iter().all(Option::is_some) =>
            {
                return wrong("expected at most 32 segments and a parameter among them");
            }
            Some(PathMatch::Template(segments)) => {
                &mut self.templates.get_or_insert_default().node(segments).end
            }
            Some(PathMatch::TemplatePrefix(segments)) => {
                let templates = self.templates.get_or_insert_default();
                templates.open = true;
                self.depth = self.depth.max(segments.len());
                &mut templates.node(segments).open
            }
            Some(PathMatch::Regex(pattern)) => {
                if let Err(error) = anchored(pattern) {
                    return Err(RouteError::Wrong("path".into(), error));
                }
                let regexes = self.regexes.get_or_insert_default();
                regexes.choices(matcher.priority, pattern)
            }
        };
        choices.add(matcher, route)
    }

    /// Puts the regular expressions together.
    pub fn finish(&mut self) -> Result<(), String> {
        let Some(regexes) = &mut self.regexes else {
            return Ok(());
        };
        regexes
            .groups
            .sort_by(|(first, one, _), (second, other, _)| {
                let by_length = other.len().cmp(&one.len());
                second.cmp(first).then(by_length).then(one.cmp(other))
            });
        let patterns = regexes.groups.iter().map(|(_, pattern, _)| &**pattern);
        regexes.set = Some(anchored_set(patterns)?);
        Ok(())
    }

    /// Offers the routes that take a normal path, the most specific first, until one is taken.
    pub fn each<'a, T>(
        &'a self,
        path: &[u8],
        take: &mut impl FnMut(&'a Candidate) -> Option<T>,
    ) -> Option<T> {
        if !self.exact.is_empty()
            && let Some(choices) = self.exact.get(path)
        {
            let found = choices.each(take);
            if found.is_some() {
                return found;
            }
        }
        if (self.depth > 0 || self.templates.is_some()) && path.first() == Some(&b'/') {
            let found = self.each_by_segment(path, take);
            if found.is_some() {
                return found;
            }
        }
        if let Some(regexes) = &self.regexes
            && let Some(set) = &regexes.set
        {
            for index in set.matches(path) {
                let found = regexes.groups[index].2.each(take);
                if found.is_some() {
                    return found;
                }
            }
        }
        self.any.each(take)
    }

    /// Templates, then prefixes from the longest.
    fn each_by_segment<'a, T>(
        &'a self,
        path: &[u8],
        take: &mut impl FnMut(&'a Candidate) -> Option<T>,
    ) -> Option<T> {
        // Where each segment ends; one more than a pattern may have, to see that there are more.
        let mut ends = [0; MAX_SEGMENTS + 1];
        let mut count = 0;
        for end in memchr::memchr_iter(b'/', path).chain([path.len()]).skip(1) {
            if count == ends.len() {
                break;
            }
            ends[count] = end;
            count += 1;
        }
        let path = Segments {
            path,
            ends: &ends[..count],
        };
        if let Some(templates) = &self.templates
            && count <= MAX_SEGMENTS
        {
            let found = templates.root.each(&path, 0, count, |node| &node.end, take);
            if found.is_some() {
                return found;
            }
        }
        let open = self.templates.as_ref().filter(|templates| templates.open);
        for depth in (1..=count.min(self.depth)).rev() {
            if let Some(choices) = self.prefixes.get(&path.path[..path.ends[depth - 1]]) {
                let found = choices.each(take);
                if found.is_some() {
                    return found;
                }
            }
            if let Some(templates) = open {
                let found = templates
                    .root
                    .each(&path, 0, depth, |node| &node.open, take);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// A path and where its segments end.
struct Segments<'a> {
    path: &'a [u8],
    ends: &'a [usize],
}

impl Segments<'_> {
    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.path[start + 1..self.ends[index]]
    }
}

/// The leading segments that a path of a route asks for, as they are compared.
fn base(path: Option<&PathMatch>) -> Option<Box<[u8]>> {
    let base = match path {
        None => Vec::new(),
        Some(PathMatch::Exact(path)) => normal_path(path.as_bytes()).into_owned(),
        Some(PathMatch::Prefix(path)) => {
            let path = normal_path(path.as_bytes());
            path.strip_suffix(b"/").unwrap_or(&path).to_vec()
        }
        Some(PathMatch::Template(segments) | PathMatch::TemplatePrefix(segments)) => segments
            .iter()
            .map_while(Option::as_deref)
            .flat_map(|text| normal_path(format!("/{text}").as_bytes()).into_owned())
            .collect(),
        Some(PathMatch::Regex(_)) => return None,
    };
    Some(base.into())
}

impl Templates {
    fn node(&mut self, segments: &[Option<String>]) -> &mut Node {
        let mut node = &mut self.root;
        for segment in segments {
            node = match segment {
                None => node.parameter.get_or_insert_default(),
                Some(text) => {
                    // As a path of its own, so that it is spelt as paths are.
                    let path = normal_path(format!("/{text}").as_bytes()).into_owned();
                    node.literals.entry(path[1..].into()).or_default()
                }
            };
        }
        node
    }
}

impl Node {
    /// Offers what the nodes `depth` segments down hold, those by literal segments first.
    fn each<'a, T>(
        &'a self,
        path: &Segments<'_>,
        at: usize,
        depth: usize,
        of: fn(&Node) -> &Choices,
        take: &mut impl FnMut(&'a Candidate) -> Option<T>,
    ) -> Option<T> {
        if at == depth {
            return of(self).each(take);
        }
        let segment = path.get(at);
        if let Some(node) = self.literals.get(segment) {
            let found = node.each(path, at + 1, depth, of, take);
            if found.is_some() {
                return found;
            }
        }
        let node = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
        node.each(path, at + 1, depth, of, take)
    }
}

impl Regexes {
    fn choices(&mut self, priority: i32, pattern: &str) -> &mut Choices {
        let known = self
            .groups
            .iter()
            .position(|(its, one, _)| *its == priority && **one == *pattern);
        let at = known.unwrap_or_else(|| {
            let group = (priority, pattern.into(), Choices::default());
            self.groups.push(group);
            self.groups.len() - 1
        });
        &mut self.groups[at].2
    }
}
